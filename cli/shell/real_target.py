"""A cluster of processes as the shell sees it: at the client ports of its nodes, and by signals on their own host.

What befalls nodes are signals to the process that listens at the node's client port; so it works only on the node's
host. Two processes of one host cannot be cut apart without network namespaces: both are told to drop what they
have to say to each other instead (``FAULT``), which their actors cannot tell from a cut.
"""

import json
import os
import re
import signal
import threading
import time
from contextlib import suppress

from ...actors.client import Client
from ...actors.client_errors import ClientError
from ...runtime.hosts import listening_process
from ..observing import ASKED_SECONDS_MAX, OBSERVED_SECONDS_MAX, ClientProcesses
from ..outcomes import NO, REFUSED, Trouble
from .target import Pending, Target

COMPLETION_SECONDS_MAX = 1.0


class RealTarget(ClientProcesses, Target):
    """By the addresses of some of its nodes (``host:port,...``). Raises ValueError when these make no sense."""

    simulated = False

    def __init__(self, cluster: str, password: str | None, timeout_seconds: float) -> None:
        def client(seconds: float) -> Client:
            return Client(cluster, password=password or None, timeout_seconds=seconds)

        super().__init__(
            client(timeout_seconds), looker=client(OBSERVED_SECONDS_MAX), patient=client(ASKED_SECONDS_MAX)
        )
        self._hasty = client(COMPLETION_SECONDS_MAX)
        self._threads: list[threading.Thread] = []
        self._cuts: list[tuple[str, int]] = []
        """Faults that stand for cuts, by node and number."""

    def close(self) -> None:
        for client in (self._client, self._patient, self._looker, self._hasty):
            client.close()
        for thread in self._threads:
            thread.join()

    # Asking

    def begin(self, text: str, *words: str | bytes | int) -> Pending:
        pending = Pending(text, self.now())

        def run() -> None:
            try:
                pending.reply = self.execute(*words)
            except Trouble as trouble:
                pending.trouble = trouble
            pending.ended = self.now()

        thread = threading.Thread(target=run, name=text, daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()
        return pending

    # Time

    def let_pass(self, seconds: float) -> None:
        time.sleep(seconds)

    # Interfering

    def kill(self, node: str) -> None:
        self._signal(node, signal.SIGKILL)

    def pause(self, node: str) -> None:
        self._signal(node, signal.SIGSTOP)

    def resume(self, node: str) -> None:
        self._signal(node, signal.SIGCONT)

    def restart(self, node: str) -> str:
        self.execute("RING", "RESTART", node, "FORCE")
        return f"a launcher starts {node} again; `until up {node}` waits for it"

    def cut(self, one: str, other: str) -> str:
        for sender, receiver in ((one, other), (other, one)):
            to = self.bridge(receiver)
            fault = self.observe(sender, "FAULT", action="drop", type="*", **{"from": "*", "to": to})
            self._cuts.append((sender, fault["id"]))
        return f"{one} and {other} drop whatever one has to say to the other, by faults at both: no network is cut"

    def heal(self) -> str:
        healed, self._cuts = self._cuts, []
        for node, number in healed:
            with suppress(Trouble):  # it has ended, and its faults with it
                self.observe(node, "RELEASE", id=number)
        return "the network is whole" if healed else "nothing was cut by this shell"

    def _signal(self, node: str, number: int) -> None:
        """Signal the process that listens for the clients of a node: what it says of itself is not asked."""
        try:
            pid = listening_process(self.ring().by_id[node].address)
            if pid is None:
                raise Trouble(f"no process of this host listens at {node}: it is dead, or on another host", NO)
            os.kill(pid, number)
        except ProcessLookupError:
            raise Trouble(f"the process of {node} has just ended", NO) from None
        except PermissionError as refusal:
            raise Trouble(f"the process of {node} cannot be signalled: {refusal}", REFUSED) from None

    # For completion

    def actor_names(self) -> list[str]:
        names: set[str] = set()
        for where in ("here", "ecs"):
            with suppress(ClientError, ValueError):
                names.update(
                    each["name"] for each in json.loads(self._hasty.execute("RING", "OBSERVE", where, "ACTORS"))
                )
        return sorted(names)

    def message_fields(self) -> dict[str, list[str]]:
        with suppress(ClientError, ValueError):
            types = json.loads(self._hasty.execute("RING", "OBSERVE", "here", "TYPES"))
            return {name: list(each["fields"]) for name, each in types.items()}
        return {}

    def keys(self, begin: str, count: int) -> list[str]:
        found: list[str] = []
        with suppress(ClientError):
            for key in self._hasty.scan_iter(match=f"{_literal(begin)}*", count=count):
                found.append(key.decode("utf-8", "backslashreplace"))
                if len(found) >= count:
                    break
        return found


def _literal(text: str) -> str:
    """A text as a pattern that fits it alone."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
