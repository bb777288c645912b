"""Decides: which node owns a key, what a ring may become, what differs between two.

Pure. Nothing here opens, waits, sends or rolls dice; ids, nonces and times are handed in, and the same inputs give the
same answer everywhere, so that the ECS, every node, every client and the simulation agree without talking.

fields       checks of what comes from outside, and RingError
slots        a key's slot, and runs of slots
life         a node's registration: one life of its process
ring         the ring: what the znode holds, and every question it answers
placement    where nodes stand on the circle
transitions  what one write of the ring may change, rule by rule
difference   what two rings disagree about
"""
