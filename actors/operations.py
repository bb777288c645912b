"""Measures writes that are on their way to other nodes, cuts them into messages, and stages them in a store."""

from collections.abc import Sequence

from ..runtime.store import Record, Store
from .messages import Operation


def size_of(operations: Sequence[Operation]) -> int:
    """Bytes of their keys and values."""
    size = 0
    for each in operations:
        key, value = each[1], each[2]
        if value is not None and key is not None:
            size += len(key) + len(value)
        elif key is not None:
            size += len(key)
    return size


def parts_of(operations: list[Operation], bytes_max: int) -> list[tuple[list[Operation], int]]:
    """In their order, cut so that none of the parts has more bytes, one operation excepted; with the bytes of each.
    There is at least one part."""
    whole = size_of(operations)
    if whole <= bytes_max:
        return [(operations, whole)]
    parts: list[tuple[list[Operation], int]] = []
    part: list[Operation] = []
    size = 0
    for operation in operations:
        own = size_of([operation])
        if part and size + own > bytes_max:
            parts.append((part, size))
            part, size = [], 0
        part.append(operation)
        size += own
    return [*parts, (part, size)]


def stage(store: Store, operations: Sequence[Operation]) -> None:
    """Do to a store, in their order, what these did elsewhere; it is not committed yet. Raises StoreError."""
    for slot, key, value, epoch, seq, expiry in operations:
        if key is None:
            store.flush(slot, epoch, seq)
        elif value is None:
            store.delete(slot, key, epoch, seq)
        else:
            store.put(slot, key, Record(value, epoch, seq, expiry))
