"""A ZooKeeper server in Python, for laptops, tests and demonstrations; kazoo, zkCli and the C client use it unchanged.

One server, no ensemble: it outlives crashes, since nothing is answered before it is on disk, but not the loss of its
disk or host. Production uses a real ensemble; everything in ringkeeper runs on both. From the inside out:

    records.py    what is said: requests, results, codes
    acls.py       who may do what
    tree.py       znodes and sessions, one transaction after the other   (pure)
    watching.py   who is told what when something happened               (pure)
    keeper.py     all of the above, for clients and with deadlines       (pure: the simulation runs on it)
    jute.py       requests and results as bytes
    storage.py    the tree on disk
    server.py     connections, time, and keeping before telling
    words.py      four-letter words for operators

Not served: an ensemble and what belongs to it (reconfig, observers, read-only mode), SASL and TLS, znodes with a time
to live, quotas. Whoever asks for them is told so.
"""
