"""Machines to keep a store on: one pretended, one real, which can be stopped in every way."""

import shutil
from collections.abc import Iterator
from os import write
from pathlib import Path

import pytest
from ringkeeper.runtime.store import Store, json_lines, open_store
from ringkeeper.runtime.store.memory import MemoryDisk
from ringkeeper.runtime.store.rocks import RocksDisk


def kill(store: Store, folder: Path, copy: Path) -> None:
    """End a store on a real disk so that only a copy of its files at this moment is left."""
    if isinstance(store.disk, RocksDisk):
        store.disk._rocks.cancel_all_background(True)  # files do not come and go while they are copied
    shutil.copytree(folder, copy)
    store.close()
    shutil.rmtree(folder)


class Machine:
    """Where one store lives after another. ``store`` is the one that is open."""

    def __init__(self, engine: str, folder: Path, cache_bytes: int) -> None:
        self.engine, self.cache_bytes = engine, cache_bytes
        self._folder, self._lives = folder, 0
        self._disk = MemoryDisk()
        self.open()

    @property
    def path(self) -> Path:
        return self._folder / f"life-{self._lives}"

    def open(self) -> Store:
        if self.engine == "memory":
            self.store = Store(self._disk, cache_bytes=self.cache_bytes)
        else:
            self.store = open_store(self.engine, self.path, cache_bytes=self.cache_bytes)
        return self.store

    def restart(self) -> Store:
        """The process ends in order, another begins."""
        self.store.close()
        if self.engine == "memory":
            self._disk = self._disk.crash(lose_unsynced=False)
        return self.open()

    def kill(self) -> Store:
        """The process is killed: another opens what its files hold at this moment."""
        if self.engine == "memory":
            self._disk = self._disk.crash(lose_unsynced=False)
            return self.open()
        before = self.path
        self._lives += 1
        kill(self.store, before, self.path)
        return self.open()

    def now_and_after_a_kill(self) -> Iterator[Store]:
        yield self.store
        yield self.kill()

    def break_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on nothing can be written, until ``monkeypatch.undo()``."""
        if self.engine == "memory":
            monkeypatch.setattr(self._disk, "full", True)
        elif self.engine == "json":
            monkeypatch.setattr(json_lines, "write", lambda file, text: write(file, text[: len(text) // 2]))
        else:

            def refuse(batch: object) -> None:
                raise Exception("IO error: No space left on device: While appending to file")

            monkeypatch.setattr(self.store.disk, "_write", refuse)

    def close(self) -> None:
        self.store.close()
