"""Turns messages and frames into bytes and back, and cuts a stream of bytes into frames.

A *frame* is four bytes of length (big endian, themselves not counted) and a msgpack array: the kind's number, then its
fields. The body of a message inside a frame is a msgpack map of the message's own fields and is only looked at once the
frame's kind, the handshake and the message's type are known. msgspec checks the type of every field, runs no code and
does not believe announced lengths, so a stranger's bytes cost no more than their own size. Pickle is not here at all: a
code frame carries one, and ``code_frames.py`` says who may look into it.

Two neighbouring releases can talk: fields that the reader does not know are ignored, fields that the writer did not
know take their defaults, frames may grow at their end. A ref travels as its address and comes back as a ref; the
address of an actor of the reading process comes back as that process' own local ref.

What cannot travel: types without ``@message``, integers beyond 64 bits, text that is not valid Unicode, sets.

Where to look next: ``handshake.py`` (the first frames of a connection), ``bridge.py`` (all others).
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import msgspec

from .actor import Ref
from .message import MESSAGES

_LENGTH = struct.Struct(">I")
LENGTH_BYTES = _LENGTH.size
"""How long the length in front of every frame is."""

Lane = Literal["data", "control"]
"""Which of the two links of a pair of processes."""


class WireError(ValueError):
    """Bytes that are not what they should be, or a message that cannot travel. Names the type and the field."""


# Frames of the handshake, in the order in which they are sent


class _Frame(msgspec.Struct, array_like=True):
    """An array on the wire: fields by place, so new ones go at the end and have defaults."""


class Hello(_Frame, tag=1):
    """Who dials, and a nonce. Dialer -> acceptor."""

    versions: tuple[int, int]
    cluster: str
    node: str
    address: str
    incarnation: str
    lane: Lane
    attempt: int
    nonce: bytes


class Challenge(_Frame, tag=2):
    """The version that both can speak, and a nonce; not yet who answers. Acceptor -> dialer."""

    version: int
    nonce: bytes


class Proof(_Frame, tag=3):
    """Knowledge of the secret, bound to everything said so far on this connection. Dialer -> acceptor, and back."""

    proof: bytes


class Welcome(_Frame, tag=4):
    """Who answers; a Proof follows at once. Acceptor -> dialer."""

    node: str
    address: str
    incarnation: str
    attempt: int


class Refused(_Frame, tag=5):
    """Why this connection ends before it began. ``crossing``: a connection from the other side takes its place."""

    reason: str
    crossing: bool = False


# Frames of a link


class Tell(_Frame, tag=16):
    """A message. ``to`` and ``sender`` are names of actors at the two ends of the link."""

    to: str
    sender: str
    type_name: str
    body: msgspec.Raw


class Ask(_Frame, tag=17):
    """A message whose sender wants the answer with this number."""

    number: int
    to: str
    sender: str
    type_name: str
    body: msgspec.Raw
    blocks: bool = False
    """The sender does nothing else until the answer is there, as no actor on a loop does."""


class Answer(_Frame, tag=18):
    """The answer to a question; ``type_name`` is empty when it is a plain value and not a message."""

    number: int
    type_name: str
    body: msgspec.Raw


class Failure(_Frame, tag=19):
    """What the asked actor raised, or why nobody was there to be asked.

    ``code`` is a pickle of it and ``trace`` its traceback, from a process that allows code.
    """

    number: int
    error: str
    text: str
    code: bytes = b""
    trace: str = ""


class Stop(_Frame, tag=20):
    """Asks an actor to stop; the Answer says whether it was alive."""

    number: int
    to: str


class Watch(_Frame, tag=21):
    """Wants to know when an actor ends."""

    number: int
    to: str


class Unwatch(_Frame, tag=22):
    """Does not want to know any more."""

    number: int


class Ended(_Frame, tag=23):
    """A watched actor is gone."""

    number: int
    why: str


class Ping(_Frame, tag=24):
    """Asks for a sign of life."""

    number: int


class Pong(_Frame, tag=25):
    """Gives it."""

    number: int


class Goodbye(_Frame, tag=26):
    """Why this link ends. The last frame on it."""

    reason: str


class Code(_Frame, tag=27):
    """A pickled order or call. Who does not allow code refuses it by its number, and never looks at the content."""

    code: bytes
    number: int = 0
    """Of the question; 0: nobody waits for an answer."""
    to: str = ""
    sender: str = ""
    type_name: str = ""
    blocks: bool = False
    """As in Ask."""

    @property
    def body(self) -> bytes:
        return self.code


class CodeAnswer(_Frame, tag=28):
    """The pickled answer to a Code frame."""

    number: int
    code: bytes


Frame = (
    Hello | Challenge | Proof | Welcome | Refused
    | Tell | Ask | Answer | Failure | Stop | Watch | Unwatch | Ended | Ping | Pong | Goodbye | Code
    | CodeAnswer
)  # fmt: skip

_frames = msgspec.msgpack.Encoder()
_frame_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Frame)


def pack(frame: Frame) -> bytes:
    """The frame as it goes on the wire, length first."""
    content = _frames.encode(frame)
    return _LENGTH.pack(len(content)) + content


def unpack(content: bytes | memoryview) -> Frame:
    """The frame from what followed its length. Raises WireError."""
    try:
        frame: Frame = _frame_decoder.decode(content)
    except Exception as error:  # besides msgspec's own: RecursionError, ValueError from its unchecked depths
        raise WireError(f"{len(content)} bytes are not a frame: {error}") from error
    return frame


class Frames:
    """Cuts the bytes of one connection into frames, however the network split them.

    Holds at most one unfinished frame: a length above ``frame_bytes_max`` raises WireError as soon as its four bytes
    are there. The bound may be changed between frames.
    """

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._unfinished = bytearray()

    def feed(self, chunk: bytes) -> Iterator[memoryview]:
        """The content of every frame that ``chunk`` completes. Take all of them before feeding again."""
        if self._unfinished:
            self._unfinished += chunk
            if len(self._unfinished) < LENGTH_BYTES or len(self._unfinished) < self._end(self._unfinished, 0):
                return  # the common case within a large frame, which must not be copied once per chunk
            chunk = bytes(self._unfinished)
            self._unfinished = bytearray()
        view = memoryview(chunk)
        start, size = 0, len(chunk)
        while size - start >= LENGTH_BYTES:
            end = self._end(chunk, start)
            if end > size:
                break
            yield view[start + LENGTH_BYTES : end]
            start = end
        self._unfinished += view[start:]

    def _end(self, stream: bytes | bytearray, start: int) -> int:
        """Where the frame that begins at ``start`` ends."""
        length: int = _LENGTH.unpack_from(stream, start)[0]
        if length > self.frame_bytes_max:
            raise WireError(f"a frame of {length} bytes is announced, {self.frame_bytes_max} are allowed")
        return start + LENGTH_BYTES + length


class Wire:
    """Messages of one process to bytes and back. ``resolve`` makes refs of addresses (``ActorSystem.resolve``)."""

    def __init__(self, resolve: Callable[[str], Ref]) -> None:
        self._resolve = resolve
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_address)
        self._decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {}

    def tell(self, to: str, sender: str, message: Any) -> bytes:
        """A Tell frame, packed. Raises TypeError when it is no ``@message``, WireError when a value cannot travel."""
        name = self._name(message)
        try:  # in one pass: the body is not wrapped as bytes first
            return self._pack(Tell(to, sender, name, cast(msgspec.Raw, message)))
        except Exception as error:
            raise self._blame(message, error) from error

    def ask(self, number: int, to: str, sender: str, message: Any, blocks: bool = False) -> bytes:
        """An Ask frame, packed. Raises like ``tell``."""
        name = self._name(message)
        try:
            return self._pack(Ask(number, to, sender, name, cast(msgspec.Raw, message), blocks))
        except Exception as error:
            raise self._blame(message, error) from error

    def answer(self, number: int, value: Any) -> bytes:
        """An Answer frame, packed: a message, or a plain value (None, bool, int, float, str, bytes, or a tuple, list or
        dict of them; a tuple arrives as a list). Raises like ``tell``."""
        if type(value) not in _PLAIN:
            name = self._name(value)
            try:
                return self._pack(Answer(number, name, cast(msgspec.Raw, value)))
            except Exception as error:
                raise self._blame(value, error) from error
        try:
            return pack(Answer(number, "", cast(msgspec.Raw, value)))
        except Exception as error:
            raise WireError(f"an answer that is a {type(value).__name__} cannot travel: {error}") from error

    def message(self, type_name: str, body: msgspec.Raw) -> Any:
        """The message that ``body`` made. Raises WireError, naming the field, when it does not fit this process."""
        decoder = self._decoders.get(type_name) or self._decoder(type_name)
        try:
            return decoder.decode(body)
        except Exception as error:  # a ValueError of __post_init__ or of the resolver arrives as msgspec's own
            raise WireError(f"{type_name} cannot be read: {error}") from error

    def answered(self, type_name: str, body: msgspec.Raw) -> Any:
        """The value that ``answer`` was given. Raises WireError."""
        if type_name:
            return self.message(type_name, body)
        try:
            return msgspec.msgpack.decode(body)
        except Exception as error:
            raise WireError(f"an answer cannot be read: {error}") from error

    def _decoder(self, type_name: str) -> msgspec.msgpack.Decoder[Any]:
        cls = MESSAGES.get(type_name)
        if cls is None:
            raise WireError(f"{shown(type_name)} is not a message that this release knows")
        try:
            decoder = self._decoders[type_name] = msgspec.msgpack.Decoder(cls, dec_hook=self._ref)
        except Exception as error:
            raise WireError(f"{type_name} cannot travel: {error}") from error
        return decoder

    def forget(self, type_name: str) -> None:
        """Another type has this name from now on."""
        self._decoders.pop(type_name, None)

    def _ref(self, wanted: type, address: Any) -> Ref:
        if wanted is not Ref or not isinstance(address, str):
            raise ValueError(f"expected the address of a {wanted.__name__}, got {type(address).__name__}")
        return self._resolve(address)

    def _pack(self, frame: Frame) -> bytes:
        content = self._encoder.encode(frame)
        return _LENGTH.pack(len(content)) + content

    def _name(self, message: Any) -> str:
        cls = type(message)
        if MESSAGES.get(cls.__name__) is not cls:
            raise TypeError(f"{cls.__name__} is not a message: declare it with @message to send it to another process")
        return cls.__name__

    def _blame(self, message: Any, error: Exception) -> WireError:
        """Say which field it was."""
        culprit = ""
        for field in dataclasses.fields(message):
            try:
                self._encoder.encode(getattr(message, field.name))
            except Exception:
                culprit = f".{field.name}"
                break
        return WireError(f"{type(message).__name__}{culprit} cannot travel: {error}")


_PLAIN = frozenset({type(None), bool, int, float, str, bytes, tuple, list, dict})


def _address(value: Any) -> str:
    address = getattr(value, "address", None)
    if isinstance(address, str):
        return address
    raise TypeError(f"a {type(value).__name__} is neither a plain value nor a message nor a ref")


def shown(text: str) -> str:
    """Something that a stranger chose, fit for a log."""
    return repr(text if len(text) <= 60 else text[:60] + "...")
