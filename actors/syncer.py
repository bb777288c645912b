"""Makes what a storage node has written survive a power cut, on a thread of its own, since syncing blocks.

Hears   Sync        from StorageNode, one at a time
Tells   Synced -> StorageNode
"""

from ..runtime.actor import BlockingActor
from ..runtime.store import Store, StoreError
from .messages import Sync, Synced


class Syncer(BlockingActor):
    """Syncs one store. A failure is an answer, not a crash: whoever waits must be told that it is in doubt."""

    def __init__(self, *, store: Store) -> None:
        super().__init__()
        self._store = store

    def on_receive(self, message: Sync) -> None:
        error = ""
        try:
            self._store.sync()
        except StoreError as failure:
            error = str(failure)
        self.send(message.reply_to, Synced(batch=message.batch, error=error))
