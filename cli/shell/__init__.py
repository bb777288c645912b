"""The actor shell: a terminal into a running cluster, or into the simulation of one.

command           ``ringkeeper shell``: what it is told, and the three ways in which it is used
session           lines in, answers out: aims, background commands, exit statuses
table             all commands, each with its syntax, a line of help and an example
lines             a line as commands and words; messages, spans of time, words that nobody knows
terminal          line editing, history, completion
target            what commands may do with a cluster, whichever world it is in
real_target       ... of processes, by way of their client ports
simulated_target  ... of the simulation, whose time passes only as far as the shell lets it
about_cluster     nodes, ring, status, changes, locate, put, get, delete, scan, wait
about_actors      actors, top, inspect, tell, ask, stacks, hangs, py
about_traces      trace, traced, untrace, why, events
about_faults      hold, delay, drop, release, faults, kill, pause, resume, restart, cut, heal
about_time        run, until; step, back, fork
tour              a session that shows what it can do, played in both worlds

The shell knows nothing of its own about a cluster: all that it shows and does goes through ``RING`` commands of the
client port, ``RING OBSERVE`` above all (``cli/observing.py``), in the simulation as on real processes.
"""
