"""Our encoders beside prometheus_client's own: the same bytes for whatever there is to write."""

import math

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    Exemplar,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from shmetrics import CustomMetrics, PerformanceMetrics, PrometheusExporter
from shmetrics.exporters.prometheus import encoding
from shmetrics.exporters.prometheus.names import writable
from tests.exporters.prometheus import Still
from tests.forge import fleet, random_records, worker

NUMBERS = (0, 1, True, -1, 0.1, -0.0, 1e-5, 999999.0, 999999.9999999999, 1e6, 1000000.5, 123456789.125, 2**53, 1e15,
           1e16, 1e21, 1.5e300, -1e6, -1234567.0, -1e16, 5e-324, math.inf, -math.inf, math.nan)  # fmt: skip


class Of:
    """A collector of these families."""

    def __init__(self, *families):
        self.families = families

    def collect(self):
        return iter(self.families)


def nobody(_collector):
    raise AssertionError("this is plain, and is not left to prometheus_client")


def assert_the_same(*families, plain=True):
    """Both formats are those of prometheus_client, to the byte."""
    collector = Of(*families)
    assert encoding.text(collector, nobody if plain else generate_latest) == generate_latest(collector)
    ours = encoding.openmetrics(collector, nobody if plain else generate_openmetrics)
    assert ours == generate_openmetrics(collector)


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_numbers(number):
    assert_the_same(GaugeMetricFamily("m", "x", value=number))


@settings(deadline=None)
@given(st.floats())
def test_any_number(number):
    assert_the_same(GaugeMetricFamily("m", "x", value=number))


texts = st.text().map(writable)


@settings(deadline=None)
@given(texts, st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,5}", fullmatch=True), texts, max_size=4))
def test_any_text(documentation, labels):
    family = GaugeMetricFamily("m", documentation, labels=list(labels))
    family.add_metric(list(labels.values()), 1.0)
    assert_the_same(family)


@pytest.mark.parametrize("unit", ["", "seconds"])
def test_every_type(unit):
    with_labels = CounterMetricFamily("a", "x", labels=["b", "a"], unit=unit)
    with_labels.add_metric(['"', "\\\n"], 3, created=1.5e9)
    with_labels.add_metric(["", "é"], 4)
    assert_the_same(
        with_labels,
        CounterMetricFamily("c_total", "", value=7, created=123.25),
        GaugeMetricFamily("g", 'x\ny\\z"', value=1, unit=unit),
        SummaryMetricFamily("s", "x", count_value=3, sum_value=1.5, unit=unit),
        HistogramMetricFamily("h", "x", buckets=[("1.0", 1), ("+Inf", 2)], sum_value=2.5, unit=unit),
        GaugeHistogramMetricFamily("gh", "x", buckets=[("1.0", 1), ("+Inf", 2)], gsum_value=2.5, unit=unit),
        UnknownMetricFamily("u", "x", value=1, unit=unit),
        InfoMetricFamily("i", "x", value={"version": "1", "a": '"'}),
        StateSetMetricFamily("e", "x", value={"on": True, "off": False}),
        GaugeMetricFamily("empty", "x"),
    )


def test_a_whole_fleet():
    with PerformanceMetrics(max_workers=2) as metrics:
        custom = CustomMetrics(metrics)
        custom.histogram("h_seconds", "x", labels=["l"], unit="seconds").labels(l="a").observe(2.0)
        custom.enum("e", states=["a", "b"]).labels().state("b")
        custom.info("i").labels().info({"k": "v"})
        mine = metrics.snapshot()
    rows = random_records(1, 150, start=950.0)
    assert_the_same(*PrometheusExporter(Still(mine), registry=None).collect())
    assert_the_same(*PrometheusExporter(Still(fleet(worker(rows), worker(slot=1))), registry=None).collect())


def test_what_prometheus_client_itself_collects():
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.PlatformCollector(registry)
    prometheus_client.ProcessCollector(registry=registry)
    prometheus_client.Summary("s", "x", ["l"], registry=registry).labels("a").observe(3)
    assert_the_same(*registry.collect())


class TestWhatIsNotPlain:
    """It is left to prometheus_client, family by family."""

    def test_exemplars(self):
        buckets = [("1.0", 1, Exemplar({"trace_id": "a"}, 0.5, 1.5e9)), ("+Inf", 2)]
        family = HistogramMetricFamily("h", "x", buckets=buckets, sum_value=2.5)
        assert_the_same(GaugeMetricFamily("g", "x", value=1), family, plain=False)
        assert b"trace_id" in encoding.openmetrics(Of(family), generate_openmetrics)

    @pytest.mark.parametrize("timestamp", [0, 1.5e9])
    def test_timestamps(self, timestamp):
        family = GaugeMetricFamily("g", "x", labels=[])
        family.add_metric([], 1.0, timestamp=timestamp)
        assert_the_same(family, plain=False)

    def test_names_of_other_characters(self):
        odd = Metric("plain", "x", "gauge")
        odd.add_sample("plain", {"odd.label": "x"}, 1.0)
        other = Metric("plain2", "x", "gauge")
        other.add_sample("odd.name", {}, 1.0)
        assert_the_same(GaugeMetricFamily("g", "x", value=1), odd, other, plain=False)
