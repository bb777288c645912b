"""Watches as data: who is told what, how often, and in which order."""

import pytest
from ringkeeper.runtime.zookeeper.records import (
    OPEN_TO_ALL,
    Code,
    Event,
    EventKind,
    Happening,
    Refused,
    WatchKind,
)
from ringkeeper.runtime.zookeeper.watching import WatchTable

CREATED, DELETED, CHANGED, CHILDREN = EventKind


def fire(watches: WatchTable[str], *happenings: tuple[EventKind, str]) -> list[tuple[str, Event]]:
    return watches.fire([Happening(kind, path, OPEN_TO_ALL, OPEN_TO_ALL) for kind, path in happenings])


def test_a_one_shot_watch_is_told_once() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_data("/a", "ann")
    assert fire(watches, (CHANGED, "/a"), (CHANGED, "/a")) == [("ann", Event(CHANGED, "/a"))]
    assert watches.watches == watches.paths == watches.watchers == 0


def test_each_kind_of_watch_hears_what_concerns_it() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_data("/a", "data")
    watches.watch_children("/a", "children")
    assert fire(watches, (CREATED, "/a/x")) == [("children", Event(CHILDREN, "/a"))]
    watches.watch_children("/a", "children")
    assert fire(watches, (CHANGED, "/a")) == [("data", Event(CHANGED, "/a"))]
    assert fire(watches, (CHANGED, "/a/x")) == []
    assert fire(watches, (DELETED, "/a")) == [("children", Event(DELETED, "/a"))]


def test_a_deletion_is_told_once_to_who_watches_both_and_before_the_parent() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_children("/", "ann")
    watches.watch_data("/a", "ann")
    watches.watch_children("/a", "ann")
    assert fire(watches, (DELETED, "/a")) == [("ann", Event(DELETED, "/a")), ("ann", Event(CHILDREN, "/"))]


def test_watchers_are_told_in_the_order_in_which_they_watched() -> None:
    watches: WatchTable[str] = WatchTable()
    for watcher in ("carl", "ann", "bob"):
        watches.watch_data("/a", watcher)
    assert [watcher for watcher, _ in fire(watches, (CHANGED, "/a"))] == ["carl", "ann", "bob"]


def test_a_persistent_watch_hears_both_kinds_and_stays() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_always("/a", "ann", recursive=False)
    for _ in range(2):
        assert fire(watches, (CREATED, "/a"), (CREATED, "/a/x"), (CHANGED, "/a/x"), (DELETED, "/a")) == [
            ("ann", Event(CREATED, "/a")),
            ("ann", Event(CHILDREN, "/a")),
            ("ann", Event(DELETED, "/a")),
        ]


def test_a_recursive_watch_hears_everything_below_but_no_lists_of_children() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_always("/a", "ann", recursive=True)
    told = fire(watches, (CREATED, "/a"), (CREATED, "/a/x"), (CHANGED, "/a/x/y"), (DELETED, "/ab"), (CREATED, "/"))
    assert told == [
        ("ann", Event(CREATED, "/a")),
        ("ann", Event(CREATED, "/a/x")),
        ("ann", Event(CHANGED, "/a/x/y")),
    ]


def test_one_event_is_told_once_to_who_watches_in_several_ways() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_data("/a", "ann")
    watches.watch_always("/a", "ann", recursive=False)
    watches.watch_always("/", "ann", recursive=True)
    assert fire(watches, (CHANGED, "/a")) == [("ann", Event(CHANGED, "/a"))]
    assert watches.has("/a", "ann", WatchKind.DATA)


def test_who_may_not_read_a_znode_is_not_told_of_it() -> None:
    watches: WatchTable[str] = WatchTable()
    for watcher in ("ann", "bob"):
        watches.watch_data("/secret", watcher)
    happening = Happening(CHANGED, "/secret", OPEN_TO_ALL, OPEN_TO_ALL)
    told = watches.fire([happening], lambda watcher, acls: watcher == "ann")
    assert [watcher for watcher, _ in told] == ["ann"]


def test_watches_can_be_taken_back_by_kind() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_data("/a", "ann")
    watches.watch_children("/a", "ann")
    watches.remove("/a", "ann", WatchKind.CHILDREN)
    assert not watches.has("/a", "ann", WatchKind.CHILDREN)
    assert watches.has("/a", "ann", WatchKind.DATA)
    with pytest.raises(Refused) as refused:
        watches.remove("/a", "ann", WatchKind.CHILDREN)
    assert refused.value.code is Code.NO_WATCHER


def test_half_of_a_persistent_watch_can_be_taken_back() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_always("/a", "ann", recursive=False)
    watches.watch_always("/b", "ann", recursive=True)
    for path in ("/a", "/b"):
        watches.remove(path, "ann", WatchKind.DATA)
    told = fire(watches, (CHANGED, "/a"), (CREATED, "/a/x"), (CHANGED, "/b/x"), (DELETED, "/b/x"))
    assert told == [("ann", Event(CHILDREN, "/a")), ("ann", Event(DELETED, "/b/x"))]


def test_a_watcher_that_is_gone_leaves_nothing() -> None:
    watches: WatchTable[str] = WatchTable()
    watches.watch_data("/a", "ann")
    watches.watch_children("/a", "ann")
    watches.watch_always("/b", "ann", recursive=True)
    watches.watch_data("/a", "bob")
    watches.forget("ann")
    assert fire(watches, (DELETED, "/a"), (CHANGED, "/b/c")) == [("bob", Event(DELETED, "/a"))]
    assert watches.watches == watches.paths == watches.watchers == 0


def test_the_watches_of_one_watcher_are_bounded() -> None:
    watches: WatchTable[str] = WatchTable(watch_bytes_max=1000)
    with pytest.raises(Refused) as refused:
        for number in range(1000):
            watches.watch_data(f"/{number}", "ann")
    assert refused.value.code is Code.QUOTA_EXCEEDED
    assert watches.paths < 6
    watches.watch_data("/of-bob", "bob")
    watches.forget("ann")
    watches.watch_data("/1", "ann")
