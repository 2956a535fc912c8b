"""Pages whose forms are remembered, beside what prometheus_client writes of the same families: the same bytes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, Timestamp
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from shmetrics import CustomMetrics, PerformanceMetrics, PrometheusExporter
from shmetrics.exporters.prometheus import encoding
from shmetrics.exporters.prometheus.names import go_float
from shmetrics.exporters.prometheus.numbers import written
from shmetrics.exporters.prometheus.ready import Ready
from shmetrics.families import OVERFLOW
from tests.exporters.prometheus import Still


class Of:
    """A collector of these families."""

    def __init__(self, families):
        self._families = families

    def collect(self):
        return iter(self._families)


def assert_as_theirs(source, prefix=""):
    """The page of a source at rest, in both formats, is what prometheus_client makes of its samples."""
    exporter = PrometheusExporter(Still(source.snapshot()), registry=None, prefix=prefix)

    def families():
        plain = []
        for family in exporter.collect():
            copy = Metric(family.name, family.documentation, family.type, family.unit)
            copy.samples = list(family.samples)
            plain.append(copy)
        return Of([family for family in plain if "_worker_" not in family.name])

    # The figures of processes change from look to look.
    mine = Of([family for family in exporter.collect() if "_worker_" not in family.name])
    assert encoding.text(mine, generate_latest) == generate_latest(families())
    assert encoding.openmetrics(mine, generate_openmetrics) == generate_openmetrics(families())
    return mine


@pytest.fixture
def hub():
    """A hub with room for few series, and its custom metrics."""
    with PerformanceMetrics(max_workers=2, max_series=40) as metrics:
        yield metrics, CustomMetrics(metrics)


def test_every_kind_of_metric_whatever_its_labels_and_help_say(hub):
    metrics, custom = hub
    text = '100 % of "%s" \\ \n é'
    custom.counter("c_total", text, labels=["l", "a"]).labels(l=text, a="%d").inc(3)
    custom.histogram("h_seconds", text, labels=["l"], unit="seconds").labels(l=text).observe(0.3)
    custom.histogram("negative", text, buckets=(-1.0, 1.0)).labels().observe(-3)
    for merge in ("last", "sum", "min", "max", "mean", "per_worker", "live_mean"):
        custom.gauge(f"g_{merge}", text, merge=merge).labels().set(-2.5)
    custom.summary("s", text).labels().observe(1e7)
    custom.define_metric("r", "ratio", text)
    custom.enum("e", states=["a", text]).labels().state(text)
    custom.info("i", text).labels().info({"k": text})
    metrics.update_inference(0.01, 3)
    for prefix in ("", "x_"):
        mine = assert_as_theirs(metrics, prefix)
    ready = {family.name for family in mine.collect() if isinstance(family, Ready)}
    assert {"x_c", "x_h_seconds", "x_negative", "x_g_mean", "x_s", "x_r"} <= ready


def test_page_after_page_while_everything_changes(hub):
    """Numbers, series, metrics: what is remembered of the page before is never shown on the next."""
    metrics, custom = hub
    counter = custom.counter("c_total", labels=["l"])
    histogram = custom.histogram("h", labels=["l"])
    assert_as_theirs(metrics)
    for step, label in enumerate(["b", "a", "c"]):
        counter.labels(l=label).inc(10**step * 37)
        histogram.labels(l=label).observe(10.0**step)
        assert_as_theirs(metrics)
    custom.remove("c_total", {"l": "a"})
    assert_as_theirs(metrics)
    custom.gauge("late").labels().set(math.nan)
    custom.gauge("later").labels().set(-0.0)
    page = encoding.text(assert_as_theirs(metrics), generate_latest)
    assert b"\nlate NaN\n" in page
    assert b"\nlater -0.0\n" in page
    assert b'c_total{l="a"}' not in page


def test_the_overflow_series_appears_once_something_overflowed(hub):
    metrics, custom = hub
    counter = custom.counter("c_total", labels=["l"])
    counter.labels(l="first").inc()
    assert OVERFLOW.encode() not in encoding.text(assert_as_theirs(metrics), generate_latest)
    for number in range(60):
        counter.labels(l=str(number)).inc()
    assert OVERFLOW.encode() in encoding.text(assert_as_theirs(metrics), generate_latest)


def test_exemplars_are_on_openmetrics_pages_and_on_no_other(hub):
    metrics, custom = hub
    custom.histogram("h").labels().observe(0.3, exemplar={"trace_id": 'a"%s'})
    custom.counter("c_total").labels().inc(exemplar={"trace_id": "b"})
    metrics.update_inference(0.01)
    metrics.record_exemplar(0.01, {"trace_id": "c"})
    mine = assert_as_theirs(metrics)
    assert b"trace_id" not in encoding.text(mine, generate_latest)
    assert encoding.openmetrics(mine, generate_openmetrics).count(b"trace_id=") == 3


def test_a_collector_that_changes_its_own_labels_is_believed():
    labels = {"l": "before"}
    for value in ("before", "after"):
        labels["l"] = value
        family = Metric("m", "x", "gauge")
        family.add_sample("m", labels, 1.0)
        assert f'm{{l="{value}"}} 1.0\n'.encode() in encoding.text(Of([family]), generate_latest)


_numbers = st.floats() | st.integers(-(2**70), 2**70) | st.booleans()
_samples = st.lists(
    st.tuples(st.sampled_from(["a", "b", "%s"]), _numbers, st.sampled_from([None, None, 3.5])), max_size=4
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["gauge", "counter"]), st.sampled_from(["x", "%y", ""]), _samples), max_size=6)
)
def test_families_of_one_name_that_follow_each_other_are_each_their_own(drawn):
    """Their types, helps, labels, and whether they have timestamps differ; none is shown with another's."""
    for kind, documentation, samples in drawn:
        make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        family = make("m", documentation, labels=["l"])
        for label, number, timestamp in samples:
            family.add_metric([label], number, timestamp=None if timestamp is None else Timestamp(timestamp, 0))
        assert encoding.text(Of([family]), generate_latest) == generate_latest(Of([family]))
        assert encoding.openmetrics(Of([family]), generate_openmetrics) == generate_openmetrics(Of([family]))


@settings(deadline=None, max_examples=300)
@given(st.lists(_numbers, max_size=30))
def test_numbers_are_written_alike_whatever_was_written_before(numbers):
    assert written(numbers) == [go_float(number) for number in numbers]


def test_zeros_of_either_sign_and_whole_numbers_of_any_type():
    for _ in range(2):
        assert written([0.0, -0.0, 0, False, 1, True, 1.0, 2**53 + 1, 1e6]) == [
            *("0.0", "-0.0", "0.0", "0.0", "1.0", "1.0", "1.0"),
            *map(go_float, (2**53 + 1, 1e6)),
        ]  # fmt: skip
