"""The actor shell on real processes: the tour, and what it does to processes."""

import pytest
from ringkeeper import LocalCluster
from ringkeeper.cli.outcomes import DONE
from ringkeeper.cli.shell import tour
from ringkeeper.cli.shell.real_target import RealTarget
from ringkeeper.cli.shell.session import Shell
from ringkeeper.cli.shell.table import TABLE

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]


def test_processes_are_looked_into_held_up_killed_and_brought_back(capsys: pytest.CaptureFixture[str]) -> None:
    with LocalCluster(nodes=3, allow_faults=True, allow_code=True, password="sesame") as cluster:
        target = RealTarget(",".join(cluster.seeds), "sesame", 10.0)
        try:
            assert tour.play(target) == DONE
            said = capsys.readouterr().out
            assert "Barbara: waits, for " in said and said.count("---Append---") == 2
            assert " down (" in said.rpartition("> why user:42")[2]
            dead = next(node["id"] for node in cluster.status()["nodes"] if node["state"] == "down")
            shell = Shell(target, TABLE)
            assert shell.run(f"{dead} actors") != DONE
            assert "refuses connections" in capsys.readouterr().err
            shell.status = DONE
            for line in (
                f"restart {dead}; until up it; until steady",
                "pause successor-of user:42; resume it",
                "cut owner-of user:42 successor-of user:42; faults; heal",
                "owner-of user:42 py at storage actor.id",
                "all inspect observer; ecs stacks; top; events max 3",
            ):
                assert shell.run(line) == DONE, capsys.readouterr()
            said = capsys.readouterr().out
            assert said.count("drops * to") == 2 and "'127.0.0.1:" in said
            assert shell.run("faults") == DONE and capsys.readouterr().out == "there are no faults\n"
        finally:
            target.close()
