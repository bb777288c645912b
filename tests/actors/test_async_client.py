"""The client for asyncio programs: the same words, rules and errors as the other one, awaited."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ringkeeper.actors import client_engine
from ringkeeper.actors.async_client import AsyncClient
from ringkeeper.actors.client import Client
from ringkeeper.actors.client_errors import (
    ClientError,
    Closed,
    CommandError,
    InDoubt,
    NotDone,
    PartlyDone,
    Unavailable,
)
from ringkeeper.tests.actors.fake_cluster import (
    ASK,
    CLOSE,
    EXECUTE,
    EXECUTE_CLOSE,
    EXECUTE_INDOUBT,
    LARGE,
    MOVED,
    SILENT,
    TRYAGAIN,
    FakeCluster,
)

pytestmark = pytest.mark.usefixtures("no_socket_is_left_open")

Story = Callable[[AsyncClient], Awaitable[Any]]


def play(cluster: FakeCluster, story: Story, *, loop: Any = asyncio.new_event_loop, **options: Any) -> Any:
    async def whole() -> Any:
        async with AsyncClient(cluster.address(0), **options) as client:
            return await story(client)

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(whole())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_every_word_says_what_the_blocking_clients_word_says(cluster: FakeCluster, loop: Any) -> None:
    keys = [cluster.key(index, number) for index in range(3) for number in range(2)]

    async def story(client: AsyncClient) -> list[Any]:
        await client.mset({key: f"value of {key}" for key in keys})
        with pytest.raises(CommandError, match="not an integer"):
            await client.incr(keys[0])
        async with client.pipeline() as pipeline:
            piped = await pipeline.set("a", 1).incr("a").get("a").get("absent").execute()
        return [
            await client.mget([*keys, "absent"]),
            await client.set("b", "x"),
            await client.set("b", "y", nx=True),
            await client.set("b", "z", get=True),
            await client.append("b", "!"),
            await client.incr("n", 5),
            await client.exists("a", "b", "absent"),
            sorted(await client.keys()),
            sorted([key async for key in client.scan_iter(count=2)]),
            await client.dbsize(),
            await client.delete("a", "absent"),
            await client.execute("GET", "b"),
            await client.execute_on(cluster.address(1), "PING"),
            await client.ping(),
            await client.locate(keys[0]),
            await client.nodes(),
            await client.ring(),
            piped,
            client.epoch,
        ]

    awaited = play(cluster, story, loop=loop)

    play(cluster, lambda client: client.flush_all())
    assert cluster.values == {}

    def blocking(client: Client) -> list[Any]:
        client.mset({key: f"value of {key}" for key in keys})
        with client.pipeline() as pipeline:
            piped = pipeline.set("a", 1).incr("a").get("a").get("absent").execute()
        return [
            client.mget([*keys, "absent"]), client.set("b", "x"), client.set("b", "y", nx=True),
            client.set("b", "z", get=True), client.append("b", "!"), client.incr("n", 5),
            client.exists("a", "b", "absent"), sorted(client.keys()), sorted(client.scan_iter(count=2)),
            client.dbsize(), client.delete("a", "absent"), client.execute("GET", "b"),
            client.execute_on(cluster.address(1), "PING"), client.ping(), client.locate(keys[0]), client.nodes(),
            client.ring(), piped, client.epoch,
        ]  # fmt: skip

    with Client(cluster.address(0)) as client:
        assert awaited == blocking(client)


def test_redirections_and_refusals_are_followed_and_tried_again(cluster: FakeCluster) -> None:
    cluster.everywhere.extend([TRYAGAIN, MOVED, ASK])

    async def story(client: AsyncClient) -> Any:
        return await client.incr("n"), client.statistics

    counted, statistics = play(cluster, story)
    assert counted == 1
    assert (statistics.requests, statistics.asked, statistics.retries) == (1, 1, 1)


def test_a_write_that_went_out_and_was_not_answered_is_in_doubt_and_never_repeated(cluster: FakeCluster) -> None:
    for act in (EXECUTE_CLOSE, EXECUTE_INDOUBT, SILENT):
        cluster.everywhere.append(act)

        async def story(client: AsyncClient) -> None:
            with pytest.raises(InDoubt, match="Read the key before trying again"):
                await client.incr("n")

        play(cluster, story, timeout_seconds=0.4)
    assert len(cluster.commands("INCRBY")) == 3


def test_a_read_is_tried_again_and_what_nobody_can_do_is_not_done(cluster: FakeCluster) -> None:
    cluster.everywhere.extend([CLOSE, EXECUTE])

    async def story(client: AsyncClient) -> None:
        assert await client.get("k") is None
        for index in range(3):
            cluster.stop_node(index)
        with pytest.raises(Unavailable, match="refuses connections"):
            await client.set("k", 1)
        with pytest.raises(Unavailable):
            await client.mset({"k": 1, "l": 2})

    play(cluster, story, timeout_seconds=0.5)


def test_parts_of_many_are_named_when_they_fail(cluster: FakeCluster) -> None:
    one, other = cluster.key(0), cluster.key(1)
    cluster.script(1, "MSET", EXECUTE_INDOUBT)

    async def story(client: AsyncClient) -> None:
        with pytest.raises(PartlyDone) as partly:
            await client.mset({one: 1, other: 2})
        assert list(partly.value.errors) == [other.encode()]

    play(cluster, story)


def test_many_tasks_share_few_connections(cluster: FakeCluster) -> None:
    async def story(client: AsyncClient) -> None:
        counts = await asyncio.gather(*(client.incr(f"n{index % 7}") for index in range(700)))
        assert sorted(counts) == sorted([*range(1, 101)] * 7)
        value = b"x" * LARGE
        await asyncio.gather(*(client.set(f"large{index}", value) for index in range(3)))
        assert [len(each or b"") for each in await client.mget([f"large{index}" for index in range(3)])] == [LARGE] * 3

    play(cluster, story, connections_per_node_max=2, timeout_seconds=30)
    assert cluster.connections_max == 2


def test_who_is_cancelled_leaves_connections_that_others_can_use(cluster: FakeCluster) -> None:
    key = cluster.key(0)

    async def story(client: AsyncClient) -> None:
        await client.get(key)
        cluster.everywhere.append(SILENT)
        first = asyncio.create_task(client.get(key))
        waiting = [asyncio.create_task(client.get(key)) for _ in range(3)]
        while len(cluster.commands("GET")) < 2:
            await asyncio.sleep(0)
        waiting[0].cancel()
        first.cancel()
        assert await asyncio.gather(*waiting[1:]) == [None, None]
        for task in (first, waiting[0]):
            with pytest.raises(asyncio.CancelledError):
                await task

    play(cluster, story, connections_per_node_max=1)


def test_closing_ends_what_is_under_way_and_refuses_what_comes(cluster: FakeCluster) -> None:
    async def story(client: AsyncClient) -> None:
        await client.nodes()
        cluster.everywhere.append(SILENT)
        write = asyncio.create_task(client.set("k", 1))
        while not cluster.commands("SET"):
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(InDoubt, match="had not answered when the client was closed"):
            await write
        with pytest.raises(Closed):
            await client.get("k")

    started = time.monotonic()
    play(cluster, story, timeout_seconds=30)
    assert time.monotonic() - started < 20


ACTS = st.sampled_from([EXECUTE, CLOSE, EXECUTE_CLOSE, EXECUTE_INDOUBT, MOVED, ASK, TRYAGAIN])


@given(acts=st.lists(ACTS, max_size=8), writes=st.lists(st.booleans(), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_nodes_do_both_clients_end_alike(
    monkeypatch: pytest.MonkeyPatch, acts: list[Any], writes: list[bool]
) -> None:
    monkeypatch.setattr(client_engine, "PAUSE_SECONDS_MIN", 0.0002)
    monkeypatch.setattr(client_engine, "REFRESH_PAUSE_SECONDS", 0.0)
    ends = []
    for asynchronous in (False, True):
        with FakeCluster() as cluster:
            cluster.everywhere.extend(acts)

            async def story(client: AsyncClient) -> list[Any]:
                async with client.pipeline() as pipeline:
                    for write in writes:
                        pipeline.incr("n") if write else pipeline.get("n")
                    return await pipeline.execute(raise_on_error=False)

            if asynchronous:
                results = play(cluster, story, timeout_seconds=10)
            else:
                with Client(cluster.address(0), timeout_seconds=10) as client, client.pipeline() as pipeline:
                    for write in writes:
                        pipeline.incr("n") if write else pipeline.get("n")
                    results = pipeline.execute(raise_on_error=False)
            pairs = zip(writes, results, strict=True)
            done = sum(write and not isinstance(result, ClientError) for write, result in pairs)
            doubtful = sum(isinstance(result, InDoubt) for result in results)
            assert done <= int(cluster.values.get(b"n", b"0")) <= done + doubtful
            assert all(isinstance(result, NotDone | InDoubt) for result in results if isinstance(result, ClientError))
            ends.append([type(result) if isinstance(result, ClientError) else result for result in results])
    assert ends[0] == ends[1]
