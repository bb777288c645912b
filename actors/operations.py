"""Measures writes that are on their way to other nodes, and cuts them into messages."""

from collections.abc import Sequence

from .messages import Operation


def size_of(operations: Sequence[Operation]) -> int:
    """Bytes of their keys and values."""
    size = 0
    for _, key, value, _, _, _ in operations:
        if key is not None:
            size += len(key)
        if value is not None:
            size += len(value)
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
