"""Shows that the balancer is exact, and its times: 10 000 rings against a linear program, the seed's servers.

    python tests/actors/rules/bench_balance.py [rings]

Times are of this thread's processor, so that what else the machine does disturbs less.
"""

import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import TypeVar

from ringkeeper.actors.rules.balance import balance, balanced_ends, greedy, handed_over
from ringkeeper.actors.rules.placement import CIRCLE, md5_token
from ringkeeper.actors.rules.slots import SLOTS
from ringkeeper.tests.actors.rules.test_balance import equals_linear_program

RINGS = 10_000
COPIES = 3

T = TypeVar("T")


def timed(ask: Callable[[], T]) -> tuple[T, float]:
    began = time.thread_time()
    return ask(), time.thread_time() - began


def peak(ends: Sequence[int]) -> float:
    """The largest range, in fair parts."""
    return max(end - start for start, end in pairwise((ends[-1] - CIRCLE, *ends))) * len(ends) / CIRCLE


def seeds_servers() -> None:
    print("127.0.0.1:5001 and the following, placed by MD5; in per cent of the data; 3 copies")
    print(
        "nodes  largest/ideal: before  greedy  ours   greedy: moves shifted moved copied   ours: shifted moved copied"
    )
    for count in (3, 6, 8, 12):
        tokens = {id: md5_token(id) for id in (f"127.0.0.1:{5001 + index}" for index in range(count))}
        ends = sorted(tokens.values())
        places, moves, shifted = greedy(ends, CIRCLE)
        theirs = handed_over(ends, places, COPIES, circle=CIRCLE)
        ours = balance(tokens, copies=COPIES)
        print(
            f"{count:5}  {ours.peak_before:22.2f}  {peak(places):6.2f}  {ours.peak_after:4.3f}   {moves:13}"
            f" {shifted / CIRCLE:7.1%} {theirs.moved / CIRCLE:5.1%} {theirs.copied / CIRCLE:6.1%}  "
            + " ".join(f"{each / SLOTS:12.1%}" for each in ours.handed_over)
        )


def loads(dice: Random) -> dict[str, list[int]]:
    """What slots may weigh."""
    keys = [0] * SLOTS
    for _ in range(200_000):
        keys[dice.randrange(SLOTS)] += 1
    ranks = list(range(1, SLOTS + 1))
    dice.shuffle(ranks)
    return {"200 000 keys": keys, "Zipf requests": [int(1e7 / rank) for rank in ranks]}


def times() -> None:
    dice = Random(1)
    for count in (1000, 10_000):
        ends = sorted(dice.randrange(CIRCLE) for _ in range(count))
        _, seconds = timed(lambda ends=ends: balanced_ends(ends, CIRCLE))  # type: ignore[misc]
        print(f"{count} nodes anywhere: {seconds:.2f} s")
    for name, load in {"equal slots": None, **loads(dice)}.items():
        for count in (5, 12, 50, 200, 1000):
            tokens = {f"n{index}:1": dice.randrange(CIRCLE) for index in range(count)}
            found, seconds = timed(lambda tokens=tokens, load=load: balance(tokens, load))  # type: ignore[misc]
            print(
                f"{count} nodes, {name}: {seconds:.2f} s, peak {found.peak_before:.2f} -> {found.peak_after:.3f},"
                f" deviation {found.deviation:.4f}{'' if found.proven else ', search ended early'}",
                flush=True,
            )


def main() -> None:
    rings = int(sys.argv[1]) if len(sys.argv) > 1 else RINGS
    seeds_servers()
    times()
    solved = equals_linear_program(rings, seed=1)
    print(f"{rings} random rings equal to the linear program, {solved} of them with a solution")


if __name__ == "__main__":
    main()
