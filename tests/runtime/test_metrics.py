"""Figures of a process: gathered from its actors when somebody asks, told as JSON and as Prometheus reads them."""

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ringkeeper.runtime.actor import Actor
from ringkeeper.runtime.harness import Harness
from ringkeeper.runtime.metrics import Histogram, Metric, as_json, collect, counter, gauge, histogram, quantile
from ringkeeper.runtime.metrics_endpoint import exposition


class Counting(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.took = Histogram((0.1, 1.0))

    def on_receive(self, message: float) -> None:
        self.took.observe(message)

    def metrics(self) -> Iterator[Metric]:
        yield histogram("took_seconds", "How long.", self.took, of="floats")
        yield gauge("size", "How large.", 2, of="this")
        yield gauge("size", "How large.", 3, of="that")
        yield counter("done", "How many.", self.took.count)


@pytest.fixture
def harness() -> Harness:
    harness = Harness(Counting)
    harness.tell(0.05, 0.1, 0.5, 7.0)
    return harness


def test_figures_of_one_name_are_one_metric_and_those_without_labels_a_number(harness: Harness) -> None:
    told = as_json(collect(harness.system).values())
    assert told["ringkeeper_size"] == [[{"of": "this"}, 2], [{"of": "that"}, 3]]
    assert told["ringkeeper_done_total"] == 4
    assert [value for _, value in told["ringkeeper_took_seconds_bucket"]] == [2, 3, 4]
    assert told["ringkeeper_messages_total"] == [[{"actor": "subject", "type": "float"}, 4]]
    assert told["ringkeeper_mailbox_messages"] == [[{"actor": "subject"}, 0]]


def test_prometheus_reads_what_is_told_as_json(harness: Harness) -> None:
    told = as_json(collect(harness.system).values())
    read: dict[str, list[list[object]]] = {}
    for family in text_string_to_metric_families(exposition(harness.system).decode()):
        for sample in family.samples:
            read.setdefault(sample.name, []).append([sample.labels, sample.value])
    assert read == {name: rows if isinstance(rows, list) else [[{}, rows]] for name, rows in told.items() if rows != []}


def test_an_actor_that_is_gone_has_no_figures(harness: Harness) -> None:
    harness.ref.stop(block=False)
    harness.advance(0)
    assert "ringkeeper_size" not in collect(harness.system)


class Broken(Actor):
    def metrics(self) -> Iterator[Metric]:
        yield gauge("half", "Told before it fails.", 1)
        raise KeyError("size")


def test_a_source_that_fails_takes_nobody_elses_figures_away_and_is_logged_once(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(collect(harness.system))
    for name in ("first", "second"):
        harness.system.spawn(Broken, name=name)
    harness.system.metric_sources["process"] = lambda: [][0]
    for _ in range(2):
        assert set(collect(harness.system)) == before
    logged = [record.getMessage() for record in caplog.records]
    assert [line.split(" cannot ")[0] for line in logged] == ["the figures of process", "the figures of Broken"]
    harness.system.stop()


def test_a_quantile_lies_within_its_bucket() -> None:
    inf = float("inf")
    assert quantile([(1.0, 0), (2.0, 10), (inf, 10)], 0.5) == 1.5
    assert quantile([(1.0, 5), (2.0, 10), (inf, 20)], 0.99) == 2.0
    assert quantile([(1.0, 0), (inf, 0)], 0.5) is None
    assert quantile([], 0.5) is None
