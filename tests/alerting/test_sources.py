"""Where rules get their readings, and that every name a rule may use exists."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import shmetrics
from shmetrics import layout
from shmetrics.alerting.sources import (
    FINDINGS,
    FLEET,
    HUB,
    WINDOWED,
    WORKER,
    CustomMetric,
    Finding,
    Statistic,
    WorkerStatistic,
    percentile,
)
from shmetrics.families import Definition, Family, Series
from shmetrics.statistics import comprehensive
from tests.forge import fleet, random_records, worker

SOURCE = Path(shmetrics.__file__).parent
FIGURES = comprehensive(fleet(worker(random_records(1, 300), slot=0), worker(random_records(2, 50), slot=3)))


def read(source, **look):
    return list(source.read(SimpleNamespace(figures=FIGURES, families=[], **look)))


@pytest.mark.parametrize("key", FLEET)
def test_every_statistic_of_the_fleet_has_a_reading(key):
    assert [reading.value for reading in read(Statistic(key))] == [FIGURES[key]]


@pytest.mark.parametrize("key", HUB)
def test_every_figure_of_the_hub_has_a_reading(key):
    assert [reading.value for reading in read(Statistic(key))] == [FIGURES["hub"][key]]


def test_no_statistic_that_is_a_number_is_forgotten():
    numbers = {key for key, value in FIGURES.items() if isinstance(value, int | float)}
    assert numbers == set(FLEET)


@pytest.mark.parametrize("key", WORKER)
def test_every_figure_of_a_worker_has_a_reading_for_each(key):
    readings = read(WorkerStatistic(key))
    assert [dict(reading.labels)["worker"] for reading in readings] == ["0", "3"]
    assert [reading.value for reading in readings] == [row[key] for row in FIGURES["workers"]]


def test_the_dead_have_none():
    figures = comprehensive(fleet(worker([999.0], alive=False)))
    assert list(WorkerStatistic("busy_fraction").read(SimpleNamespace(figures=figures))) == []


WINDOW = SimpleNamespace(
    requests=200, errors=10, cache_hits=30, cache_misses=10, rate=20.0, error_rate=0.05, cache_hit_rate=0.75,
    percentile=lambda measure, percent: percent + layout.MEASURES.index(measure),
)  # fmt: skip


@pytest.mark.parametrize("key", WINDOWED)
@pytest.mark.parametrize("span", [{"window": 300.0}, {"last": 50}])
def test_every_windowed_statistic_has_a_reading(key, span):
    (reading,) = read(Statistic(key, **span), window=lambda seconds: WINDOW, last=lambda count: WINDOW)
    wanted = {"error_rate": (0.05, 200), "cache_hit_rate": (0.75, 40), "throughput": (20.0, 200)}
    known = percentile(key)
    if known:
        assert reading.value == known[0] + layout.MEASURES.index(known[1])
    elif key in wanted:
        assert (reading.value, reading.samples) == wanted[key]
    else:
        assert reading.value == getattr(WINDOW, key)


def test_any_percentile_can_be_asked_for():
    assert percentile("p99.9_total_time") == (99.9, "total_time")
    assert [percentile(key) for key in ("p0_total_time", "p95_nonsense", "p100_total_time", "avg_total_time")] == [
        None
    ] * 4


def family(kind, *series, labels=("model",), **fields):
    merge = {"merge": "sum"} if kind == "gauge" else {}
    return Family(Definition("m", kind, labels=labels, **merge, **fields), series)


class TestCustomMetrics:
    """A reading for each series."""

    def read(self, source, *families, growth=None):
        look = SimpleNamespace(figures={}, families=families, growth=growth)
        return [(dict(reading.labels), reading.value) for reading in source.read(look)]

    def test_a_gauge_has_one_for_each_series(self):
        gauge = family("gauge", Series(("a",), value=3.0), Series(("b",), value=4.0))
        assert self.read(CustomMetric("m"), gauge) == [({"model": "a"}, 3.0), ({"model": "b"}, 4.0)]

    def test_labels_choose(self):
        gauge = family("gauge", Series(("a",), value=3.0), Series(("b",), value=4.0))
        assert self.read(CustomMetric("m", (("model", "b"),)), gauge) == [({"model": "b"}, 4.0)]

    def test_each_worker_has_its_own_where_the_metric_says_so(self):
        gauge = family("gauge", Series((), worker=2, value=3.0), labels=())
        assert self.read(CustomMetric("m"), gauge) == [({"worker": "2"}, 3.0)]

    def test_the_growth_of_a_counter(self):
        counter = family("counter", Series(("a",), value=30.0))
        asked = []
        assert self.read(
            CustomMetric("m", of="rate", window=90.0), counter, growth=lambda *args: asked.append(args) or 1.5
        ) == [({"model": "a"}, 1.5)]
        assert asked == [("m", (("model", "a"),), 90.0)]

    def test_a_histogram_has_a_mean_and_quantiles_as_prometheus_interpolates_them(self):
        series = Series(("a",), count=10.0, sum=5.0, buckets=(2.0, 8.0, 10.0))
        histogram = family("histogram", series, buckets=(0.25, 0.5))
        assert self.read(CustomMetric("m", of="mean"), histogram) == [({"model": "a"}, 0.5)]
        assert self.read(CustomMetric("m", of="p50"), histogram) == [({"model": "a"}, 0.375)]
        assert self.read(CustomMetric("m", of="p95"), histogram) == [({"model": "a"}, 0.5)]
        assert self.read(CustomMetric("m", of="count"), histogram) == [({"model": "a"}, 10.0)]

    def test_what_is_not_defined_or_has_no_such_figure_has_none(self):
        assert self.read(CustomMetric("other"), family("gauge", Series(("a",), value=1.0))) == []
        assert self.read(CustomMetric("m", of="mean"), family("gauge", Series(("a",), value=1.0))) == []
        assert self.read(CustomMetric("m"), family("info", Series(("a",)))) == []


class TestFindings:
    """What `shmetrics doctor` finds, as readings."""

    FOUND = (
        {"kind": "hung_worker", "worker": 2, "value": 31.0, "threshold": 10.0, "text": "worker 7 in slot 2 hangs"},
        {"kind": "unlinked", "worker": None, "value": None, "threshold": None, "text": "its name was removed"},
    )

    def read(self, kind):
        return list(Finding(kind).read(SimpleNamespace(figures={"findings": self.FOUND})))

    def test_one_kind(self):
        (reading,) = self.read("hung_worker")
        assert (reading.value, reading.labels, reading.threshold) == (31.0, (("worker", "2"),), 10.0)
        assert reading.text == "worker 7 in slot 2 hangs"

    def test_a_group_says_which(self):
        (reading,) = self.read("stuck")
        assert dict(reading.labels) == {"finding": "hung_worker", "worker": "2"}

    def test_the_hub_itself_has_no_worker(self):
        (reading,) = self.read("unlinked")
        assert (reading.labels, reading.value) == ((), 1.0)

    def test_names_are_unique(self):
        assert len(set(FINDINGS)) == len(FINDINGS)

    def test_every_finding_about_a_fleet_may_be_asked_for(self):
        pytest.importorskip("shmetrics.findings", reason="rules that find something are not there yet")
        code = "".join((SOURCE / name).read_text() for name in ("findings.py", "stragglers.py"))
        kinds = set(re.findall(r'(?:about\(\s*worker,|Finding\()\s*"([a-z_]+)"', code))
        assert len(kinds) > 10
        assert kinds <= set(FINDINGS)
