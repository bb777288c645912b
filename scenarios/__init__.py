"""The laboratory: stories about a cluster, played on it and checked.

stage        what may happen to a cluster, the same in `simulated_stage.py` and `real_stage.py`
own_network  cuts real processes off from each other, where the machine allows it
workload     what clients ask meanwhile
play         plays a scenario and judges it; `many.py` with many seeds on all cores
random_story makes stories up, and makes those that fail shorter
history      what clients did and heard; `checks.py` and `linearizability.py` judge it
simulated    a whole cluster in virtual time, and `simulated_client.py`, which asks it
report       tells a run as one page of HTML, of what `recording.py` has heard
main_job     takes in real files, loses every process at once, comes back, and has lost nothing
balance_at_scale compares ways to keep shares even, on rings of up to 10 000 nodes, and draws it
terminal     what a story needs to play on real processes, through the commands that a person would type
"""
