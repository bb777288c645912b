"""Turns frames of ZooKeeper's wire into requests, and results into frames.

Jute is ZooKeeper's own encoding: big-endian integers, strings and buffers behind a 32-bit length (-1: null), vectors
behind a count, records as their fields one after the other. A frame is a 32-bit length and that many bytes.

No length is trusted: each is held against what is left of the frame before anything is made, and a list ends with the
frame, whatever its count says. Whatever does not decode raises Malformed. Bytes after the
last known field are ignored, as newer clients may send more.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import assert_never

from .records import (
    Acl,
    Acls,
    AclsAndStat,
    AddAuth,
    AddWatch,
    Check,
    CheckWatches,
    CloseSession,
    Code,
    Connect,
    Count,
    CountDescendants,
    Create,
    DataAndStat,
    Delete,
    Event,
    Exists,
    GetAcl,
    GetChildren,
    GetData,
    GetEphemerals,
    Identities,
    JustStat,
    Mode,
    Multi,
    MultiRead,
    Names,
    NamesAndStat,
    Nothing,
    Operation,
    Path,
    PathAndStat,
    Ping,
    RemoveWatches,
    Request,
    Result,
    Results,
    SetAcl,
    SetData,
    SetWatches,
    Stat,
    Status,
    Sync,
    Unimplemented,
    WhoAmI,
)

FRAME_BYTES_MAX = 1 << 20
"""What a client may send in one frame: jute.maxbuffer, as ZooKeeper has it by default (it stops one byte earlier)."""

PASSWORD_BYTES = 16

NOTIFICATION_XID = -1
PING_XID = -2
AUTH_XID = -4

INT = Struct(">i")
LONG = Struct(">q")
HEADER = Struct(">iqi")
FRAMED_HEADER = Struct(">iiqi")
CONNECTED = Struct(">iiqi")
OPERATION_HEADER = Struct(">i?i")
STAT = Struct(">qqqqiiiqiiq")


class Malformed(Exception):
    """Bytes that are not what they should be. The message says where decoding gave up."""


class Reader:
    """Reads fields off a frame, one after the other. Every method raises Malformed when the frame does not hold one."""

    __slots__ = ("_bytes", "_at")

    def __init__(self, frame: bytes) -> None:
        self._bytes = frame
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._bytes) - self._at

    def _take(self, count: int, what: str) -> int:
        at = self._at
        if count > len(self._bytes) - at:
            raise Malformed(f"{what} of {count} bytes at byte {at}, where the frame has {self.left} left")
        self._at = at + count
        return at

    def integer(self) -> int:
        return int(INT.unpack_from(self._bytes, self._take(4, "an int"))[0])

    def long(self) -> int:
        return int(LONG.unpack_from(self._bytes, self._take(8, "a long"))[0])

    def boolean(self) -> bool:
        return self._bytes[self._take(1, "a boolean")] != 0

    def buffer(self) -> bytes | None:
        length = self.integer()
        if length == -1:
            return None
        if length < 0:
            raise Malformed(f"a length of {length} at byte {self._at - 4}")
        at = self._take(length, "a buffer")
        return self._bytes[at : at + length]

    def string(self) -> str:
        """A null string reads as the empty one: nothing in the protocol tells them apart."""
        try:
            return (self.buffer() or b"").decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"a string before byte {self._at} is not UTF-8: {error}") from None

    def strings(self) -> tuple[str, ...]:
        return tuple(self.string() for _ in range(self.integer()))

    def acls(self) -> Acls:
        return tuple(Acl(self.integer(), self.string(), self.string()) for _ in range(self.integer()))


# Requests.


def decode_connect(frame: bytes) -> Connect:
    reader = Reader(frame)
    return Connect(
        protocol=reader.integer(),
        last_zxid_seen=reader.long(),
        timeout_ms=reader.integer(),
        session=reader.long(),
        password=reader.buffer() or b"",
        read_only=reader.boolean() if reader.left else None,
    )


def decode_header(frame: bytes) -> tuple[int, int, Reader]:
    """The xid a client gave its request, the operation's number, and a reader for the rest."""
    reader = Reader(frame)
    return reader.integer(), reader.integer(), reader


def decode_request(opcode: int, reader: Reader) -> Request:
    decode = _DECODERS.get(opcode)
    return decode(reader) if decode is not None else Unimplemented(opcode)


def _create(reader: Reader) -> Create:
    return Create(reader.string(), reader.buffer(), reader.acls(), reader.integer())


def _create2(reader: Reader) -> Create:
    return _create(reader)._replace(with_stat=True)


def _create_container(reader: Reader) -> Create:
    return _create2(reader)._replace(flags=int(Mode.CONTAINER))


def _multi(reader: Reader) -> Multi:
    operations: list[Operation] = []
    for opcode in _operation_headers(reader):
        decode = _OPERATIONS.get(opcode)
        if decode is None:
            raise Malformed(f"operation {opcode} cannot be part of a transaction")
        operation = decode(reader)
        if isinstance(operation, Create):
            # Real servers answer within a transaction as if create2 were create, but with the stat for a container.
            operation = operation._replace(with_stat=operation.flags == Mode.CONTAINER)
        operations.append(operation)
    return Multi(tuple(operations))


def _multi_read(reader: Reader) -> MultiRead:
    reads: list[GetData | GetChildren] = []
    for opcode in _operation_headers(reader):
        if opcode == 4:
            reads.append(GetData(reader.string(), reader.boolean())._replace(watch=False))
        elif opcode == 8:
            reads.append(GetChildren(reader.string(), reader.boolean())._replace(watch=False))
        else:
            raise Malformed(f"operation {opcode} cannot be part of a multiple read")
    return MultiRead(tuple(reads))


def _operation_headers(reader: Reader) -> Iterator[int]:
    """The number of each operation of a multi; the caller reads its body before asking for the next."""
    while True:
        opcode, done = reader.integer(), reader.boolean()
        reader.integer()
        if done:
            return
        yield opcode


def _set_watches(reader: Reader) -> SetWatches:
    return SetWatches(reader.long(), reader.strings(), reader.strings(), reader.strings())


def _set_watches2(reader: Reader) -> SetWatches:
    return SetWatches(reader.long(), *(reader.strings() for _ in range(5)))


def _add_auth(reader: Reader) -> AddAuth:
    reader.integer()  # a type nobody uses
    return AddAuth(reader.string(), reader.buffer() or b"")


_OPERATIONS: dict[int, Callable[[Reader], Operation]] = {
    1: _create,
    2: lambda reader: Delete(reader.string(), reader.integer()),
    5: lambda reader: SetData(reader.string(), reader.buffer(), reader.integer()),
    13: lambda reader: Check(reader.string(), reader.integer()),
    15: _create2,
    19: _create_container,
}

_DECODERS: dict[int, Callable[[Reader], Request]] = {
    **_OPERATIONS,
    3: lambda reader: Exists(reader.string(), reader.boolean()),
    4: lambda reader: GetData(reader.string(), reader.boolean()),
    6: lambda reader: GetAcl(reader.string()),
    7: lambda reader: SetAcl(reader.string(), reader.acls(), reader.integer()),
    8: lambda reader: GetChildren(reader.string(), reader.boolean()),
    9: lambda reader: Sync(reader.string()),
    11: lambda reader: Ping(),
    12: lambda reader: GetChildren(reader.string(), reader.boolean(), with_stat=True),
    14: _multi,
    16: lambda reader: Unimplemented(16, Code.RECONFIG_DISABLED),
    17: lambda reader: CheckWatches(reader.string(), reader.integer()),
    18: lambda reader: RemoveWatches(reader.string(), reader.integer()),
    22: _multi_read,
    100: _add_auth,
    101: _set_watches,
    103: lambda reader: GetEphemerals(reader.string()),
    104: lambda reader: CountDescendants(reader.string()),
    105: _set_watches2,
    106: lambda reader: AddWatch(reader.string(), reader.integer()),
    107: lambda reader: WhoAmI(),
    -11: lambda reader: CloseSession(),
}


# Results.


def _string(text: str) -> bytes:
    encoded = text.encode()
    return INT.pack(len(encoded)) + encoded


def _buffer(data: bytes | None) -> bytes:
    return INT.pack(-1) if data is None else INT.pack(len(data)) + data


def _strings(texts: tuple[str, ...]) -> bytes:
    return INT.pack(len(texts)) + b"".join(map(_string, texts))


def _stat(stat: Stat) -> bytes:
    return STAT.pack(*stat)


def _framed(body: bytes) -> bytes:
    return INT.pack(len(body)) + body


def encode_connected(timeout_ms: int, session: int, password: bytes, *, with_read_only: bool) -> bytes:
    """Answer a Connect. A session that is not there is answered with zeros throughout."""
    body = CONNECTED.pack(0, timeout_ms, session, len(password)) + password
    return _framed(body + b"\0" if with_read_only else body)


def encode_reply(xid: int, zxid: int, result: Result) -> bytes:
    body = encode_result(result)
    return FRAMED_HEADER.pack(HEADER.size + len(body), xid, zxid, Code.OK) + body


def encode_refusal(xid: int, zxid: int, code: Code) -> bytes:
    return FRAMED_HEADER.pack(HEADER.size, xid, zxid, code)


def encode_event(event: Event) -> bytes:
    connected = 3  # the state of the client's session; a server never tells of another
    body = INT.pack(event.kind) + INT.pack(connected) + _string(event.path)
    return FRAMED_HEADER.pack(HEADER.size + len(body), NOTIFICATION_XID, -1, Code.OK) + body


def encode_result(result: Result) -> bytes:
    match result:
        case Nothing():
            return b""
        case Path():
            return _string(result.path)
        case PathAndStat():
            return _string(result.path) + _stat(result.stat)
        case JustStat():
            return _stat(result.stat)
        case DataAndStat():
            return _buffer(result.data) + _stat(result.stat)
        case AclsAndStat():
            listed = b"".join(INT.pack(acl.permissions) + _string(acl.scheme) + _string(acl.id) for acl in result.acls)
            return INT.pack(len(result.acls)) + listed + _stat(result.stat)
        case Names():
            return _strings(result.names)
        case NamesAndStat():
            return _strings(result.names) + _stat(result.stat)
        case Count():
            return INT.pack(result.value)
        case Identities():
            listed = b"".join(_string(identity.scheme) + _string(identity.id) for identity in result.identities)
            return INT.pack(len(result.identities)) + listed
        case Status():
            return INT.pack(result.code)
        case Results():
            parts = []
            for operation, part in result.results:
                opcode, code = (-1, part.code) if isinstance(part, Status) else (_opcode(operation), Code.OK)
                parts.append(OPERATION_HEADER.pack(opcode, False, code) + encode_result(part))
            return b"".join(parts) + OPERATION_HEADER.pack(-1, True, -1)
        case _:
            assert_never(result)


def _opcode(operation: Operation | GetData | GetChildren) -> int:
    """The number by which a transaction's answer says what it answers."""
    match operation:
        case Create():
            return 15 if operation.with_stat else 1
        case Delete():
            return 2
        case SetData():
            return 5
        case SetAcl():
            return 7
        case Check():
            return 13
        case GetData():
            return 4
        case GetChildren():
            return 8
        case _:
            assert_never(operation)
