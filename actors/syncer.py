"""Makes what a storage node has written survive a power cut, on a thread of its own, since syncing blocks.

Hears   Sync        from StorageNode, one at a time
Tells   Synced -> StorageNode
"""

from collections.abc import Iterator

from ..runtime.actor import BlockingActor
from ..runtime.metrics import Histogram, Metric, counter, histogram
from ..runtime.store import Full, Store, StoreError
from .messages import Sync, Synced


class Syncer(BlockingActor):
    """Syncs one store. A failure is an answer, not a crash: whoever waits must be told that it is in doubt."""

    def __init__(self, *, store: Store) -> None:
        super().__init__()
        self._store = store
        self._took = Histogram()
        self._failed = 0

    def on_receive(self, message: Sync) -> None:
        error, full, began = "", False, self.system.stopwatch()
        try:
            self._store.sync()
        except StoreError as failure:
            error, full = str(failure), isinstance(failure, Full)
            self._failed += 1
        self._took.observe(self.system.stopwatch() - began)
        self.send(message.reply_to, Synced(batch=message.batch, error=error, full=full))

    def metrics(self) -> Iterator[Metric]:
        yield histogram("sync_seconds", "How long the disk took to sync what was written.", self._took)
        yield counter("syncs_failed", "Syncs that the disk refused.", self._failed)
