"""A world in one thread and virtual time, all of it from one seed, in which the actors of production run unchanged.

    `SimulatedWorld` (world.py)        time, chance, the processes by name, the trace; `run` and `run_until`
      `SimulatedProcess` (process.py)  one life of a process: its own loop, clock, network and `ActorSystem`
      `SimulatedNetwork` (network.py)  TCP between processes, and what can happen to it
      `SimulatedDisk` (disk.py)        what a machine keeps while processes on it come and go
      `ZooKeeperEnsemble` (ensemble.py) ZooKeeper servers on the znode tree of the embedded one
      `ZooKeeperClient` (zookeeper_client.py) stands in for kazoo's, below the real `Watches` actor
      `RespCaller` (resp_caller.py)    a client's connections to servers that speak RESP
      `Trace` (trace.py)               the canonical text of everything that happened, and its hash

Only the edges are replaced. Above them everything is what production runs: `ActorSystem` and its turns, `Bridge` with
its handshake and its wire encoding, `RespServer`, `Watches`, `Election`, `Store`.

Exact replay: the same seed and the same code give the same trace, in every Python process and whatever PYTHONHASHSEED
is. So nothing in here reads a real clock or rolls unseeded dice, nothing depends on the identity of an object or the
order of a set, and chance comes from streams that are named for what they are for, so that a change in one place of the
world leaves the dice of the others as they were.

Nothing in this package knows of keys, slots or rings: ``scenarios/simulated.py`` makes a cluster out of it.
"""
