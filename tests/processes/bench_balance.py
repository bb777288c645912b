"""Measures what balancing a live cluster costs: five nodes placed by MD5, their shares made even under load.

    python tests/processes/bench_balance.py [KEYS] [VALUE_BYTES]

Three copies, 200 000 keys of 100 bytes; the clients are those of `bench_healing.py`. *Planned*: what the copies weigh
that the dry run says are to be made. *Sent*: everything that passed between nodes from the order to the end of the
change (the kernel's count, by ``ss``), less what passes in as many seconds while nothing moves.
"""

import json
import os
import sys
import time

from ringkeeper import Client, LocalCluster
from ringkeeper.tests.processes.bench_healing import CLIENT_PORTS, LOOK_SECONDS, QUIET_SECONDS, Load, fill
from ringkeeper.tests.processes.bench_healing import passed_through as passed_through_one


def passed(pids: list[int]) -> int:
    """Bytes that nodes have sent to each other so far: at both ends of a connection they are counted twice."""
    return sum(map(passed_through_one, pids)) // 2


def shares(client: Client) -> str:
    nodes = [node["share"] for node in json.loads(client.execute("RING", "STATUS"))["nodes"]]
    return ", ".join(f"{share:.1%}" for share in nodes)


def parked_ms_max(client: Client, ids: tuple[str, ...]) -> float:
    told = [client.execute_on(id, "INFO", "stats").decode() for id in ids]
    lines = [line for each in told for line in each.splitlines() if line.startswith("parked_ms_max:")]
    return max(float(line.partition(":")[2]) for line in lines)


def main(keys: int = 200_000, value_bytes: int = 100) -> None:
    print(f"load average at the beginning: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with LocalCluster(nodes=5, replicas=3, place="md5") as cluster, cluster.client() as client:
        nodes = [process for process in cluster.processes() if process.kind == "node"]
        pids, ids = [process.pid for process in nodes], tuple(process.id for process in nodes)
        CLIENT_PORTS.update(int(at.rpartition(":")[2]) for at in (*ids, cluster.cluster.zookeeper_hosts))
        fill(client, keys, value_bytes)
        with Load(cluster, keys, value_bytes) as load:
            time.sleep(2.0)
            quiet, before = time.monotonic(), passed(pids)
            time.sleep(QUIET_SECONDS)
            per_second = (passed(pids) - before) / (time.monotonic() - quiet)
            print(f"shares before: {shares(client)}")
            plan = json.loads(client.execute("RING", "BALANCE", "DRYRUN"))
            begun, before = time.monotonic(), passed(pids)
            job = json.loads(client.execute("RING", "BALANCE"))["job"]
            while not any(
                each["job"] == job and each["state"] in ("done", "aborted")
                for each in json.loads(client.execute("RING", "JOBS"))["jobs"]
            ):
                time.sleep(LOOK_SECONDS)
            seconds = time.monotonic() - begun
            sent, beside = passed(pids) - before, per_second * seconds
            ended = time.monotonic()
        print(f"shares after: {shares(client)}; in {seconds:.1f} s")
        planned = plan["balance"]["copied_bytes"]
        print(
            f"planned {planned / 1e6:.1f} MB, {plan['balance']['of_least']:.2f} of the least; sent {sent / 1e6:.1f} MB,"
        )
        print(f"  {beside / 1e6:.1f} MB of it beside the move: {(sent - beside) / planned:.2f} times the plan")
        print(f"longest wait of a parked request {parked_ms_max(client, ids):.0f} ms")
        print(load.felt("before", quiet, begun))
        print(load.felt("meanwhile", begun, ended))


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
