"""Asks the processes of a running cluster what they know of themselves, all at once, whoever of them is dead.

Nodes are asked at their own client ports, the leading ECS and the launchers by way of any node (``RING OBSERVE``). A
process that does not answer is a sentence, not an error: the others have something to say.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..actors.client import Client

ECS = "the leading ECS"

ASKED_AT_ONCE_MAX = 32

IN_FEW_WORDS = {
    "refused": "nobody listens there",
    "unreachable": "it cannot be reached",
    "silent": "it says nothing",
    "TRYAGAIN": "nobody leads, or it is busy",
}
"""What a client says of why it was not answered, without advice for those who wanted something done."""


class Observed:
    """The processes of a cluster, as far as they are known; dead ones are remembered by the last ring that was read."""

    def __init__(self, client: "Client") -> None:
        """Raises ClientError when nobody tells what the ring is."""
        self._client = client
        self.ring: dict[str, Any] = client.ring()
        self._launchers: tuple[str, ...] = ()

    def look_again(self) -> None:
        """Learn which processes there are now; who is silent changes nothing."""
        from ..actors.client_errors import ClientError

        try:
            self.ring = self._client.ring()
            status = json.loads(self._client.execute("RING", "STATUS"))
            self._launchers = tuple(status.get("launchers", {}).values())
        except ClientError:
            pass  # the last ring that was read still says whom to ask

    @property
    def nodes(self) -> dict[str, str]:
        """The nodes that are not out: by id, the address for clients."""
        return {
            node["id"]: f"{node['host']}:{node['port']}" for node in self.ring["nodes"] if node.get("state") != "out"
        }

    def ask(
        self, word: str, arguments: Mapping[str, Mapping[str, Any]] | None = None, *, launchers: bool = False
    ) -> dict[str, Any]:
        """What each process answers to a word, by what people call it; a sentence (str) where one does not.
        ``arguments`` is by that name, too."""
        arguments = arguments or {}
        whom: dict[str, Callable[[str], Any]] = {}
        for id, address in self.nodes.items():
            whom[f"node {id}"] = lambda text, address=address: self._client.execute_on(  # type: ignore[misc]
                address, "RING", "OBSERVE", "here", word, text
            )
        whom[ECS] = lambda text: self._client.execute("RING", "OBSERVE", "ecs", word, text)
        for bridge in self._launchers if launchers else ():
            whom[f"the launcher at {bridge}"] = lambda text, bridge=bridge: self._client.execute(  # type: ignore[misc]
                "RING", "OBSERVE", bridge, word, text
            )
        texts = {name: json.dumps(dict(arguments.get(name, {}))) for name in whom}
        with ThreadPoolExecutor(min(len(whom), ASKED_AT_ONCE_MAX)) as threads:
            asked = {name: threads.submit(_answer, ask, texts[name]) for name, ask in whom.items()}
            return {name: answer.result() for name, answer in asked.items()}


def _answer(ask: Callable[[str], Any], text: str) -> Any:
    from ..actors.client_errors import ClientError

    try:
        return json.loads(ask(text))
    except ClientError as trouble:
        return IN_FEW_WORDS.get(trouble.code, str(trouble))


class Complaints:
    """Says once of each process that it does not answer, and that it does again."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say
        self._silent: set[str] = set()

    def look_at(self, answers: Mapping[str, Any]) -> None:
        for name, answer in answers.items():
            if isinstance(answer, str) and name not in self._silent:
                self._silent.add(name)
                self.say(f"{name} does not answer: {answer}")
            elif not isinstance(answer, str) and name in self._silent:
                self._silent.discard(name)
                self.say(f"{name} answers again")


class EventsOf:
    """Follows the events of all processes: each of them is told once, in order of time."""

    def __init__(self, observed: Observed, complaints: Complaints) -> None:
        self._observed, self._complaints = observed, complaints
        self._places: dict[str, tuple[float, int]] = {}
        """By process, which life of it was heard, and the number of the event that comes next."""
        self._heard: dict[tuple[str, float], int] = {}
        """The same of every life: a leader that follows another may have led before."""

    def new(self) -> list[dict[str, Any]]:
        """What has happened since the last time; whatever is gone meanwhile is complained about."""
        found: list[dict[str, Any]] = []
        while True:
            since = {name: {"since": number} for name, (_, number) in self._places.items()}
            answers = self._observed.ask("EVENTS", since, launchers=True)
            self._complaints.look_at(answers)
            more = False
            for name, told in answers.items():
                if not isinstance(told, str):
                    more = self._take(name, told, found) or more
            if not more:
                return sorted(found, key=lambda event: (event["at"], event["process"], event["number"]))

    def _take(self, name: str, told: dict[str, Any], found: list[dict[str, Any]]) -> bool:
        """Whether there is more to be asked for."""
        began, known = told["began"], self._places.get(name)
        if known is not None and known[0] != began:  # another life, or another leader, has numbers of its own
            heard = self._heard.get((name, began), 0)
            if heard != known[1]:
                self._places[name] = began, heard
                return True
        if known is not None and told["lost"]:
            self._complaints.say(f"{name} does not remember {told['lost']} more events: they came too fast")
        found += told["events"]
        self._places[name] = began, told["next"]
        self._heard[name, began] = told["next"]
        return bool(told["more"])


def in_words(event: Mapping[str, Any]) -> str:
    """An event for people, in a line."""
    import time

    cause = f" ({event['cause']})" if event["cause"] else ""
    milliseconds = int(event["at"] * 1000) % 1000
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"])) + f".{milliseconds:03d}"
    return f"{moment}  {event['process']}  {event['kind']}: {event['sentence']}{cause}"


def of_kinds(events: Iterable[dict[str, Any]], kinds: Iterable[str]) -> list[dict[str, Any]]:
    """Those of some kinds; of all where none is named."""
    wanted = set(kinds)
    return [event for event in events if not wanted or event["kind"] in wanted]
