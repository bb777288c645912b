"""For people: the commands of ``ringkeeper``.

main        the commands and what becomes of their errors
outcomes    exit statuses, errors in a sentence, traces in files
printable   what anybody may have stored, shown without doing anything to the terminal
options     what several commands are told the same way
up          up, down: a whole cluster on this machine
serve       node, ecs, zookeeper: one process each, for hosts of one's own
changes     nodes (list, add, remove, restart), jobs (list, cancel), balance, limit, start, stop, recover
following   a job until it has ended; jobs and plans in words and tables
data        put, get, delete, locate
verify      verify: all copies, now
salvage     salvage: what mirrors took from a node
load        load: a folder's files
backup      backup, restore, export, import
archive     the folder that a backup is kept in
show        ring (draw, restore), status
events      events: what has happened
top         top: the cluster at work, live
observing   asks all processes at once, for these two and the shell
shell       the actor shell: a terminal into a cluster, or into the simulation of one; a package of its own
run         scenarios, on real processes and in the simulation
drawing     a ring as a picture

Modules import at their top only what is cheap, and inside a command what it needs, so that ``ringkeeper --help``
and a mistyped option are answered at once.
"""
