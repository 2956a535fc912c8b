"""add_custom_metric and set_custom_metric of the exporter."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from shmetrics import Hub, PrometheusExporter
from tests.exporters.prometheus import families_of


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def exporter(hub, registry):
    return PrometheusExporter(hub, registry=registry)


def test_gauges_are_set_histograms_and_summaries_observe(exporter, registry):
    exporter.add_custom_metric("memory_bytes", "Memory.")
    exporter.add_custom_metric("load", "Load.", "gauge", ["model"])
    exporter.add_custom_metric("wait", "Wait.", metric_type="histogram")
    exporter.add_custom_metric("size", "Size.", metric_type="summary")
    exporter.set_custom_metric("memory_bytes", 5)
    exporter.set_custom_metric("memory_bytes", 4)
    exporter.set_custom_metric("load", 0.5, labels={"model": "a"})
    for name in ("wait", "size"):
        exporter.set_custom_metric(name, 2)
        exporter.set_custom_metric(name, 3)
    page = families_of(generate_latest(registry))
    assert page["memory_bytes"].documentation == "Memory."
    assert registry.get_sample_value("memory_bytes") == 4.0
    assert registry.get_sample_value("load", {"model": "a"}) == 0.5
    assert registry.get_sample_value("wait_sum") == registry.get_sample_value("size_sum") == 5.0


def test_what_cannot_be_set_is_refused(exporter, hub):
    with pytest.raises(ValueError, match=r"'counter' here.*CustomMetrics"):
        exporter.add_custom_metric("c", "help", "counter")
    with pytest.raises(ValueError, match="no metric 'c'"):
        exporter.set_custom_metric("c", 1)
    exporter.add_custom_metric("g", "help", labels=["a"])
    with pytest.raises(ValueError, match="labels"):
        exporter.set_custom_metric("g", 1)
    with pytest.raises(ValueError, match="differently"):
        exporter.add_custom_metric("g", "help", "summary")
    with Hub.attach(hub.name) as reader, pytest.raises(ValueError, match="for reading"):
        PrometheusExporter(reader, registry=None).add_custom_metric("h", "help")
