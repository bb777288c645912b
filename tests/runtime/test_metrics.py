"""Figures of a process: gathered from its actors when somebody asks, told as JSON and as Prometheus reads them."""

from collections.abc import Iterator
from typing import Any

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


class Teller(Actor):
    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self.metric = metric

    def metrics(self) -> list[Metric]:
        return [self.metric]


def told_of(*metrics: Metric) -> tuple[Any, dict[str, list[tuple[dict[str, str], float]]]]:
    """What is told as JSON under the name ringkeeper_x, and how Prometheus reads it."""
    harness = Harness(Counting)
    for number, metric in enumerate(metrics):
        harness.system.spawn(Teller, metric, name=f"teller-{number}")
    text = exposition(harness.system).decode()
    read: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            read.setdefault(sample.name, []).append((sample.labels, sample.value))
    assert text.count("# TYPE ringkeeper_x") == text.count("# HELP ringkeeper_x") == 1
    json = as_json(collect(harness.system).values())
    harness.system.stop()
    return {name: rows for name, rows in json.items() if name.startswith("ringkeeper_x")}, {
        name: rows for name, rows in read.items() if name.startswith("ringkeeper_x")
    }


def test_figures_of_one_name_may_have_different_labels(caplog: pytest.LogCaptureFixture) -> None:
    all_, some = gauge("x", "Here.", 1), gauge("x", "There.", 2, of="some")
    for order in ((all_, some), (some, all_)):
        rows = [(dict(metric.samples[0][0]), metric.samples[0][1]) for metric in order]
        assert told_of(*order) == ({"ringkeeper_x": [list(row) for row in rows]}, {"ringkeeper_x": rows})
    assert not caplog.records


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (counter("x", "Here.", 2, of="some"), "it is told as a counter, and was as a gauge"),
        (histogram("x", "Here.", Histogram(), of="some"), "it is told as a histogram, and was as a gauge"),
        (gauge("x", "Here.", 1), "it was told before with the same labels, {}"),
    ],
)
def test_a_figure_that_does_not_fit_to_what_has_its_name_is_left_out_and_logged_once(
    caplog: pytest.LogCaptureFixture, second: Metric, why: str
) -> None:
    assert told_of(gauge("x", "Here.", 1), second) == ({"ringkeeper_x": 1}, {"ringkeeper_x": [({}, 1.0)]})
    logged = [record.getMessage() for record in caplog.records]
    assert logged == [f"ringkeeper_x of Teller is left out, which is not said again: {why}"]


def test_a_quantile_lies_within_its_bucket() -> None:
    inf = float("inf")
    assert quantile([(1.0, 0), (2.0, 10), (inf, 10)], 0.5) == 1.5
    assert quantile([(1.0, 5), (2.0, 10), (inf, 20)], 0.99) == 2.0
    assert quantile([(1.0, 0), (inf, 0)], 0.5) is None
    assert quantile([], 0.5) is None
