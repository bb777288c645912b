"""An actor system on a real event loop in a thread of its own, as in a process, for tests on another thread."""

import threading
from typing import Any

import uvloop
from ringkeeper.runtime.system import ActorSystem


class Home:
    """Runs from the moment it is made until ``close``; as a context manager it gives the system."""

    system: ActorSystem

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        ready = threading.Event()

        def run() -> None:
            self.system = ActorSystem(loop=self.loop)
            self.loop.call_soon(ready.set)
            self.loop.run_forever()
            self.system.stop()
            self.loop.close()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert ready.wait(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def __enter__(self) -> ActorSystem:
        return self.system

    def __exit__(self, *_: Any) -> None:
        self.close()
