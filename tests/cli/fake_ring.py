"""A fake cluster that also answers what the commands ask: RING verbs, CONFIG, INFO, STRLEN."""

import json
from collections import deque
from typing import Any

import msgspec
from ringkeeper.actors.backup import Block
from ringkeeper.actors.job_view import lists_in_trouble
from ringkeeper.actors.rules.life import Registration
from ringkeeper.actors.rules.ring import Ring
from ringkeeper.actors.rules.slots import Run, runs, slot
from ringkeeper.actors.rules.transitions import found
from ringkeeper.tests.actors.fake_cluster import FakeCluster, Refusal

VALUE_BYTES_MAX = 100_000
ORDERS = set(b"ADD REMOVE REPLACE REPLICAS RESTART CANCEL START STOP LIMIT DEFAULT BALANCE RECOVER RESTORE".split())


def ring_of(ports: list[int]) -> Ring:
    """A ring with one node per client port."""
    lives = [
        Registration(
            id=f"127.0.0.1:{port}",
            incarnation=f"{index + 1:016x}",
            data_id=f"{index + 101:016x}",
            host="127.0.0.1",
            port=port,
            bridge_host="127.0.0.1",
            bridge_port=index + 1,
        )
        for index, port in enumerate(ports)
    ]
    return found(lives, cluster_id="c" * 16, cluster_name="fake", nonce="d" * 16, wall_seconds=1e9, replicas=1)


class FakeRing(FakeCluster):
    """Three nodes and a ring in which each has a third of the slots."""

    def __init__(self) -> None:
        super().__init__(nodes=3)
        self.ring = ring_of(self.ports)
        self.epoch = self.ring.epoch
        addresses = [self.address(index) for index in range(3)]
        self.table = [addresses.index(node.address) for node in self.ring.coordinators if node is not None]
        self.serving, self.stopped, self.leader = True, False, "127.0.0.1:9999"
        self.asked: list[bytes] = []
        """Names of the commands about keys."""
        self.orders: list[list[str]] = []
        """What was asked for by verbs that change something."""
        self.reply: dict[str, Any] = {}
        self.refusal = ""
        """What an order gets."""
        self.course: deque[dict[str, Any]] = deque()
        """A job as each look at it finds it, the last one for ever."""
        self.ring_after: Ring | None = None
        """What the ring is once the job is done."""
        self.silent_looks = 0
        """So many looks at the jobs find nobody who leads."""
        self.frozen: dict[int, dict[bytes, bytes]] = {}
        """What each node's backup holds while it is open."""
        self.change: dict[str, Any] | None = None
        self.queue: list[dict[str, Any]] = []

    @property
    def status(self) -> dict[str, Any]:
        nodes = [
            {
                "id": node.id,
                "state": node.state,
                "token": f"{node.token:032x}",
                "slots": sum(run.size for run in self.ring.coordinated_by(node.id)),
                "share": self.ring.share(node.id),
                "incarnation": node.incarnation,
                "reachable": True,
                "keys": 4711,
                "bytes": 3 * 1024 * 1024,
                "pid": 5000 + number,
                "epoch": self.ring.epoch,
                "suspected_by": [],
            }
            for number, node in enumerate(self.ring.nodes)
        ]
        return {
            "cluster": "fake",
            "epoch": self.ring.epoch,
            "leader": self.leader,
            "serving": self.serving,
            "stopped": self.stopped,
            "change": self.change,
            "queue": self.queue,
            "trouble": None,
            "replicas": self.ring.replicas,
            "lists_in_trouble": lists_in_trouble(self.ring),
            "refused": {"127.0.0.1:1": "it is a stranger"},
            "waiting": ["127.0.0.1:2"],
            "nodes": nodes,
        }

    def _execute(self, index: int, words: list[bytes]) -> Any:
        if words[0] in (b"STRLEN", b"GET", b"SET", b"DEL"):
            self.asked.append(words[0])
        match words:
            case [b"RING", b"SHOW"]:
                return self.ring.to_json()
            case [b"RING", b"STATUS"]:
                if not self.leader:
                    raise Refusal("TRYAGAIN no ECS leads at the moment")
                return json.dumps(self.status).encode()
            case [b"RING", b"LOCATE", key]:
                node = self.ring.coordinators[slot(key)]
                assert node is not None
                located = {"slot": slot(key), "epoch": self.epoch, "coordinator": node.id, "address": node.address}
                return json.dumps({**located, "list": [{"id": node.id, "state": "up"}]}).encode()
            case [b"RING", b"JOBS"]:
                return json.dumps(self._jobs()).encode()
            case [b"RING", b"BACKUP", verb, *rest]:
                return self._backup(index, verb, rest)
            case [b"RING", verb, *rest] if verb in ORDERS:
                self.orders.append([word.decode() for word in (verb, *rest)])
                if self.refusal:
                    raise Refusal(self.refusal)
                return json.dumps(self.reply).encode()
            case [b"CONFIG", b"GET", name]:
                return [name, b"%d" % VALUE_BYTES_MAX]
            case [b"INFO", *_]:
                return b"# Server\r\nprocess_id:%d\r\n" % (6000 + index)
            case [b"STRLEN", key]:
                return len(self.values.get(key, b""))
        return super()._execute(index, words)

    def _jobs(self) -> dict[str, Any]:
        if self.silent_looks:
            self.silent_looks -= 1
            raise Refusal("TRYAGAIN no ECS leads at the moment")
        jobs = [self.course.popleft() if len(self.course) > 1 else self.course[0]] if self.course else []
        if jobs and jobs[0]["state"] == "done" and self.ring_after is not None:
            self.ring = self.ring_after
        return {"epoch": self.ring.epoch, "jobs": jobs}

    def _backup(self, index: int, verb: bytes, rest: list[bytes]) -> Any:
        """One part for each run of slots, all of it in one block; its mark tells which keys are in it."""
        if verb == b"CLOSE":
            return "OK" if self.frozen.pop(index, None) is not None else None
        if verb == b"OPEN":
            mine = [run for run, owner in runs(self.table) if owner == index]
            self.frozen[index] = dict(self.values)
            parts = [
                {
                    "first": run.first, "last": run.last, "keys": len(held), "bytes": 0,
                    "mark": repr([key for key, _, _ in held]),
                }
                for run in mine for held in [self._held(index, run)]
            ]  # fmt: skip
            return json.dumps({"backup": index, "epoch": self.epoch, "parts": parts}).encode()
        first, last = map(int, rest[1:3])
        records = self._held(index, Run(first, last)) if len(rest) == 3 else []
        return msgspec.msgpack.encode(Block(records, None))

    def _held(self, index: int, run: Run) -> list[tuple[bytes, bytes, int]]:
        held = sorted(self.frozen[index].items())
        return [(key, value, 0) for key, value in held if run.first <= slot(key) <= run.last]

    @staticmethod
    def _keys(words: list[bytes]) -> list[bytes]:
        return words[1:2] if words[0] == b"STRLEN" else FakeCluster._keys(words)
