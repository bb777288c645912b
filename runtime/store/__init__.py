"""Keeps records by slot and key: one `Store`, in front of a disk that is real, remembered or pretended.

    Store (store.py)     what the rest of the program sees: batches, numbers and counts per slot, the cache of records
      Disk (disk.py)     the little it needs: an ordered map of bytes, written in atomic batches
        RocksDisk        rocks.py: RocksDB; the log is inspected first by rocks_log.py
        JsonDisk         json_lines.py: a file of JSON lines, for people to look at
        MemoryDisk       memory.py: the simulation's, which knows what a crash would lose
    layout.py            how a record becomes bytes, with its checksum, and back

Everything that can be wrong about a store beside the disk itself (what a failed batch leaves behind, numbers after a
restart, counts) is therefore in one class, and the simulation runs that same class.
"""

from pathlib import Path

from .disk import Corrupt, DamagedRecord, Disk, FrozenDisk, Full, StoreError
from .layout import SLOTS, Record
from .store import CACHE_BYTES_MAX, Store

__all__ = [
    "CACHE_BYTES_MAX",
    "ENGINES",
    "SLOTS",
    "Corrupt",
    "DamagedRecord",
    "Disk",
    "FrozenDisk",
    "Full",
    "Record",
    "Store",
    "StoreError",
    "open_store",
]

ENGINES = ("rocksdb", "json", "memory")
"""What `open_store` knows."""


def open_store(engine: str, path: Path | None = None, *, cache_bytes: int = CACHE_BYTES_MAX) -> Store:
    """Open the store in a folder, which is made when it does not exist; ``memory`` needs none and forgets everything.

    Raises StoreError when the folder is in use, of a newer release or another engine, or cannot be written; Corrupt
    when what is in it is damaged; ValueError for an engine that is not one of `ENGINES`.
    """
    disk: Disk
    match engine:
        case "memory":
            from .memory import MemoryDisk

            disk = MemoryDisk()
        case "rocksdb" | "json" if path is None:
            raise ValueError(f"the engine {engine} needs a folder")
        case "rocksdb":
            from .rocks import RocksDisk

            assert path is not None
            disk = RocksDisk(path)
        case "json":
            from .json_lines import JsonDisk

            assert path is not None
            disk = JsonDisk(path)
        case _:
            raise ValueError(f"there is no store engine {engine!r}: choose one of {', '.join(ENGINES)}")
    try:
        return Store(disk, cache_bytes=cache_bytes)
    except BaseException:
        disk.close()
        raise
