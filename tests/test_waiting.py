"""Changes that wait for a place are made, whichever thread came first and whoever let go of their instruments."""

import gc

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics, book, instruments
from shmetrics.locks import REGISTRY, ByteLock
from tests.processes import run_in_threads


@pytest.fixture
def metrics(hub_name, monkeypatch):
    """A hub with room for few series, where nothing waits for the registry for long."""
    monkeypatch.setattr(book, "DEFINITION_PATIENCE", 0.05)
    monkeypatch.setattr(instruments, "PATIENCE", 0.0)
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=16) as metrics:
        metrics.claim()
        yield metrics


@pytest.fixture
def registry(metrics):
    """The registry, which another process holds."""
    with ByteLock(metrics._attachment.segment.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        yield registry


def total(metrics):
    metrics.book.settle()
    assert metrics.book.waiting == []
    return sum(series["value"] for series in CustomMetrics(metrics).get_all_metrics()["c"]["series"])


@pytest.mark.parametrize("labels", [[], ["a"]])
def test_threads_that_define_the_same_at_once_lose_nothing(metrics, registry, labels):
    def count(_):
        CustomMetrics(metrics).counter("c", labels=labels).labels(*labels).inc()

    run_in_threads(8, count)
    registry.release()
    assert total(metrics) == 8.0


def test_of_more_series_than_there_is_room_for_nothing_is_lost(metrics, registry):
    counter = CustomMetrics(metrics).counter("c", labels=["a"])
    for number in range(50):
        counter.labels(number).inc()
    registry.release()
    assert total(metrics) == 50.0


def test_an_instrument_that_nobody_holds_any_more_is_waited_for(metrics, registry):
    CustomMetrics(metrics).counter("c", labels=["a"]).labels("x").inc(3)
    metrics.book._metrics.clear()
    gc.collect()
    registry.release()
    assert total(metrics) == 3.0
