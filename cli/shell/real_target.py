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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from ...actors.client import Client
from ...actors.client_errors import ClientError, CommandError
from ...actors.rules.ring import Ring
from ...runtime.hosts import listening_process
from ..outcomes import IN_DOUBT, NO, REFUSED, Trouble
from .target import Pending, Target

Answer = TypeVar("Answer")

OBSERVED_SECONDS_MAX = 7.0
"""A gateway waits for an observer for 5 s, and says so then."""
ASKED_SECONDS_MAX = 67.0
"""... and for what an actor or code was asked, as much longer as somebody wishes, at most a minute."""
COMPLETION_SECONDS_MAX = 1.0
ASKED_AT_ONCE_MAX = 32
SAYS = re.compile(r"says: (?:ERR )?(.*?)\. Nothing was changed, and the same command would fail again\.", re.DOTALL)
"""What a node has said, in the text of an error."""
WHY = re.compile(r"(?:was not done|is in doubt)[^:]*: (.*?)\. (?:Nothing was|Reading changes|It may have)", re.DOTALL)
"""What stood in the way, in the text of an error."""


class RealTarget(Target):
    """By the addresses of some of its nodes (``host:port,...``). Raises ValueError when these make no sense."""

    simulated = False

    def __init__(self, cluster: str, password: str | None, timeout_seconds: float) -> None:
        def client(seconds: float) -> Client:
            return Client(cluster, password=password or None, timeout_seconds=seconds)

        self._client = client(timeout_seconds)
        self._patient = client(ASKED_SECONDS_MAX)
        self._looker = client(OBSERVED_SECONDS_MAX)
        self._hasty = client(COMPLETION_SECONDS_MAX)
        self._threads: list[threading.Thread] = []
        self._cuts: list[tuple[str, int]] = []
        """Faults that stand for cuts, by node and number."""
        self._began = time.monotonic()

    def close(self) -> None:
        for client in (self._client, self._patient, self._looker, self._hasty):
            client.close()
        for thread in self._threads:
            thread.join()

    # Asking

    def execute(self, *words: str | bytes | int) -> Any:
        return _in_words(lambda: self._client.execute(*words))

    def execute_on(self, node: str, *words: str | bytes | int) -> Any:
        return _in_words(lambda: self._client.execute_on(node, *words))

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

    def _observed(self, node: str, where: str, word: str, arguments: dict[str, Any]) -> Any:
        client = self._patient if word in ("ASK", "PY") else self._looker
        try:
            return json.loads(client.execute_on(node, "RING", "OBSERVE", where, word, json.dumps(arguments)))
        except CommandError as error:
            raise Trouble(said(error), REFUSED) from error
        except ClientError as error:
            found = WHY.search(str(error))
            raise Trouble(found[1] if found is not None else error, REFUSED) from error

    def of_each(self, ask: Callable[[str], Any], places: list[str]) -> list[Any]:
        with ThreadPoolExecutor(ASKED_AT_ONCE_MAX) as threads:  # who hangs keeps nobody waiting but itself
            return list(threads.map(ask, places))

    # Who there is

    def ring(self) -> Ring:
        return Ring.from_json(self.execute("RING", "SHOW"))

    def status(self) -> dict[str, Any]:
        from ..show import read_status

        return _in_words(lambda: read_status(self._client))

    # Time

    def now(self) -> float:
        return time.monotonic() - self._began

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


def _in_words(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except CommandError as error:
        raise Trouble(said(error), REFUSED) from error
    except ClientError as error:
        raise Trouble(error, IN_DOUBT if error.happened == "maybe" else REFUSED) from error
    except ValueError as error:
        raise Trouble(error, REFUSED) from error


def said(error: CommandError) -> str:
    """What the node has said, without what every such error says."""
    found = SAYS.search(str(error))
    return found[1] if found is not None else str(error)


def _literal(text: str) -> str:
    """A text as a pattern that fits it alone."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
