"""Names what a store needs from a disk: an ordered map of bytes to bytes, changed by atomic batches."""

from collections.abc import Generator
from typing import Protocol

REBUILD = "Restore the folder from a backup, unless other nodes have copies of what was in it."
"""What to do about damage."""


class StoreError(Exception):
    """Raised when the disk refuses: full, failing, in use. The text says what holds now and what to do."""


class Full(StoreError):
    """Raised when there is no room: when there is some it works again, and nothing is wrong with the disk."""


class Corrupt(StoreError):
    """Raised when what was read is not what was written. The text names the key or the file."""


class DamagedRecord(Corrupt):
    """Raised when that is one record, which can be replaced, or removed, since what is around it can be read."""

    def __init__(self, text: str, *, slot: int, key: bytes, what: str) -> None:
        """``what``: the key and its slot, for people."""
        super().__init__(text)
        self.slot, self.key, self.what = slot, key, what


class Batch(Protocol):
    """Changes that become true together, in this order. For one use."""

    def put(self, key: bytes, value: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...
    def delete_range(self, begin: bytes, end: bytes) -> None:
        """Everything from begin, before end."""
        ...


class FrozenDisk(Protocol):
    """What a disk held at one moment, whatever is written to it since. Belongs to one thread."""

    def items(self, begin: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        """As those of a disk."""
        ...

    def close(self) -> None:
        """Let go of it. May be called again."""
        ...


class Disk(Protocol):
    """Belongs to one thread, `sync` and `freeze` excepted. Everything may raise StoreError, reading also Corrupt."""

    place: str
    """Where it is, for people."""

    def get(self, key: bytes) -> bytes | None: ...

    def items(self, begin: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        """In the order of the keys, from begin, before end. Close it, or reach its end, before the next write."""
        ...

    def batch(self) -> Batch: ...

    def write(self, batch: Batch) -> None:
        """Make a batch true. When this returns it has left the process: killing that loses nothing."""
        ...

    def sync(self) -> None:
        """Make all that was written before this call survive a power cut. Blocks; safe from any thread."""
        ...

    def freeze(self) -> FrozenDisk:
        """What all that was written before this call has made. Blocks; safe from any thread. Take one at a time."""
        ...

    def close(self) -> None:
        """Sync and let go of the place. May be called again."""
        ...
