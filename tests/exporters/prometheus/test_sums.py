"""Sums that OpenMetrics does not have: a page in which there are some is read by the strict parser, too."""

import math

import pytest
from prometheus_client.core import SummaryMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from shmetrics import CustomMetrics, PerformanceMetrics, PrometheusExporter
from shmetrics.exporters.prometheus import render
from shmetrics.exporters.prometheus.exposition import negotiated


@pytest.fixture
def metrics():
    """A private hub."""
    with PerformanceMetrics(max_workers=2, max_series=64) as metrics:
        yield metrics


def pages_of(metrics):
    """Names of the samples in the text format and in OpenMetrics, which a scrape gets as well."""
    page = render(metrics, openmetrics=True).decode()
    collector = PrometheusExporter(metrics, registry=None)
    scraped = negotiated(collector, (), "application/openmetrics-text", "").body.decode()
    assert list(parse_openmetrics(scraped))
    return [
        {(sample.name, *sorted(sample.labels.values())) for family in families for sample in family.samples}
        for families in (parse_text(render(metrics).decode()), parse_openmetrics(page))
    ]


@pytest.mark.parametrize("values", [[-0.5], [math.inf, -math.inf], [-math.inf]])
@pytest.mark.parametrize("kind", ["histogram", "summary"])
def test_a_sum_that_is_none_costs_no_page_and_no_other_series(metrics, kind, values):
    metric = CustomMetrics(metrics).define_metric("m", kind, labels=["a"])
    for value in values:
        metric.labels("bad").observe(value)
    metric.labels("good").observe(1.5)
    text, openmetrics = pages_of(metrics)
    assert {("m_sum", "bad"), ("m_count", "bad"), ("m_sum", "good"), ("m_count", "good")} <= text
    assert {("m_sum", "good"), ("m_count", "good")} <= openmetrics
    assert ("m_sum", "bad") not in openmetrics
    assert (("m_bucket", "+Inf", "bad") if kind == "histogram" else ("m_count", "bad")) in openmetrics


def test_a_histogram_of_values_below_0_has_neither_sum_nor_count(metrics):
    CustomMetrics(metrics).histogram("drift", buckets=[-1, 0, 1]).observe(-0.5)
    text, openmetrics = pages_of(metrics)
    assert ("drift_count",) in text
    assert ("drift_bucket", "0.0") in openmetrics
    assert not {("drift_count",), ("drift_sum",)} & openmetrics


def test_those_of_other_collectors_cost_no_page_either(metrics):
    class Other:
        def collect(self):
            return [SummaryMetricFamily("cold", "x", count_value=1, sum_value=-4.0)]

    exporter = PrometheusExporter(metrics, registry=None, include=[Other()])
    page = negotiated(exporter, (), "application/openmetrics-text", "").body.decode()
    (family,) = [family for family in parse_openmetrics(page) if family.name == "cold"]
    assert [sample.name for sample in family.samples] == ["cold_count"]
