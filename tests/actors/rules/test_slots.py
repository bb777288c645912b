"""Slots: the same as Redis Cluster's, whatever the key."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringkeeper.actors.rules.slots import SLOT_MASK, SLOTS, Run, crc_hqx, hashed_part, position, runs, slot


def crc16_xmodem(data: bytes) -> int:
    """Bit by bit, from the definition: polynomial x^16 + x^12 + x^5 + 1, nothing reflected, nothing inverted."""
    crc = 0
    for byte in data:
        for bit in range(7, -1, -1):
            carry = (crc >> 15) ^ (byte >> bit & 1)
            crc = (crc << 1 & 0xFFFF) ^ (0x1021 if carry else 0)
    return crc


def slow_slot(key: bytes) -> int:
    """The words of the Redis Cluster specification, a byte at a time."""
    for start, byte in enumerate(key):
        if byte == ord("{"):
            tag = bytearray()
            for byte in key[start + 1 :]:
                if byte == ord("}"):
                    return crc16_xmodem(bytes(tag) or key) % 16384
                tag.append(byte)
            break
    return crc16_xmodem(key) % 16384


def test_the_check_value_of_the_crc_is_the_published_one() -> None:
    assert crc16_xmodem(b"123456789") == 0x31C3


@pytest.mark.parametrize(("key", "expected"), [(b"foo", 12182), (b"bar", 5061), (b"hello", 866), (b"123456789", 12739)])
def test_well_known_keys_are_where_redis_has_them(key: bytes, expected: int) -> None:
    assert slot(key) == expected


def test_thousands_of_keys_are_where_the_definition_puts_them() -> None:
    letters = random.Random(1)
    for _ in range(5000):
        key = letters.randbytes(letters.randrange(1, 40))
        assert slot(key) == slow_slot(key)


@given(st.lists(st.sampled_from([b"{", b"}", b"a", b"b", b"", b"\0"])).map(b"".join))
def test_braces_in_any_order_choose_the_part_that_redis_hashes(key: bytes) -> None:
    assert slot(key) == slow_slot(key)
    assert slot(key) == crc_hqx(hashed_part(key), 0) & SLOT_MASK


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"foo}bar{", b"foo}bar{"),
        (b"}{a}", b"a"),
    ],
)
def test_the_examples_of_the_specification_hash_the_part_it_names(key: bytes, part: bytes) -> None:
    assert hashed_part(key) == part


def test_slots_stand_evenly_on_the_whole_circle() -> None:
    assert position(0) == 0
    assert position(1) - position(0) == 2**128 // SLOTS
    assert position(SLOTS) == 2**128


def test_a_run_reads_as_in_cluster_nodes() -> None:
    assert str(Run(0, 5460)) == "0-5460"
    assert str(Run(17, 17)) == "17"
    assert Run(0, 5460).size == 5461


@given(st.lists(st.integers(0, 2), min_size=1, max_size=50))
def test_runs_cover_a_table_in_order_and_cannot_be_longer(table: list[int]) -> None:
    cut = list(runs(table))
    assert [value for run, value in cut for _ in range(run.size)] == table
    assert [run.first for run, _ in cut] == [0] + [run.last + 1 for run, _ in cut[:-1]]
    assert all(one != next_one for (_, one), (_, next_one) in zip(cut, cut[1:], strict=False))


def test_an_empty_table_has_no_runs() -> None:
    assert list(runs([])) == []
