"""The database, one actor a file. This is the map: who talks to whom, and what happens when.

    clients <--RESP--> Gateway <--> StorageNode <--> Syncer          in every node process
                          ^              ^   |--> Replicator -------> Replica of every successor
                          |              |   '--> Handoff ----------> Replica of a learner
                          |   Member ----+---- FailureDetector
                          |     ^                    ^
       (verbs, figures)   |     | the ring           | heartbeats
                          v     v                    v
                         Ecs --> ZooKeeper          the other nodes

A node process runs `Member`, `Gateway`, `StorageNode` (with `acknowledging.py`, `tenures.py`, `slot_view.py`,
`whole_node.py` and `expiry.py`), `Replicator`, `Replica`, `Syncer`, `Scrubber`, `Backup` and `FailureDetector`, a
`Handoff` for each run of slots that it makes another node equal for (paced by `pace.py`), and for a moment a
`Takeover`; an ECS process runs `Ecs` (with `ecs_verbs.py`, `job_view.py` and `restoring.py`) and `Balancer`; both run
`Watches`, which turns ZooKeeper into messages, and `Election`, which knows who leads. `Launcher` starts processes on
one machine. Every process has an `Observer`, by which people look into it. What they say to each other is in
`messages.py`; what they decide by is pure and in `rules/`; what they run on, knowing nothing of keys or rings, is in
``runtime/``. `processes.py` puts the parts of each process together by `config.py`; `node_folder.py` and
`cluster_folder.py` keep what is on disk. A program meets all this through `local.py`,
a cluster of its own, and `client.py` or `async_client.py`, over what these share: `client_engine.py` with its parts
`client_requests.py`, `client_links.py`, `client_map.py`, `client_pacing.py`, `client_errors.py`.

*A process becomes part of the cluster*

1.  `processes.py` opens the node's folder, gives the process a new incarnation and spawns the actors.
2.  `Member` tells the others the ring that the disk holds, if any, so that clients are sent to the right nodes.
3.  `Watches` reaches ZooKeeper and tells `Connected`; `Member` sends `CreateNode`: the registration, ephemeral.
4.  The leading `Ecs` is told `ChildrenChanged`, reads the registration by `ReadNode`, and looks: with enough nodes
    and no ring it founds one (`transitions.py`), with a known node in a new life it writes a ring that names this
    life. It writes by `SetNode`, a compare-and-set.
5.  Every `Member` is told `NodeChanged`, checks that the ring descends from the one it holds, puts it on disk, says
    so in its registration (`SetNode`) and tells `RingChanged`. `StorageNode` serves the slots that the ring gives to
    its incarnation.

*A put*

1.  Everything that the clients sent in one turn of the loop reaches `Gateway` as one `Requests`
    (``runtime/resp.py``).
2.  `Gateway` answers what concerns the connection and sends the data commands of all clients on as one `Execute`.
3.  `StorageNode` runs them in order, stamps each write with epoch and number, and commits one batch to the store. For
    a slot of another node it answers MOVED instead.
4.  Under ``fsync = always`` the replies wait: `Sync` to the `Syncer`, then `Synced`.
5.  Where there are successors it tells the `Replicator` by `Follow` what was written; that sends each of them an
    `Append`. `Replica` there looks whether the sender coordinates the slots in the newest ring that it has read,
    applies what is above their numbers, and says `Appended`; `PeerHolds` brings it back. When all hold it, the replies
    that were LATER in `Executed` come by `Settled`.
6.  `Executed` goes back; `Gateway` writes each connection's replies in the order of its requests, once per turn.

*A node joins*

1.  A process registers as in the first story, but the ring does not name it. ``RING ADD`` (`RunVerb`) has a
    `Launcher` start such processes (`StartNodes`, `NodesStarted`); started by hand they come as well.
2.  `Ecs` waits a second for others and writes a ring with a change in flight (`change.py`, `transitions.py`): the
    nodes that come, at the tokens that `placement.py` gives them, and the phase *transfer*. Where they are to go where
    the load is (``PLACE relief``) it has asked the `Balancer` for that before (`GatherLoads`, `LoadsGathered`).
3.  Every `StorageNode` is told `RingChanged` and plans (`plan.py`): for each run of its slots that gets another
    member it starts a `Handoff`, which asks the `Replica` of that node to `Learn`. `Learning` says yes; `Disowned`
    says why not.
4.  The `Handoff` walks: `Survey`, `Surveyed`, `ListKeys`, `KeysListed` find what differs, each `Chunk` makes a
    stretch equal; `Follow` brings it the writes that clients make meanwhile, `Replicate` those behind its cursor.
    `Replicated` acknowledges. At the end it tells `HandoffReached`, and `StorageNode` tells the `Ecs` by
    `ChangeReported`.
5.  All coordinators have reported: `Ecs` writes *switch*. `StorageNode` sends `Prove` to its handoffs, and from now
    on a write is answered only when `LearnerHolds` says that the learner has it; until then the Gateway has LATER,
    and the reply comes by `Settled`.
6.  It holds everywhere: `Ecs` writes *seal*. Writes to the slots that move are parked. Once all is proved, synced,
    and the learner has read the ring, `StorageNode` is Ready: it says so (`ChangeReported`), and parks reads as well.
7.  Everybody is Ready: `Ecs` writes the ring as planned. The old coordinator answers what it has parked MOVED, the
    new one runs it. Some seconds later the old one's `Replica` asks the new one `MayDrop`, hears `DropAllowed`, and
    forgets.

    What clients ask of one key is done in their order, whatever is parked; between keys of different slots no order is
    promised while slots move.

*A node leaves*

1.  ``RING REMOVE``: `Ecs` writes the wish into the ring's queue, and the change when its turn has come; then as
    above.
2.  The ring calls the node out: `Member` lingers, so that clients hear MOVED, then its process ends; the `Launcher`
    finds in its folder that it left, and forgets it.

*Something goes wrong on the way*

1.  A node dies: the ring that says so makes a wish of the change (R8); it is planned anew when it can be.
2.  Who joins dies, or a phase lasts too long: `Ecs` writes a ring without the change. What was parked is run after
    all; what was moved in vain is dropped later, or spares the next change the walk.
3.  The `Ecs` dies: the next leader reads the phase from the ring, hears `ChangeReported` from everybody, and goes on.

*Somebody asks for the status*

1.  ``RING STATUS`` reaches the `Gateway` of any node; it sends `RunVerb` over the bridge to the `Ecs` that
    `LeaderChanged` named.
2.  `Ecs` sends `ReportFigures` to the `StorageNode` of every node that is up, and waits a second for their `Figures`.
3.  `VerbRun` goes back with the text; the client gets it, or TRYAGAIN when nobody leads.

*Somebody looks into a process*

1.  ``RING OBSERVE where word`` reaches the `Gateway` of any node. It sends `Observe` to the `Observer` of the process
    that is meant (``runtime/observer.py``): its own, the leading ECS's, or any other, over the bridge.
2.  `Observed` brings the answer, as JSON. Shell, ``top`` and ``events`` see and do all this way, in the simulation too
    (``cli/observing.py``). ``TELL``, ``ASK`` and ``FAULT`` interfere (``runtime/interfering.py``), ``PY`` runs code
    (``probes.py``), both only where a process was started for it.
3.  ``TRACE`` has an observer follow a key, an actor or a type of message through its process (``runtime/tracing.py``).
    What belongs to the journey of a key says `key_journey.py`; whoever asks starts it in all processes, and
    ``rules/journey.py`` makes one story of what they have seen.
4.  What an actor has to say of itself are its ``metrics``, gathered when somebody asks (``runtime/metrics.py``;
    Prometheus asks over HTTP, ``metrics_endpoint.py``). What has happened is noted where it happens
    (``runtime/events.py``); what is new in a ring says ``rules/ring_news.py``. What hangs finds ``watchdog.py``.
5.  ``RING WHY`` asks a node since when somebody coordinates a key: it keeps what it has seen change from ring to ring
    (``rules/hands.py``).

*Somebody makes a backup*

1.  The command opens a backup at every node (``RING BACKUP OPEN``): `Gateway` tells `AskBackup` to `Backup`
    (`backup.py`), which asks `StorageNode` by `ReportServed` what it coordinates for certain, has the disk frozen
    (`Freeze`, `Frozen`), and asks once more (`Served`).
2.  What was said both times is in the backup. It is read block by block (``READ``, `BackupTold`), and put into a folder
    with checksums (``cli/archive.py``); what has not changed since the backup before is not read.

*A node dies*

1.  Its links break and its port refuses (`PeerEnded` of the bridge), or its `Heartbeat` is missed, or its stream
    stands still (`StreamSilent` of the `Replicator`): each `FailureDetector` reports `Suspected` to the `Ecs`, which
    believes two of them (`suspicion.py`). Or its session ends: the registration vanishes, `Ecs` is told
    `ChildrenChanged`, and half a second later it is still not there. `Ecs` writes one ring in which all the nodes that
    are gone are down.
2.  The next up member of each list reads that it coordinates now. `StorageNode` spawns a `Takeover`: `AskTail` goes to
    the `Replica` of every other up member, and its own; `Tails` tell what of these slots not everybody holds. Whoever
    has answered has read the ring, and admits nothing of the dead one any more.
3.  `TakenOver`: what was missing is stored, `BeginTenure` has the `Replicator` send all of it to everybody, requests
    that were parked meanwhile are run. Nothing is acknowledged before the lease of the former coordinator is over, or
    `PeerGone` says that its process has ended; reads are served as soon as all others have confirmed the tenure.
4.  With one copy of each slot nobody can: clients get CLUSTERDOWN for its slots until it is back.
5.  The node starts again: the first story, with a new incarnation on the same data. `Ecs` writes it *returning*, and
    then a change that makes it up again, as if it joined: its handoffs send only the difference. Where lists refuse
    writes for want of it a change in flight lets it go first (`put_back` in `transitions.py`), and of several that are
    back those that have caught up do not wait for the others.
6.  If it was only cut off or paused, `Member` reads a ring that calls its incarnation down, and starts it again. What
    it had not got acknowledged is answered INDOUBT.
7.  It does not start again: `Ecs` has counted ``out_after`` since it first saw it down, and writes a change to a ring
    without it (`giving_up` in `transitions.py`), for all that went together. Whoever coordinates makes the next of each
    list equal, as if that joined; the commit calls the dead *out*, and its life *given up*: one that comes later in
    another life joins, at its old token. One that comes before the commit is returning, by a ring that ends the change.

*A node is replaced, or there are to be more copies*

1.  ``RING REPLACE``: a `Launcher` starts the new one, if it is not named; the wish waits until it has registered. The
    change has it come at the token of the old one, which goes out by the same commit.
2.  ``RING REPLICAS``: a change whose target has longer lists, or shorter ones. With the ring in which it begins a
    `StorageNode` that had the only copies begins to tell its `Replicator` of writes: the learners become successors.

*The ring is balanced*

1.  ``RING BALANCE`` (`RunVerb`): `Ecs` sends `PlanBalance` to the `Balancer` beside it. That asks every coordinator by
    `ReportLoads` what its slots weigh (keys, bytes, and requests as `slot_rates.py` counts them); `SlotLoads` say it.
2.  A `Solver`, on a thread of its own, is told to `Solve`: `rebalance.py` finds the tokens that make shares even for
    the least data moved. `Solved` and `BalancePlanned` bring them back: a dry run ends here.
3.  Else they are a wish like any other, and a change like that by which a node joins. It waits while somebody is not
    up, and is given up once the nodes are others than when the tokens were chosen.
4.  ``RING BALANCE AUTO ON`` is written into the ring. The leading `Ecs` tells its `Balancer` by `RingLed`; that looks
    every few seconds, and says `BalanceWanted` when the load has moved for good.

*No member of a list is up*

1.  The ring that took the list below ``min_copies`` has written down who was complete. The first of those that is back,
    returning, is named its *keeper* by the `Ecs`: it stamps nothing, and answers reads if nobody else was complete.
2.  A change with the keeper as source raises all that are back and have caught up. One that is raised with too few
    beside it goes on as keeper, and shows nothing while others might be it; with enough of them up the list is as any.

*A copy is not what it should be*

1.  The `Scrubber` of a coordinator goes through its slots again and again: `SumUp` asks the `Replica` of each other
    member that is up for sums at one slot number, `SummedUp` brings them. Where they differ it asks for the records,
    and ``rules/scrub.py`` says whose copy is the odd one out: `CopyDamaged` tells the `Scrubber` there, once all slots
    of the list have been compared.
2.  A record that fails its checksum is met by whoever reads it: `DamageFound` tells the `Scrubber` of the process. A
    SET or DEL replaces or removes it all the same (`slot_view.py`): where no other copy is up, nothing else can. One
    that is met while the store is counted at a start is said by the registration, too.
3.  Whose copy is damaged tells the leading `Ecs` and its own `Member` (`CopyDamaged`). `Ecs` writes it down as soon as
    others answer for its lists that have been heard since (`PeersHeard`) and have no bad copy themselves; *a node
    dies*, step 2, follows. `Member` reads that, has written down that the store is to be put aside (`node_folder.py`),
    and starts the process again: it returns empty, and is made equal.
4.  ``RING VERIFY`` (`RunVerify`) has a `Scrubber` compare everything now.

5.  A disk that fails to sync may have dropped anything that was not synced yet. The `StorageNode` or the `Replica` that
    is told so serves nothing, or takes nothing in, from then on, and tells `Member` (`SyncFailed`): that the next life
    is not *whole* is written down, and the process starts again; for want of room only once `Ecs` calls it down, as
    above. *A node dies* follows, and *a node comes back*.

6.  What a mirror takes from a node that may hold what nobody else has any more goes to its salvage file
    (`salvage.py`): the `Replica` writes it there before it applies the `Chunk`. A life that is registered as *whole*
    ends first (`NoLongerWhole`), and the next one says that it is not. Before the `Replica` forgets foreign slots it
    asks their coordinator by `SumUp` what that has of them.

*ZooKeeper goes away*

1.  `Watches` tells `Suspended`, later `Lost`. Data goes on being served: acknowledging needs no session.
2.  When it is back, `Member` registers the same life under the new session, then removes the old registration. The
    `Ecs` that leads asks again for the ring and for who is registered, and gives everybody one session's time before
    it takes anyone for gone.

*ZooKeeper comes back with an older ring, or none*

1.  Every `Member` stays with the ring that it holds, and data goes on being served by that. The `Ecs` reads from the
    registrations that a newer one is held, and writes nothing.
2.  ``RING RESTORE`` (`RunVerb`): `Ecs` asks each `Member` by `ShowHeldRing`, hears `HeldRing`, and writes the newest
    back as a later ring in which every node is down (`lost_ring.py`, ``restored`` of `transitions.py`).
3.  Each `Member` reads that it is down, and starts its process again: *no member of a list is up*, as above.

Invariants are in each actor's header and in its ``check``. Rules cited as R3 or R23 are in ``rules/PROTOCOL.md``.
"""
