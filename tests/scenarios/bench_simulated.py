"""Times the simulation: messages per second, and simulated seconds per second, of five nodes under load.

    python tests/scenarios/bench_simulated.py

By processor time of this thread, so that what else the machine does disturbs less. The trace is written and hashed, as
in every simulated run; ``check`` is every actor's ``check()`` after every message.
"""

import time

from ringkeeper.scenarios.simulated import SimulatedCluster
from ringkeeper.scenarios.simulated_client import Outcome

NODES, CLIENTS, KEYS = 5, 8, 1000
OPERATIONS_PER_SECOND = 200
SECONDS = 60.0
ROUNDS = 3


def measure(check: bool) -> tuple[float, float]:
    """Messages per second, and simulated seconds per second."""
    with SimulatedCluster(seed=1, nodes=NODES, ecs=2, check=check) as cluster:
        cluster.run_until(cluster.serves, 30)
        clients = [cluster.client(f"client-{number}") for number in range(CLIENTS)]
        dice = cluster.world.stream("load")
        outcomes: list[str] = []

        def ended(outcome: Outcome) -> None:
            outcomes.append(outcome.happened)

        def operate() -> None:
            key = f"key{dice.randrange(KEYS)}"
            dice.choice(clients).call(("SET", key, "v" * 100) if dice.random() < 0.5 else ("GET", key), ended)
            cluster.world.loop.call_later(dice.expovariate(OPERATIONS_PER_SECOND), operate)

        operate()
        messages, began = cluster.world.trace.messages, time.thread_time()
        cluster.run(SECONDS)
        took = time.thread_time() - began
        assert set(outcomes) == {"yes"}
        return (cluster.world.trace.messages - messages) / took, SECONDS / took


def main() -> None:
    for check in (False, True):
        messages, times = max(measure(check) for _ in range(ROUNDS))
        how = "with check" if check else "without check"
        print(f"{how}: {messages:,.0f} messages/s, {times:.0f} times real time".replace(",", " "))


if __name__ == "__main__":
    main()
