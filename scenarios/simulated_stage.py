"""Plays a story in the simulation: time passes inside the verbs of the stage, and nowhere else.

Everything comes from the seed: the story's dice, the network's, each client's. So the same story with the same seed is
the same run to the last message, and the hash of its trace says whether two runs were (``trace``).

Who took itself for the coordinator of which slots (``tenures``) is looked at every few milliseconds of virtual time, at
each node that has read another ring; whether a comparison has found that copies differ, which they may do only where a
disk has lied; and when a change has been committed, whether whoever is up by it holds everything that was acknowledged.
Whoever forgets slots is looked at in that moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..actors.client_requests import as_text
from ..actors.rules import paths
from ..actors.rules.placement import Place
from ..actors.rules.ring import Ring
from ..actors.rules.slots import SLOTS, Run, runs
from ..actors.rules.slots import slot as slot_of
from ..runtime.simulation.resp_caller import ErrorReply, NoReply
from ..runtime.simulation.trace import Trace
from ..runtime.simulation.world import TURN_SECONDS, SimulatedWorld
from ..runtime.store import Corrupt, Full, Record, StoreError
from ..runtime.store.layout import PREFIXES, decode, encode
from .checks import ClusterState, Held, NodeState, Tenure, Violation, every_slot_served, expiring
from .history import Outcome
from .simulated import Machine, SimulatedCluster, SimulatedNode
from .simulated_client import Outcome as Ended
from .simulated_client import SimulatedClient
from .stage import COMMAND_SECONDS_MAX, NO_ROOM, Lie, Life, Load, Moment, NotInTime, RefusedByCluster, Stage
from .workload import Manner, Workload

LOOK_SECONDS, LOOK_SECONDS_MAX = 0.005, 0.1
"""The pause between two looks at what is waited for: at first, and after many."""

TENURE_SECONDS = 0.004
"""How often it is looked who has read another ring."""

COMMAND_PAUSE_SECONDS = 0.1

SCRUB_PAUSE_SECONDS = 2.0
"""From the begin of one comparison in the background to that of the next, where there are any."""

LOAD_ENDS_SECONDS_MAX = 30.0
"""Clients give their operations up much sooner."""

GREETINGS: dict[Manner, tuple[tuple[str, ...], ...]] = {
    "": (),
    "fleeting": (),
    "hasty": (("RING", "ACKS", "ONE"),),
    "stale": (("READONLY",),),
    "heavy": (),
}
"""What connections begin with."""

OUTCOMES: dict[str, Outcome] = {"yes": "ok", "no": "not", "maybe": "maybe"}


class SimulatedLoad(Load):
    """Clients in processes of their own."""

    def __init__(self, stage: SimulatedStage, workloads: Sequence[Workload], operations_per_second: float) -> None:
        super().__init__(stage, workloads, operations_per_second)
        self._cluster = stage.cluster
        self._random = stage.cluster.world.stream(f"pace of {workloads[0].client}")
        self._ending = False
        self._busy = len(workloads)
        for workload in workloads:
            self._ask_later(workload, stage.cluster.client(workload.client, GREETINGS[workload.manner]))

    def _ask_later(self, workload: Workload, client: SimulatedClient) -> None:
        self._cluster.world.loop.call_later(self._random.uniform(*self.pause_seconds), self._ask, workload, client)

    def _ask(self, workload: Workload, client: SimulatedClient) -> None:
        if self._ending:
            self._busy -= 1
            return
        task = workload.next()
        number = self._invoked(workload, task)

        def done(ended: Ended) -> None:
            self._completed(workload, task, number, OUTCOMES[ended.happened], ended.reply, ended.node)
            self._ask_later(workload, client)

        # Who reads what may be stale asks anybody: most have a copy, and others say no.
        client.call(task.words, done, node=self._random.choice(client.seeds) if workload.manner == "stale" else None)

    def _stop(self) -> bool:
        if self._ending:
            return False
        self._ending = True
        if not self._cluster.world.run_until(lambda: not self._busy, LOAD_ENDS_SECONDS_MAX):
            self.troubles.append(f"{self._busy} clients still wait for an answer")
        return True


class SimulatedStage(Stage):
    """A `SimulatedCluster` as a stage. ``check``: the actors' invariants are looked at after every message."""

    def __init__(
        self,
        seed: int | str,
        *,
        tell: Callable[[Moment], object] | None = None,
        check: bool = True,
        tell_trace: Callable[[str], object] | None = None,
    ) -> None:
        """``tell_trace`` is called with every line of the trace."""
        super().__init__(seed, tell=tell)
        self.make_world: Callable[..., SimulatedWorld] = SimulatedWorld
        self._check, self._tell_trace = check, tell_trace
        self._cluster: SimulatedCluster | None = None
        self._ring_read: tuple[bytes, Ring] | None = None
        self._ring_judged: Ring | None = None
        """The last that it was looked at whether it is a commit."""
        self._noted: dict[str, tuple[str, int]] = {}
        """By node, the incarnation and the epoch that its last tenure was noted for."""
        self._differed = False
        """Whether it is told that copies differ."""
        self._slowed: set[str] = set()
        self._delayed: set[tuple[str, str]] = set()
        self._commands = 0
        self._zookeeper_copied_at = 0.0

    @property
    def cluster(self) -> SimulatedCluster:
        assert self._cluster is not None, "no cluster was started on this stage yet"
        return self._cluster

    @property
    def started(self) -> bool:
        """Whether there is a cluster."""
        return self._cluster is not None

    @property
    def trace(self) -> str:
        """The hash of all that has happened."""
        return self.cluster.world.trace.digest()

    @property
    def messages(self) -> int:
        """How many messages actors have handled."""
        return self.cluster.world.trace.messages

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()

    # Time

    def now(self) -> float:
        return self._cluster.now if self._cluster is not None else 0.0

    def let_pass(self, seconds: float) -> None:
        self.cluster.run(seconds)

    def _wait(self, condition: Callable[[], bool], seconds_max: float, *, closely: bool = False) -> bool:
        if closely:
            return self.cluster.world.run_until(condition, seconds_max)
        end, pause = self.now() + seconds_max, LOOK_SECONDS
        while not condition():
            if self.now() >= end:
                return False
            self.cluster.run(pause)
            pause = min(pause * 1.1, LOOK_SECONDS_MAX)
        return True

    # Looking

    def ring(self) -> Ring | None:
        content = self.cluster.zookeeper.read(paths.ring(self.cluster.name))
        if content is None:
            return None
        if self._ring_read is None or self._ring_read[0] != content:
            self._ring_read = content, Ring.from_json(content)
        return self._ring_read[1]

    def lives(self) -> dict[str, Life]:
        return {
            node.machine.id: Life(node.incarnation, node.actor("storage").last_stamp[0])
            for node in self.cluster.nodes()
        }

    def state(self) -> ClusterState:
        ring = self.ring()
        if ring is None:
            raise NotInTime("there is no ring")
        return ClusterState(ring=ring, nodes=tuple(map(_state_of, self._readable(ring))))

    def _waits_on_purpose(self, id: str) -> bool:
        node = self.cluster.node(id)  # one that holds what it cannot read never parts with it
        return node.had_left or bool(node.actor("member")._leaves_when_empty and node.store.damage)

    def _readable(self, ring: Ring) -> list[SimulatedNode]:
        """All nodes, but who is out of the ring and holds what it cannot read: it keeps that, and its log says so."""
        inside = {node.id for node in ring.circle}
        return [
            node for node in self.cluster.nodes() if node.machine.id in inside or not node.actor("scrubber")._damage
        ]

    def _answers(self) -> bool:
        """As that of every stage, asked often: no record is looked at."""
        ring = self.ring()
        return ring is not None and not every_slot_served(
            ClusterState(ring=ring, nodes=tuple(map(_serving_of, self.cluster.nodes())))
        )

    def _tidy(self) -> bool:
        """As that of every stage, asked often: only the keys are looked at. A record that a disk has made to lie is
        about to be dropped, or it is made anew."""
        ring = self.ring()
        passing = expiring(self.history)
        waiting = {node.id for node in ring.nodes if node.given_up} if ring is not None else set()
        with suppress(Corrupt):
            return ring is not None and all(
                any(member.id == node.machine.id for member in ring.lists[slot]) and key not in passing
                for node in self._readable(ring)
                if node.machine.id not in waiting
                for slot, key, _ in _records(node)
            )
        return False

    def _note_tenures(self) -> None:
        for node in self.cluster.nodes():
            id, storage = node.machine.id, node.actor("storage")
            now = node.incarnation, storage.last_stamp[0]
            if self._noted.get(id) != now:
                self._noted[id] = now
                slots = tuple(Run(first, last) for first, last in storage.own_runs())
                self.tenures.append(Tenure(node=id, incarnation=now[0], epoch=now[1], slots=slots))
            if node.actor("scrubber")._differed and not (self._lied or self._differed):
                self._differed = True
                sentence = f"{id} has found copies that differ at one number, though no disk has lied"
                self.unmet.append(Violation(check="copies_equal", sentence=sentence))
        self._look_at_commit()
        self.cluster.world.loop.call_later(TENURE_SECONDS, self._note_tenures)

    def _look_at_commit(self) -> None:
        """When a change is committed, whoever is up by it holds what was acknowledged until then."""
        before, ring = self._ring_judged, self.ring()
        self._ring_judged = ring
        if before is None or ring is None or ring.epoch <= before.epoch or ring.history[-1].outcome != "done":
            return
        lives = {(node.machine.id, node.incarnation): node for node in self.cluster.nodes()}
        acknowledged = {(each.key, each.argument) for each in self.history if each.outcome == "ok" and each.may_write}
        for (id, _), holder in lives.items():
            try:
                records = _records(holder)
            except Corrupt:  # a disk that lies is no witness
                continue
            for slot, key, record in records:
                first = next((node for node in before.lists[slot] if node.state == "up"), None)
                if first is None or first.id != id or (key, record.value) not in acknowledged:
                    continue
                for member in ring.lists[slot]:
                    life = lives.get((member.id, member.incarnation)) if member.state == "up" else None
                    if life is not None and life.store.number(slot) < (record.epoch, record.seq):
                        sentence = f"{member.id} is up in slot {slot} by ring {ring.epoch} and lacks {as_text(key)}"
                        self.unmet.append(Violation(check="up_members_hold_everything", sentence=sentence))
                        return

    def _dropping(self, machine: Machine, slots: list[int]) -> None:
        """Nothing is dropped where a list has a member that is not up, by the ring of whoever drops."""
        assert machine.node is not None
        ring: Ring = machine.node.actor("replica")._ring
        bad = [slot for slot in slots if any(member.state != "up" for member in ring.lists[slot])]
        if bad:
            members = ", ".join(f"{member.id} ({member.state})" for member in ring.lists[bad[0]])
            self.unmet.append(
                Violation(
                    check="nothing_dropped_too_early",
                    sentence=f"{machine.id} drops slot {bad[0]} in ring {ring.epoch}, which is held by {members}",
                )
            )

    # What the world does

    def _command(self, verb: str, *arguments: str) -> dict[str, Any]:
        end, said = self.now() + COMMAND_SECONDS_MAX, "no node runs"
        while self.now() < end:
            awake = [node.machine.id for node in self.cluster.nodes() if not node.process.paused]
            if awake:
                self._commands += 1
                reply = self.cluster.execute(awake[self._commands % len(awake)], "RING", verb, *arguments)
                if not isinstance(reply, ErrorReply | NoReply):
                    return dict(json.loads(reply))
                said = str(reply)
                if said.startswith("ERR "):
                    raise RefusedByCluster(said)
            self.cluster.run(COMMAND_PAUSE_SECONDS)
        raise RefusedByCluster(f"RING {verb} was tried for {COMMAND_SECONDS_MAX:g} s: {said}")

    def _load(self, workloads: Sequence[Workload], operations_per_second: float) -> Load:
        return SimulatedLoad(self, workloads, operations_per_second)

    def _start(
        self, nodes: int, ecs: int, fsync: str, replicas: int, min_copies: int, out_after: float, place: Place
    ) -> None:
        self._cluster = SimulatedCluster(
            self.seed,
            nodes=nodes,
            ecs=ecs,
            fsync=fsync,
            replicas=replicas,
            min_copies=min_copies,
            out_after_seconds=out_after,
            place=place,
            check=self._check,
            trace=Trace(tell=self._tell_trace),
            make_world=self.make_world,
            scrub_bytes_per_second=self._scrub or 0,
            scrub_pause_seconds=SCRUB_PAUSE_SECONDS,
        )
        self.cluster.on_drop = self._dropping
        self._note_tenures()

    def _join(self, count: int, place: Place | None) -> tuple[str, ...]:
        ids = tuple(self.cluster.new_node(joins=place is None) for _ in range(count))
        if place is not None:
            self._wait(lambda: set(ids) <= set(self._command("STATUS")["waiting"]), COMMAND_SECONDS_MAX)
            self._command("ADD", "NODE", *ids, "PLACE", place)
        return ids

    def _replace(self, id: str) -> dict[str, Any]:
        new = self.cluster.new_node(joins=False)
        self._spare.add(new)
        self._wait(lambda: new in self._command("STATUS")["waiting"], COMMAND_SECONDS_MAX)
        return self._command("REPLACE", id, new)

    def _kill(self, id: str) -> None:
        self.cluster.kill(id)

    def _restart(self, id: str) -> None:
        self._resume(id)
        if self.cluster.process(id).alive:
            self.cluster.node(id).end(lambda: self.cluster.start_later(id))
        else:
            self.cluster.start_node(id)

    def _pause(self, id: str) -> None:
        if self.cluster.process(id).alive:
            self.cluster.pause(id)

    def _resume(self, id: str) -> None:
        process = self.cluster.process(id)
        if process.alive and process.paused:
            self.cluster.resume(id)

    def _slow(self, id: str, turn_seconds: float) -> None:
        self.cluster.slow(id, turn_seconds or TURN_SECONDS)
        self._slowed.add(id)

    def _delay(self, sender: str, id: str, seconds: float) -> None:
        self.cluster.world.network.delay(sender, id, seconds)
        self._delayed.add((sender, id))

    def _partition(self, some: tuple[str, ...], others: tuple[str, ...], one_way: bool) -> None:
        self.cluster.partition(some, others, one_way=one_way)

    def _reset(self, one: str, other: str) -> None:
        self.cluster.world.network.reset(one, other)

    def _heal(self) -> None:
        self.cluster.heal()

    def _lose_session(self, id: str) -> None:
        if self.cluster.process(id).alive:
            self.cluster.lose_session(id)

    def _zookeeper_away(self, seconds: float) -> None:
        self.cluster.zookeeper_away(seconds)

    def _copy_zookeeper(self) -> None:
        self._zookeeper_copied_at = self.now()

    def _put_zookeeper_back(self) -> None:
        self.cluster.zookeeper_rolls_back(self.now() - self._zookeeper_copied_at)

    def _kill_ecs_leader(self) -> str:
        leader = self.cluster.leader()
        if leader is None:
            return ": there is none"
        self.cluster.kill(leader)
        self.cluster.start_later(leader)
        return f": {leader}"

    def _pause_ecs_leader(self, seconds: float) -> str:
        leader = self.cluster.leader()
        if leader is None:
            return ": there is none"
        self.cluster.pause(leader)
        self.cluster.world.loop.call_later(seconds, self._resume, leader)
        return f": {leader}"

    def _cut_power(self, id: str) -> None:
        self.cluster.cut_power(id)

    def _crash_disk(self, id: str) -> None:
        self.cluster.lose_disk(id)

    def _fill_disk(self, id: str, full: bool) -> None:
        self.cluster.fill_disk(id, full)

    def _fail_syncs(self, id: str, failure: str) -> None:
        kind = Full if failure == NO_ROOM else StoreError
        self.cluster.fail_syncs(id, kind(failure) if failure else None)

    def _lie(self, id: str, how: Lie) -> bytes:
        disk = self.cluster.machines[id].disk.records
        held: dict[bytes, Record] = {}
        for key in self.keys().all:
            disk_key = PREFIXES[slot_of(key)] + key
            if (data := disk.get(disk_key)) is not None:
                with suppress(ValueError):  # it lies about this one already
                    held[key] = decode(disk_key, data)
        if not held:
            raise NotInTime(f"{id} holds no key that is used")
        key = self.random.choice(sorted(held))
        record, disk_key = held[key], PREFIXES[slot_of(key)] + key
        lies: dict[Lie, bytes | None] = {
            "flip": _flipped(encode(disk_key, record)),
            "value": encode(disk_key, Record(record.value + b"?", record.epoch, record.seq, record.expiry)),
            "expiry": encode(disk_key, Record(record.value, record.epoch, record.seq, record.expiry + 1_000_000)),
            "nothing": None,
        }
        disk.lie(disk_key, lies[how])
        return key

    def _ask(self, id: str, *words: str) -> dict[str, Any] | None:
        if not self.cluster.process(id).alive:
            return None
        reply = self.cluster.execute(id, *words)
        return None if isinstance(reply, ErrorReply | NoReply) else dict(json.loads(reply))

    def _order(self, id: str, *words: str) -> None:
        if self.cluster.process(id).alive:
            self.cluster.send(id, *words)

    def _kill_everything(self) -> None:
        for name in (*self.cluster.ecs, *self.cluster.machines, *self.cluster.zookeeper.names):
            self.cluster.kill(name)

    def _cut_all_power(self) -> None:
        for name in (*self.cluster.ecs, *self.cluster.machines, *self.cluster.zookeeper.names):
            self.cluster.cut_power(name)

    def _start_everything(self) -> None:
        cluster, ring = self.cluster, self.ring()
        cluster.zookeeper.start()
        for name in cluster.ecs:
            if not cluster.process(name).alive:
                cluster.start_ecs(name)
        for id in sorted(cluster.machines):
            known = ring.by_id.get(id) if ring is not None else None
            gone = id in self._away and not self.rolled_back  # whom an older ring does not know a newer one may need
            left = known.state == "out" and not known.given_up if known is not None else gone
            if not left and not cluster.process(id).alive:
                cluster.start_node(id)

    def _end_faults(self) -> None:
        for name in (*self.cluster.ecs, *sorted(self.cluster.machines)):
            self._resume(name)
        for id in sorted(self._slowed):
            self._slow(id, 0.0)
        self._slowed.clear()
        for sender, id in sorted(self._delayed):
            self.cluster.world.network.delay(sender, id, 0.0)
        self._delayed.clear()
        self.cluster.heal()


def _serving_of(node: SimulatedNode) -> NodeState:
    """What a node does, without what it holds."""
    storage = node.actor("storage")
    serving = [run for run, serves in runs(storage.reads_served) if serves]
    return NodeState(
        id=node.machine.id,
        incarnation=node.incarnation,
        epoch=storage.last_stamp[0],
        serving=tuple(serving),
        records={},
    )


def _state_of(node: SimulatedNode) -> NodeState:
    return replace(
        _serving_of(node),
        records={
            key: Held(value=record.value, version=(record.epoch, record.seq), expiry=record.expiry)
            for _, key, record in _records(node)
        },
        numbers={slot: (epoch, seq) for slot, epoch, seq in node.store.numbers(0, SLOTS)},
    )


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _records(node: SimulatedNode) -> list[tuple[int, bytes, Record]]:
    """All that a node holds: slot, key, record."""
    return node.store.scan(0, SLOTS - 1, None, 1 << 60, 1 << 60)
