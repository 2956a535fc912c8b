"""A series that nobody changed for as long as its definition says is removed, and no other."""

import math

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics, segment
from shmetrics.aggregator import Aggregator
from shmetrics.locks import REGISTRY, ByteLock
from tests.conftest import FakeClock

AFTER = 60.0


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=64) as metrics:
        yield metrics


@pytest.fixture
def custom(metrics):
    return CustomMetrics(metrics)


@pytest.fixture
def clock():
    return FakeClock(5000.0)


@pytest.fixture
def aggregator(metrics, clock):
    with Aggregator(segment.attach(metrics.name, writable=True), clock=clock, sleep=clock.sleep) as aggregator:
        assert aggregator.try_lead()
        yield aggregator


def shown(custom, name):
    return {tuple(series["labels"].values()) for series in custom.get_all_metrics()[name]["series"]}


def test_what_is_changed_stays_and_what_is_not_goes(custom, aggregator, clock):
    counter = custom.counter("c", labels=["a"], expire_after=AFTER)
    for label in ("busy", "idle"):
        counter.labels(label).inc()
    for _ in range(12):
        aggregator.tick()
        clock.now += AFTER / 10
        counter.labels("busy").inc()
    assert shown(custom, "c") == {("busy",)}


def test_a_gauge_that_is_set_to_what_it_was_stays(custom, aggregator, clock):
    gauge = custom.gauge("g", labels=["a"], merge="per_worker", expire_after=AFTER)
    for _ in range(12):
        gauge.labels("same").set(1.0)
        aggregator.tick()
        clock.now += AFTER / 10
    assert len(custom.get_all_metrics()["g"]["series"]) == 1


def test_what_is_no_number_and_not_changed_goes_too(custom, aggregator, clock):
    custom.gauge("g", labels=["a"], expire_after=AFTER).labels("nan").set(math.nan)
    summary = custom.summary("s", labels=["a"], expire_after=AFTER)
    for label, values in (("idle", (math.inf, -math.inf)), ("busy", (math.inf, -math.inf))):
        for value in values:
            summary.labels(label).observe(value)
    for _ in range(12):
        aggregator.tick()
        clock.now += AFTER / 10
        summary.labels("busy").observe(1.0)
    assert (shown(custom, "g"), shown(custom, "s")) == (set(), {("busy",)})


def test_without_an_expiry_nothing_goes(custom, aggregator, clock):
    custom.counter("c", labels=["a"]).labels("idle").inc()
    for _ in range(3):
        aggregator.tick()
        clock.now += 1e6
    assert shown(custom, "c") == {("idle",)}


def test_a_series_that_went_and_is_changed_again_begins_at_0_and_lives_as_long(custom, aggregator, clock):
    series = custom.counter("c", labels=["a"], expire_after=AFTER).labels("x")
    series.inc(5)
    aggregator.tick()
    clock.now += AFTER
    aggregator.tick()
    assert shown(custom, "c") == set()
    series.inc()
    aggregator.tick()
    clock.now += AFTER - 1
    aggregator.tick()
    assert custom.get_all_metrics()["c"]["series"][0]["value"] == 1.0


def test_while_the_registry_is_busy_it_stays(custom, aggregator, clock, metrics):
    custom.counter("c", labels=["a"], expire_after=AFTER).labels("x").inc()
    aggregator.tick()
    clock.now += AFTER
    with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        aggregator.tick()
        assert shown(custom, "c") == {("x",)}
    aggregator.tick()
    assert shown(custom, "c") == set()
