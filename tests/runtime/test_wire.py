"""Messages to bytes and back; a stream of bytes into frames."""

import random
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.runtime import wire
from ringkeeper.runtime.actor import Ref
from ringkeeper.runtime.message import message
from ringkeeper.runtime.system import ActorSystem, Nobody
from ringkeeper.runtime.virtual import VirtualLoop
from ringkeeper.runtime.wire import LENGTH_BYTES, Frames, Wire, WireError, pack, unpack


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Part of a letter; no message of its own."""

    cents: int
    motif: bytes | None = None


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Everything that may travel. Test -> test."""

    number: int
    weight: float
    text: str
    content: bytes
    express: bool
    copies: tuple[Stamp, ...] = ()
    names: dict[str, int] = field(default_factory=dict)
    pairs: tuple[tuple[int, bytes], ...] = ()
    reply_to: Ref | None = None


@message
@dataclass(frozen=True, slots=True, kw_only=True)
class Postcard:
    """What an older release knew of a letter. Test -> test."""

    number: int
    text: str = "none"


INTEGERS = st.integers(-(2**63), 2**64 - 1)
LETTERS = st.builds(
    Letter,
    number=INTEGERS,
    weight=st.floats(allow_nan=False),
    text=st.text(),
    content=st.binary(max_size=300),
    express=st.booleans(),
    copies=st.lists(st.builds(Stamp, cents=INTEGERS, motif=st.none() | st.binary()), max_size=3).map(tuple),
    names=st.dictionaries(st.text(), INTEGERS, max_size=3),
    pairs=st.lists(st.tuples(INTEGERS, st.binary(max_size=9)), max_size=3).map(tuple),
)


@pytest.fixture(scope="module")
def post() -> Wire:
    return Wire(ActorSystem(loop=VirtualLoop()).resolve)


def fields(**changes: Any) -> msgspec.Raw:
    base = {"number": 1, "weight": 1.5, "text": "t", "content": b"c", "express": True}
    return msgspec.Raw(msgspec.msgpack.encode({**base, **changes}))


def carried(post: Wire, message: Any) -> Any:
    """What arrives of a message."""
    frame = unpack(post.tell("ann", "bob", message)[LENGTH_BYTES:])
    assert isinstance(frame, wire.Tell)
    assert (frame.to, frame.sender, frame.type_name) == ("ann", "bob", type(message).__name__)
    return post.message(frame.type_name, frame.body)


# Messages


@given(letter=LETTERS)
@settings(max_examples=150, deadline=None)
def test_a_message_comes_back_as_it_went(letter: Letter) -> None:
    post = Wire(lambda address: Nobody(ActorSystem(loop=VirtualLoop()), address))
    assert carried(post, letter) == letter
    asked = unpack(post.ask(7, "ann", "bob", letter)[LENGTH_BYTES:])
    assert isinstance(asked, wire.Ask)
    assert (asked.number, asked.to, post.message(asked.type_name, asked.body)) == (7, "ann", letter)


def test_numbers_that_look_alike_keep_their_type(post: Wire) -> None:
    letter = post.message("Letter", fields(weight=2))
    assert type(letter.weight) is float
    with pytest.raises(WireError, match=r"Expected `int`, got `bool` - at `\$\.number`"):
        post.message("Letter", fields(number=True))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"number": "1"}, r"Expected `int`, got `str` - at `\$\.number`"),
        ({"number": 1.0}, r"`\$\.number`"),
        ({"text": b"t"}, r"`\$\.text`"),
        ({"content": 5}, r"`\$\.content`"),
        ({"copies": [{"cents": None}]}, r"`\$\.copies\[0\]\.cents`"),
        ({"names": {"a": "b"}}, r"`\$\.names\[\.\.\.\]`"),
        ({"pairs": [[1]]}, r"`\$\.pairs\[0\]`"),
        ({"reply_to": 5}, r"address.*`\$\.reply_to`"),
        ({"reply_to": "nonsense"}, r"nonsense.*`\$\.reply_to`"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(post: Wire, changes: Any, complaint: str) -> None:
    with pytest.raises(WireError, match="^Letter cannot be read: .*" + complaint):
        post.message("Letter", fields(**changes))


def test_unknown_fields_are_ignored_and_missing_ones_need_a_default(post: Wire) -> None:
    assert post.message("Postcard", fields()) == Postcard(number=1, text="t")
    assert post.message("Postcard", msgspec.Raw(msgspec.msgpack.encode({"number": 3}))) == Postcard(number=3)
    with pytest.raises(WireError, match="missing required field `number`"):
        post.message("Postcard", msgspec.Raw(msgspec.msgpack.encode({"text": "x"})))


@pytest.mark.parametrize("name", ["Nonsense", "", "os.system", "Stamp", "x" * 10_000])
def test_a_type_that_is_not_registered_is_never_made(post: Wire, name: str) -> None:
    with pytest.raises(WireError, match="is not a message that this release knows") as refused:
        post.message(name, fields())
    assert len(str(refused.value)) < 200


def test_what_cannot_travel_is_refused_by_name(post: Wire) -> None:
    with pytest.raises(TypeError, match="Stamp is not a message"):
        post.tell("ann", "bob", Stamp(cents=1))
    good: dict[str, Any] = {"number": 1, "weight": 1.0, "text": "", "content": b"", "express": False}
    for change in ({"number": 2**64}, {"number": -(2**63) - 1}, {"text": "\ud800"}, {"reply_to": object()}):
        with pytest.raises(WireError, match=rf"^Letter\.{next(iter(change))} cannot travel"):
            post.tell("ann", "bob", Letter(**{**good, **change}))


def test_hostile_bodies_cost_neither_memory_nor_the_process(post: Wire) -> None:
    for body in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 200_000, b""):
        with pytest.raises(WireError):
            post.message("Letter", msgspec.Raw(body))
        with pytest.raises(WireError):
            post.answered("", msgspec.Raw(body))
        with pytest.raises(WireError):
            unpack(b"\x95\x10\xa1a\xa1b\xa1c" + body)


def test_refs_travel_as_addresses() -> None:
    system = ActorSystem(loop=VirtualLoop())
    system.prefix = "ringkeeper://here:1/"
    asked = []

    def resolve(address: str) -> Ref:
        asked.append(address)
        return Nobody(system, address)

    post = Wire(resolve)
    letter = post.message("Letter", fields(reply_to="ringkeeper://there:2/ann"))
    assert asked == ["ringkeeper://there:2/ann"]
    assert letter.reply_to.name == "ringkeeper://there:2/ann"
    carried(post, Letter(number=1, weight=1, text="", content=b"", express=False, reply_to=Nobody(system, "bob")))
    assert asked[1:] == ["ringkeeper://here:1/bob"]


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "text", b"bytes", [1, [2]], {"a": [None]}, Postcard(number=4)])
def test_an_answer_comes_back_as_it_went(post: Wire, value: Any) -> None:
    frame = unpack(post.answer(7, value)[LENGTH_BYTES:])
    assert isinstance(frame, wire.Answer)
    assert frame.number == 7
    assert post.answered(frame.type_name, frame.body) == value


@pytest.mark.parametrize("value", [{1, 2}, object(), Stamp(cents=1), 2**70, ["\ud800"]])
def test_an_answer_that_cannot_travel_is_refused(post: Wire, value: Any) -> None:
    with pytest.raises((WireError, TypeError)):
        post.answer(7, value)


# Frames

FRAMES: list[Any] = [
    wire.Hello((1, 2), "c", "n", "h:1", "i", "data", 3, bytes(32)),
    wire.Challenge(1, bytes(32)),
    wire.Proof(bytes(32)),
    wire.Welcome("n", "h:1", "i", 3),
    wire.Refused("why"),
    wire.Tell("to", "from", "Letter", msgspec.Raw(b"\x80")),
    wire.Ask(1, "to", "from", "Letter", msgspec.Raw(b"\x80")),
    wire.Answer(1, "", msgspec.Raw(b"\xc0")),
    wire.Failure(1, "ValueError", "text"),
    wire.Stop(1, "to"),
    wire.Watch(1, "to"),
    wire.Unwatch(1),
    wire.Ended(1, "why"),
    wire.Ping(1),
    wire.Pong(1),
    wire.Goodbye("why"),
    wire.Code(b"\x80\x04N.", 1, "to", "from", "Spawn"),
    wire.CodeAnswer(1, b"\x80\x04N."),
]


def plain(frame: Any) -> Any:
    values = [getattr(frame, name) for name in frame.__struct_fields__]
    return type(frame), [bytes(value) if isinstance(value, msgspec.Raw) else value for value in values]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_as_it_went(frame: Any) -> None:
    packed = pack(frame)
    assert int.from_bytes(packed[:LENGTH_BYTES], "big") == len(packed) - LENGTH_BYTES
    assert plain(unpack(packed[LENGTH_BYTES:])) == plain(frame)


def test_a_frame_may_grow_at_its_end() -> None:
    newer = msgspec.msgpack.encode([26, "why", "and more", 7])
    assert unpack(newer) == wire.Goodbye("why")


@given(content=st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_unpacking_fail_in_another_way(content: bytes) -> None:
    try:
        unpack(content)
    except WireError as error:
        assert "are not a frame" in str(error)


@given(
    contents=st.lists(st.binary(max_size=100), max_size=20),
    seed=st.integers(0, 2**32),
    longest=st.sampled_from([1, 3, 50, 10_000]),
)
@settings(max_examples=150, deadline=None)
def test_frames_come_out_however_the_stream_is_split(contents: list[bytes], seed: int, longest: int) -> None:
    stream = b"".join(len(content).to_bytes(4, "big") + content for content in contents)
    chance, frames, out = random.Random(seed), Frames(100), []
    while stream:
        size = chance.randint(1, longest)
        out += [bytes(content) for content in frames.feed(stream[:size])]
        stream = stream[size:]
    assert out == contents
    assert not frames._unfinished


@given(splits=st.lists(st.integers(1, 7), min_size=1))
def test_a_length_above_the_bound_is_refused_before_anything_is_kept(splits: list[int]) -> None:
    frames, stream = Frames(100), b"\x00\x00\x00\x01a" + (101).to_bytes(4, "big") + bytes(1000)
    out = []
    with pytest.raises(WireError, match="101 bytes is announced, 100 are allowed"):
        while stream:
            size = splits.pop() if splits else 1
            for content in frames.feed(stream[:size]):
                out.append(bytes(content))
            stream = stream[size:]
    assert out == [b"a"]
    assert len(frames._unfinished) <= 16


def test_the_bound_can_rise_between_two_frames() -> None:
    frames, out = Frames(10), []
    for content in frames.feed(b"\x00\x00\x00\x01a" + (500).to_bytes(4, "big") + bytes(500)):
        out.append(len(content))
        frames.frame_bytes_max = 1000
    assert out == [1, 500]
