"""A home for any actor: event loop, mailboxes, supervision, a bridge between processes, ZooKeeper, stores.

Knows nothing of keys' meaning, rings or Redis commands; everything here would serve another program as well.

`message.py`      what may be said between actors
`world.py`        what an actor's surroundings can do: loop, network, timers
`actor.py`        actors on the event loop, and their refs
`system.py`       the actors of one process: turns, supervision, death watch, counters
`virtual.py`      the event loop of tests and simulations; `harness.py` drives one actor in it
`process.py`      one operating-system process; `children.py` starts others; `durable.py` keeps small files
`running.py`      a system for any program, on a thread of its own

`bridge.py`       joins the actors of several processes; below it `peer.py`, `connection.py`, `handshake.py`, `wire.py`,
                  `network.py`, `hosts.py`; `faults.py` holds, delays and drops; `code_frames.py` has code travel
`session.py`      what actors and ZooKeeper tell each other; `watches.py` carries it, `election.py` elects by it
`resp.py`         the RESP edge: connections, requests, replies

`observer.py`     lets people look into a process; `looking.py` and `interfering.py` have the words for that;
                  `tracing.py` follows messages, `probes.py` runs code, `watchdog.py` finds what hangs,
                  `events.py` remembers what has happened, `metrics.py` gathers figures (`metrics_endpoint.py`)

``zookeeper/``    the embedded ZooKeeper
``store/``        records on disk
"""
