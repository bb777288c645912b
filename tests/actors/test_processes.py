"""What the processes of a cluster are made of, and how they end."""

from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from ringkeeper import LocalCluster
from ringkeeper.actors import processes
from ringkeeper.actors.config import ConfigError, EcsConfig, NodeConfig, ProcessConfig
from ringkeeper.actors.messages import Sync, Synced
from ringkeeper.actors.node_folder import NodeFolder
from ringkeeper.actors.processes import EcsProcess, Ending, NodeProcess
from ringkeeper.runtime.actor import Actor, Ref
from ringkeeper.runtime.harness import Harness, Sent
from ringkeeper.runtime.process import Contents, Process, free_port
from ringkeeper.runtime.session import CloseSession, SessionClosed
from ringkeeper.runtime.store import StoreError, open_store
from ringkeeper.runtime.system import ESCALATE


class NoZooKeeper(Actor):
    """Stands in for Watches: ZooKeeper is never reached."""

    def on_receive(self, message: Any) -> None:
        if isinstance(message, CloseSession):
            self.send(message.reply_to, SessionClosed())


@pytest.fixture(autouse=True)
def no_zookeeper(monkeypatch: pytest.MonkeyPatch) -> None:
    def watches_of(process: Process, config: ProcessConfig, secret: bytes) -> Ref:
        return process.system.spawn(NoZooKeeper, name="watches", supervision=ESCALATE)

    monkeypatch.setattr(processes, "watches_of", watches_of)


def actors_of(make: Callable[[Process], Contents]) -> dict[str, str]:
    """What becomes of each actor of a process when it fails; the process is ended at once, in order."""
    found: dict[str, str] = {}

    def look(process: Process) -> Contents:
        contents = make(process)
        for name, life in process.system._lives.items():
            found[name] = life.supervision.on_failure
        process.loop.call_soon(process.close)
        return contents

    assert Process("example").run(look) == 0
    return found


def test_a_control_service_whose_actor_fails_ends_so_that_another_leads() -> None:
    config = EcsConfig()
    assert actors_of(lambda process: EcsProcess(process, config, b"")) == {
        "watches": "escalate",
        "observer": "restart",
        "solver": "escalate",
        "balancer": "escalate",
        "ecs": "escalate",
        "election": "escalate",
    }


def test_a_node_whose_actor_fails_ends_and_is_counted_dead(tmp_path: Path) -> None:
    config = NodeConfig(port=free_port(beside=10_000), data=tmp_path)
    folder, store = NodeFolder(tmp_path, config.id), open_store("memory")
    try:
        actors = actors_of(lambda process: NodeProcess(process, config, b"", folder, store))
    finally:
        store.close()
        folder.close()
    del actors["syncer"], actors["freezer"]  # they block, so they are never made anew
    assert actors.pop("backup") == "restart", "nobody but who makes a backup needs it"
    assert actors.pop("observer") == "restart", "nobody but who looks needs it"
    assert {"storage", "gateway", "member", "election", "failure-detector"} < set(actors)
    assert set(actors.values()) == {"escalate"}


@pytest.mark.parametrize("host", ["", "::1", "fe80::1%eth0", "[::1]", "node1:7001", "a b"])
def test_a_node_is_not_named_by_what_addresses_cannot_hold(tmp_path: Path, host: str) -> None:
    config = NodeConfig(advertise=host, data=tmp_path) if host else NodeConfig(bind="::1", data=tmp_path)
    with pytest.raises(ConfigError, match="no IPv6 addresses"):
        config.check()


def test_a_node_takes_no_code_from_clients_without_a_password(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with pytest.raises(ConfigError, match="every user of this machine is a client"):
        NodeConfig(data=tmp_path, secret_file=secret, allow_code=True).check()
    NodeConfig(data=tmp_path, secret_file=secret, allow_code=True, password="sesame").check()
    with pytest.raises(ConfigError, match="RINGKEEPER_PASSWORD"):
        LocalCluster(allow_code=True, password="").start()


def test_a_node_may_listen_on_an_ipv6_address_under_a_host_name(tmp_path: Path) -> None:
    config = NodeConfig(bind="::1", advertise="localhost", data=tmp_path)
    config.check()
    assert config.id == "localhost:7001"


# Ending


class End:
    """An ending under test, and how often it was over."""

    def __init__(self) -> None:
        self.over = 0
        self.harness = Harness(Ending, syncer="probe:syncer", watches="probe:watches", done=self._done)

    def _done(self) -> None:
        self.over += 1

    def tell(self, *messages: object) -> Sent:
        return self.harness.tell(*messages)


@pytest.mark.parametrize("fails", ["never", "once, before the end", "at the end"])
def test_who_failed_to_sync_has_not_ended_in_order_though_a_later_sync_worked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    with closing(NodeFolder(tmp_path, "node", boot_id="monday")) as folder:
        store = open_store("memory")

        def fail() -> None:
            raise StoreError("input/output error")

        with monkeypatch.context() as patch, suppress(StoreError):
            if fails != "never":
                patch.setattr(store.disk, "sync", fail)
            if fails == "once, before the end":
                store.sync()
            processes.note_ended(folder, store)
        if fails == "once, before the end":
            processes.note_ended(folder, store)
    with closing(NodeFolder(tmp_path, "node", boot_id="monday")) as folder:
        assert folder.whole == (fails == "never")


@pytest.mark.parametrize("error", ["", "the disk is gone"])
def test_what_was_written_is_synced_then_the_session_is_closed_and_a_failure_is_said(
    caplog: pytest.LogCaptureFixture, error: str
) -> None:
    end = End()
    assert [(to, type(message)) for to, message in end.harness.sent] == [("syncer", Sync)]
    assert [(to, type(message)) for to, message in end.tell(Synced(batch=0, error=error))] == [
        ("watches", CloseSession)
    ]
    assert error in caplog.text and bool(caplog.records) == bool(error)
    assert end.over == 0
    end.tell(SessionClosed())
    assert end.over == 1
    end.harness.stop()


def test_an_end_that_took_too_long_is_over_once_whatever_comes_after_it() -> None:
    end = End()
    end.harness.advance(processes.CLOSE_SECONDS_MAX)
    assert end.over == 1
    assert end.tell(Synced(batch=0, error=""), SessionClosed()) == []
    assert end.over == 1
    end.harness.stop()


def test_an_end_that_is_over_is_not_late(caplog: pytest.LogCaptureFixture) -> None:
    end = End()
    end.tell(Synced(batch=0, error=""), SessionClosed())
    end.harness.advance(processes.CLOSE_SECONDS_MAX)
    assert end.over == 1 and not caplog.records
    end.harness.stop()
