"""Custom metrics that are written many at once: the page is the one that their families give one by one."""

import threading
from itertools import count

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.exporters.prometheus import PrometheusExporter, encoding, render
from shmetrics.exporters.prometheus.exposition import narrowed


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=40) as metrics:
        yield metrics


class OneSnapshot:
    """A source that shows the same instant every time."""

    def __init__(self, metrics):
        self._snapshot = metrics.snapshot()

    def snapshot(self):
        return self._snapshot


class OneByOne:
    """A collector with families, and no text."""

    def __init__(self, exporter):
        self.collect = exporter.collect


def lines(page):
    """Without those of processes, which may have changed since."""
    return [line for line in page.decode().split("\n") if "shmetrics_worker_" not in line]


def pages(metrics, **options):
    """Written at once, and family by family."""
    exporter = PrometheusExporter(OneSnapshot(metrics), registry=None, **options)
    return [lines(encoding.text(each, generate_latest)) for each in (exporter, OneByOne(exporter))]


def define_all(metrics):
    """A metric of each kind, those that are written at once and others in turn."""
    custom = CustomMetrics(metrics)
    custom.counter("tokens_total", 'Tokens, 100 % of "them".').inc(5)
    custom.counter("calls_total", "Calls.", labels=["model", "of"]).labels("a\n%s", 'b"\\').inc(2e6)
    custom.gauge("temperature", "Of each.", merge="per_worker").set(1.5)
    custom.histogram("wait_seconds", "Waits.", unit="seconds", buckets=[0.1, 1.0]).observe(0.5)
    custom.histogram("change", "Of both signs.", buckets=[-1.0, 1.0], labels=["of"]).labels("x").observe(-0.5)
    custom.info("build", "Of what.").info({"version": "1"})
    custom.ratio("hits", "Of looks.").add(1, 3)
    custom.summary("size_bytes", "Sizes.", unit="bytes").observe(1e9)
    custom.counter("late_total", "Never used.", labels=["of"])
    custom.enum("state", "Of the canary.", states=["up", "down"]).state("down")
    return custom


@pytest.mark.parametrize("prefix", ["", "resnet_"])
def test_the_page_is_the_one_that_families_give(metrics, prefix):
    define_all(metrics)
    at_once, one_by_one = pages(metrics, prefix=prefix)
    assert at_once == one_by_one
    assert f'{prefix}calls_total{{model="a\\n%s",of="b\\"\\\\"}} 2e+06' in at_once


def test_overflow_series_are_on_the_page_once_something_overflowed(metrics):
    custom = define_all(metrics)
    calls = custom.counter("calls_total", "Calls.", labels=["model", "of"])
    for number in count():
        at_once, one_by_one = pages(metrics)
        assert at_once == one_by_one
        if any("_overflow" in line for line in at_once):
            break
        assert number < 100
        for more in range(8):
            calls.labels(f"{number}", f"{more}").inc()


def test_a_name_that_is_taken_hides_its_metric_alone(metrics):
    custom = define_all(metrics)
    custom.gauge("requests_total", "Ours already.").set(4.0)
    custom.gauge("tokens_total_created", "No clash.").set(5.0)
    custom.gauge("wait_seconds_count", "One of a histogram's own.").set(6.0)
    at_once, one_by_one = pages(metrics)
    assert at_once == one_by_one
    assert "shmetrics_hidden_families 2.0" in at_once
    assert "tokens_total 5.0" in at_once


def test_a_collector_included_may_not_have_the_names_of_what_was_written_at_once(metrics):
    define_all(metrics)
    registry = CollectorRegistry()
    Gauge("tokens", "Another's.", registry=registry).set(7.0)
    Gauge("theirs", "Another's.", registry=registry).set(8.0)
    at_once, one_by_one = pages(metrics, include=[registry])
    assert at_once == one_by_one
    assert "theirs 8.0" in at_once


def test_a_page_of_some_names_has_them_alone(metrics):
    define_all(metrics)
    exporter = PrometheusExporter(metrics, registry=None)
    page = encoding.text(narrowed(exporter, ["tokens_total", "hits"]), generate_latest).decode()
    assert [line.split()[0] for line in page.splitlines() if not line.startswith("#")] == ["tokens_total", "hits"]


def test_pages_that_threads_make_at_once_after_a_change_are_whole(metrics):
    custom = CustomMetrics(metrics)
    for number in range(20):
        custom.counter(f"things_{number}_total", "Things.").inc()
        start, found = threading.Barrier(4), []

        def look(start=start, found=found):
            start.wait()
            found.append(render(metrics).count(b"\nthings_"))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [number + 1] * 4
