"""The wire: what clients encode is what is decoded, and rubbish is refused before it costs anything."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kazoo.protocol import serialization as kazoo  # type: ignore[import-untyped]
from kazoo.security import ACL, Id  # type: ignore[import-untyped]
from ringkeeper.runtime.zookeeper import jute
from ringkeeper.runtime.zookeeper.records import (
    Acl,
    AddAuth,
    Check,
    CloseSession,
    Code,
    Connect,
    Create,
    DataAndStat,
    Delete,
    Event,
    EventKind,
    Exists,
    GetAcl,
    GetChildren,
    GetData,
    Multi,
    NamesAndStat,
    PathAndStat,
    Refused,
    Request,
    Results,
    SetAcl,
    SetData,
    Stat,
    Status,
    Sync,
    Unimplemented,
)

INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
DATA = st.none() | st.binary(max_size=50)
ENTRIES = st.lists(st.tuples(INTS, TEXTS, TEXTS), max_size=3)
STATS = st.builds(Stat, LONGS, LONGS, LONGS, LONGS, INTS, INTS, INTS, LONGS, INTS, INTS, LONGS)


def decode(opcode: int, body: bytes) -> Request:
    return jute.decode_request(opcode, jute.Reader(bytes(body)))


def theirs(entries: list[tuple[int, str, str]]) -> list[ACL]:
    return [ACL(permissions, Id(scheme, id)) for permissions, scheme, id in entries]


def ours(entries: list[tuple[int, str, str]]) -> tuple[Acl, ...]:
    return tuple(Acl(*entry) for entry in entries)


@settings(deadline=None)
@given(path=TEXTS, data=DATA, entries=ENTRIES, number=INTS, watch=st.booleans())
def test_what_kazoo_encodes_is_what_is_decoded(
    path: str, data: bytes | None, entries: list[tuple[int, str, str]], number: int, watch: bool
) -> None:
    acls = theirs(entries)
    pairs = [
        (kazoo.Create(path, data, acls, number), Create(path, data, ours(entries), number)),
        (kazoo.Create2(path, data, acls, number), Create(path, data, ours(entries), number, with_stat=True)),
        (kazoo.Delete(path, number), Delete(path, number)),
        (kazoo.Exists(path, watch), Exists(path, watch)),
        (kazoo.GetData(path, watch), GetData(path, watch)),
        (kazoo.SetData(path, data, number), SetData(path, data, number)),
        (kazoo.GetACL(path), GetAcl(path)),
        (kazoo.SetACL(path, acls, number), SetAcl(path, ours(entries), number)),
        (kazoo.GetChildren(path, watch), GetChildren(path, watch)),
        (kazoo.GetChildren2(path, watch), GetChildren(path, watch, with_stat=True)),
        (kazoo.Sync(path), Sync(path)),
        (kazoo.CheckVersion(path, number), Check(path, number)),
        (kazoo.Auth(0, path, "ann:1"), AddAuth(path, b"ann:1")),
        (kazoo.Close(), CloseSession()),
        (
            kazoo.Transaction([kazoo.Delete(path, number), kazoo.SetData(path, data, number)]),
            Multi((Delete(path, number), SetData(path, data, number))),
        ),
    ]
    for request, expected in pairs:
        assert decode(request.type, request.serialize()) == expected


@settings(deadline=None)
@given(path=TEXTS, data=DATA, stat=STATS, names=st.lists(TEXTS, max_size=4))
def test_what_is_encoded_is_what_kazoo_decodes(path: str, data: bytes | None, stat: Stat, names: list[str]) -> None:
    assert kazoo.GetData.deserialize(jute.encode_result(DataAndStat(data, stat)), 0) == (data, stat)
    assert kazoo.Create2.deserialize(jute.encode_result(PathAndStat(path, stat)), 0) == (path, stat)
    assert kazoo.GetChildren2.deserialize(jute.encode_result(NamesAndStat(tuple(names), stat)), 0) == (names, stat)
    event = jute.encode_event(Event(EventKind.DELETED, path))
    assert kazoo.ReplyHeader.deserialize(event, 4)[0] == (-1, -1, 0)
    assert kazoo.Watch.deserialize(event, 20)[0] == (2, 3, path)


def test_a_failed_transaction_is_what_kazoo_reads_as_one() -> None:
    operations = (Delete("/a"), Delete("/b"), Delete("/c"))
    codes = (Code.OK, Code.NO_NODE, Code.RUNTIME_INCONSISTENCY)
    results = Results(tuple(zip(operations, map(Status, codes), strict=True)))
    decoded = kazoo.Transaction.deserialize(jute.encode_result(results), 0)
    assert [type(part).__name__ for part in decoded] == ["RolledBackError", "NoNodeError", "RuntimeInconsistency"]


@given(protocol=INTS, zxid=LONGS, timeout=INTS, session=LONGS, password=st.binary(max_size=20), read_only=st.booleans())
def test_the_handshake_is_kazoos(
    protocol: int, zxid: int, timeout: int, session: int, password: bytes, read_only: bool
) -> None:
    body = bytes(kazoo.Connect(protocol, zxid, timeout, session, password, read_only).serialize())
    assert jute.decode_connect(body) == Connect(protocol, zxid, timeout, session, password, read_only)
    assert jute.decode_connect(body[:-1]) == Connect(protocol, zxid, timeout, session, password, None)
    answer = jute.encode_connected(4000, 77, b"p" * 16, with_read_only=True)
    assert kazoo.Connect.deserialize(answer, 4)[0] == (0, 0, 4000, 77, b"p" * 16, False)


@settings(max_examples=500, deadline=None)
@given(opcode=st.sampled_from([*range(-12, 30), *range(99, 110)]), body=st.binary(max_size=200))
def test_rubbish_is_a_request_or_malformed(opcode: int, body: bytes) -> None:
    try:
        request = decode(opcode, body)
    except jute.Malformed as malformed:
        assert "byte" in str(malformed) or "operation" in str(malformed)
    else:
        assert isinstance(request, tuple)
    try:
        jute.decode_connect(body)
        jute.decode_header(body)
    except jute.Malformed:
        pass


@settings(deadline=None)
@given(st.data(), ENTRIES)
def test_a_request_that_is_cut_short_is_malformed(data: st.DataObject, entries: list[tuple[int, str, str]]) -> None:
    whole = bytes(kazoo.Create("/path", b"data", theirs(entries), 3).serialize())
    with pytest.raises(jute.Malformed):
        decode(1, whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("length", [b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff\xff\xff\xfe", b"\x00\x10\x00\x00"])
def test_a_length_that_lies_costs_no_memory(length: bytes) -> None:
    tracemalloc.start()
    try:
        for opcode, body in [
            (4, length),
            (5, b"\0\0\0\1/" + length),
            (1, b"\0\0\0\1/" + b"\0\0\0\0" + length),
            (101, b"\0" * 8 + length),
            (105, b"\0" * 8 + length),
        ]:
            try:
                decode(opcode, body)
            except jute.Malformed:
                pass
            else:  # a negative count is an empty list; there is nothing after it
                assert opcode in (101, 105)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_operations_that_are_not_served_are_told_apart_from_rubbish() -> None:
    assert decode(21, b"") == Unimplemented(21)
    assert decode(16, b"") == Unimplemented(16, Code.RECONFIG_DISABLED)
    assert decode(999, b"") == Unimplemented(999)


def test_a_transaction_takes_only_what_can_be_part_of_one() -> None:
    with pytest.raises(jute.Malformed, match="operation 4 cannot be part"):
        decode(14, b"\0\0\0\4\0\xff\xff\xff\xff")
    with pytest.raises(jute.Malformed):
        decode(22, b"\0\0\0\1\0\xff\xff\xff\xff")


def test_refusals_say_what_they_refuse() -> None:
    assert Refused(Code.NO_NODE).code is Code.NO_NODE
    assert str(Refused(Code.NO_NODE)) == "no_node"
