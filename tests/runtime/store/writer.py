"""A process that writes to a store until it is killed or its disk is full; started by test_rocks.py.

    python writer.py FOLDER FIRST [FILE_BYTES_MAX]

Batch after batch, beginning with number FIRST, each is committed and then acknowledged by a line with its number. With
FILE_BYTES_MAX no file may grow larger, which looks to the store like a full disk; it then says what the store said, and
whether reading still works, and ends in order.
"""

import random
import resource
import signal
import sys
from pathlib import Path

from ringkeeper.runtime.store import Record, Store, StoreError, open_store, rocks

SLOTS = 20
MEMORY_TABLE_BYTES = 128 * 1024
"""Small, so that there are tables, merges and several logs in no time."""

Rows = dict[tuple[int, bytes], Record]


def stage(number: int, rows: Rows, store: Store | None = None) -> None:
    """Do what batch ``number`` does: to ``rows``, and to a store."""
    dice = random.Random(number)
    for i in range(dice.randrange(1, 8)):
        slot, key = dice.randrange(SLOTS), b"key %d" % dice.randrange(50)
        version = (1, number * 100 + i)
        match dice.randrange(20):
            case 0:
                for at in [at for at in rows if at[0] == slot]:
                    del rows[at]
                if store is not None:
                    store.flush(slot, *version)
            case 1 | 2 | 3:
                rows.pop((slot, key), None)
                if store is not None:
                    store.delete(slot, key, *version)
            case _:
                record = Record(dice.randbytes(dice.randrange(3000)), *version)
                rows[slot, key] = record
                if store is not None:
                    store.put(slot, key, record)


def main() -> None:
    folder, first = Path(sys.argv[1]), int(sys.argv[2])
    rocks.MEMORY_TABLE_BYTES = MEMORY_TABLE_BYTES
    store = open_store("rocksdb", folder)
    if len(sys.argv) > 3:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    number = first
    try:
        while True:
            stage(number, {}, store)
            store.commit()
            print(number, flush=True)
            number += 1
    except StoreError as failure:
        print("refused:", failure)
        store.check()
        print("reads go on", flush=True)
        store.close()


if __name__ == "__main__":
    main()
