"""Keeps who watches what, and says who must be told when something happened.

Pure data. A watcher is any hashable value (the server uses its connections). One-shot watches come in two kinds:
*data* (the znode appears, changes, goes) and *children* (its list of children changes, or it goes). Persistent watches
see both kinds and stay; recursive ones also see all that happens to znodes below, but no changed lists of children.

Nobody is told twice of one event, nor of what happens to a znode he may not read. Notices come in the order of the
events, and for one event in the order in which the watches were set, so that a replay is exact.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from .records import Acls, Code, Event, EventKind, Happening, Refused, WatchKind
from .tree import parent_of

WATCH_BYTES_MAX = 16 << 20
"""What the watches of one watcher may take, each counted as its path and WATCH_BYTES."""
WATCH_BYTES = 200

W = TypeVar("W", bound=Hashable)


DATA, CHILDREN = 0, 1
ONCE, ALWAYS, RECURSIVE = 0, 2, 4
"""The form of a watch is the sum of what it watches and how. A watch that stays is two of them, one for the data and
one for the children, which can be taken back one by one."""

_FORMS = {
    WatchKind.DATA: (DATA + ONCE, DATA + ALWAYS, DATA + RECURSIVE),
    WatchKind.CHILDREN: (CHILDREN + ONCE, CHILDREN + ALWAYS, CHILDREN + RECURSIVE),
    WatchKind.ANY: tuple(range(6)),
}


class WatchTable(Generic[W]):
    def __init__(self, *, watch_bytes_max: int = WATCH_BYTES_MAX) -> None:
        self._paths: dict[str, tuple[dict[W, None], ...]] = {}  # by form; dictionaries for their order
        self._by_watcher: dict[W, dict[str, None]] = {}
        self._bytes: dict[W, int] = {}
        self._recursive = 0  # how many recursive watches there are, since walking up every path costs
        self._watch_bytes_max = watch_bytes_max

    def watch_data(self, path: str, watcher: W) -> None:
        self._add(path, watcher, DATA + ONCE)

    def watch_children(self, path: str, watcher: W) -> None:
        self._add(path, watcher, CHILDREN + ONCE)

    def watch_always(self, path: str, watcher: W, *, recursive: bool) -> None:
        """Set a persistent watch. The last one set on a path decides whether it is recursive."""
        new, old = (RECURSIVE, ALWAYS) if recursive else (ALWAYS, RECURSIVE)
        self._add(path, watcher, DATA + new)
        self._add(path, watcher, CHILDREN + new)
        self._drop(path, watcher, (DATA + old, CHILDREN + old))

    def _add(self, path: str, watcher: W, form: int) -> None:
        watched = self._paths.get(path)
        if watched is not None and watcher in watched[form]:
            return
        mine = self._by_watcher.get(watcher, {})
        if path not in mine:
            bytes_now = self._bytes.get(watcher, 0) + len(path) + WATCH_BYTES
            if bytes_now > self._watch_bytes_max:
                raise Refused(Code.QUOTA_EXCEEDED, f"the watches of one client may take {self._watch_bytes_max} bytes")
            self._bytes[watcher] = bytes_now
            self._by_watcher[watcher] = mine
            mine[path] = None
        if watched is None:
            watched = self._paths[path] = ({}, {}, {}, {}, {}, {})
        watched[form][watcher] = None
        self._recursive += form >= RECURSIVE

    def _drop(self, path: str, watcher: W, forms: tuple[int, ...]) -> bool:
        """Take watches back; True if there was one."""
        watched = self._paths.get(path)
        if watched is None:
            return False
        dropped = False
        for form in forms:
            if watcher in watched[form]:
                del watched[form][watcher]
                self._recursive -= form >= RECURSIVE
                dropped = True
        if dropped and not any(watcher in watchers for watchers in watched):
            mine = self._by_watcher[watcher]
            del mine[path]
            self._bytes[watcher] -= len(path) + WATCH_BYTES
            if not mine:
                del self._by_watcher[watcher]
                del self._bytes[watcher]
            if not any(watched):
                del self._paths[path]
        return dropped

    def remove(self, path: str, watcher: W, kind: WatchKind) -> None:
        """Take watches back, persistent ones as well. Raises Refused(NO_WATCHER) when there was none."""
        if not self._drop(path, watcher, _FORMS[kind]):
            raise Refused(Code.NO_WATCHER, path)

    def has(self, path: str, watcher: W, kind: WatchKind) -> bool:
        watched = self._paths.get(path)
        return watched is not None and any(watcher in watched[form] for form in _FORMS[kind])

    def forget(self, watcher: W) -> None:
        """The watcher is gone."""
        for path in list(self._by_watcher.get(watcher, ())):
            self._drop(path, watcher, _FORMS[WatchKind.ANY])

    def fire(
        self, happenings: Iterable[Happening], may_read: Callable[[W, Acls], bool] = lambda _, acls: True
    ) -> list[tuple[W, Event]]:
        """Who must be told what, in order. One-shot watches are used up, also those of watchers that may not read."""
        notices: list[tuple[W, Event]] = []
        for kind, path, acls, parent_acls in happenings:
            told: dict[W, None] = {}
            self._fire(path, DATA, told)
            self._fire_recursive(path, DATA, told)
            if kind is EventKind.DELETED:
                self._fire(path, CHILDREN, told)
                self._fire_recursive(path, CHILDREN, told)
            notices += [(watcher, Event(kind, path)) for watcher in told if may_read(watcher, acls)]
            if kind is not EventKind.CHANGED:
                told = {}
                parent = parent_of(path)
                self._fire(parent, CHILDREN, told)
                event = Event(EventKind.CHILDREN, parent)
                notices += [(watcher, event) for watcher in told if may_read(watcher, parent_acls)]
        return notices

    def _fire(self, path: str, what: int, told: dict[W, None]) -> None:
        """Add those who watch this path itself, and drop the watches that were for once."""
        watched = self._paths.get(path)
        if watched is not None:
            once = list(watched[what + ONCE])
            told.update(dict.fromkeys(once))
            told.update(watched[what + ALWAYS])
            for watcher in once:
                self._drop(path, watcher, (what + ONCE,))

    def _fire_recursive(self, path: str, what: int, told: dict[W, None]) -> None:
        """Add those who watch this path or one above it with all that is below."""
        while self._recursive:
            if path in self._paths:
                told.update(self._paths[path][what + RECURSIVE])
            if path == "/":
                break
            path = parent_of(path)

    @property
    def watchers(self) -> int:
        return len(self._by_watcher)

    @property
    def paths(self) -> int:
        return len(self._paths)

    @property
    def watches(self) -> int:
        return sum(len(watchers) for watched in self._paths.values() for watchers in watched)
