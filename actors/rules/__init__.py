"""Decides: which node owns a key, what a ring may become, what a command does to the keys of a slot.

Pure. Nothing here opens, waits, sends or rolls dice; ids, nonces and times are handed in, and the same inputs give the
same answer everywhere, so that the ECS, every node and the simulation agree without talking.

The ring, each file standing on those before it:

`slots.py`          a key's slot, and runs of slots
`fields.py`         checks of what comes from outside, and `RingError`
`life.py`           what a node says of itself: one life of its process
`placement.py`      where nodes stand on the circle
`ring.py`           the ring: what the znode holds, and every question it answers
`transitions.py`    what one write of the ring may change, rule by rule
`difference.py`     what two rings disagree about
`paths.py`          where in ZooKeeper all that is kept

Where tokens ought to stand:

`least_shift.py`    points on a circle, moved as little as bounds for their gaps allow
`slot_shift.py`     the same between slots of unequal weight
`balance.py`        even shares of the load for the least data moved

What clients say and hear:

`commands.py`       every command, and what can be answered from that table alone
`data_commands.py`  what a command does to the keys of one slot
`replies.py`        how its answer is spelled
`cluster_view.py`   the ring as Redis clients want to see it
"""
