"""Bytes of records: what goes in comes out, and nothing else does."""

from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ringkeeper.runtime.store import layout
from ringkeeper.runtime.store.layout import Record, decode, digest, encode
from ringkeeper.runtime.store.slots import Slots

numbers = st.integers(0, 2**64 - 1)
records = st.builds(Record, st.binary(max_size=200), numbers, numbers, numbers)


@given(st.binary(max_size=50), records)
@settings(max_examples=200, deadline=None)
def test_a_record_comes_back_from_its_bytes(key: bytes, record: Record) -> None:
    assert decode(key, encode(key, record)) == record


@given(st.binary(max_size=50), records, st.data())
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_a_cut_and_another_key_are_found_out(key: bytes, record: Record, data: st.DataObject) -> None:
    good = encode(key, record)
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    flipped = bytearray(good)
    flipped[bit // 8] ^= 1 << bit % 8
    other_key = data.draw(st.binary(max_size=50).filter(lambda other: other != key))
    for key_read, read in (
        (key, bytes(flipped)),
        (key, good[: data.draw(st.integers(0, len(good) - 1))]),
        (key, good + b"\0"),
        (other_key, good),
    ):
        with pytest.raises(ValueError, match="checksum"):
            decode(key_read, read)


def test_a_format_of_the_future_is_named() -> None:
    record = Record(b"value", 1, 2, 3)
    body = layout._HEAD.pack(2, 1, 2, 3) + b"value"
    data = body + layout._TAIL.pack(crc32(body, crc32(b"key")))
    assert encode(b"key", record) != data
    with pytest.raises(ValueError, match="format 2 is not known"):
        decode(b"key", data)


def test_the_bytes_of_this_format_never_change() -> None:
    assert encode(b"\x12\x34key", Record(b"value", 1, 2, 3)).hex() == (
        "0100000000000000010000000000000002000000000000000376616c7565cd8715b7"
    )
    assert digest(b"key", Record(b"value", 1, 2, 3)) == 4076969615620511186


@given(st.dictionaries(st.integers(0, 16383), st.tuples(numbers, numbers, numbers, numbers), max_size=20))
@settings(max_examples=50, deadline=None)
def test_a_summary_of_the_slots_comes_back(figures: dict[int, tuple[int, int, int, int]]) -> None:
    slots = Slots()
    for slot, four in figures.items():
        slots[slot] = four
    again = Slots(slots.pack())
    assert again.pack() == slots.pack()
    assert all(again[slot] == four for slot, four in figures.items())
    with pytest.raises(ValueError, match="its length"):
        Slots(slots.pack()[:-1])
