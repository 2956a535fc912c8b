"""How the alerting of a process looks on a page."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shmetrics import PerformanceAlerting, PerformanceMetrics, PrometheusExporter
from shmetrics.exporters.prometheus.alerting import AlertingCollector
from tests.cli import until
from tests.exporters import services


@pytest.fixture
def alerting(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2) as metrics:
        alerting = PerformanceAlerting(metrics, {"error_rate_threshold": 0.05})
        alerting.metrics = metrics
        yield alerting
        alerting.stop_monitoring()


def page(alerting):
    registry = CollectorRegistry()
    PrometheusExporter(alerting.metrics, registry, include=[AlertingCollector(alerting)])
    return generate_latest(registry)


def samples(text):
    families = text_string_to_metric_families(text.decode())
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
        if "alert" in sample.name
    }


def test_it_shows_rules_what_fires_and_what_receivers_get(alerting):
    def broken(alert):
        raise OSError("down")

    alerting.register_handler("critical", broken)
    alerting.check()
    for _ in range(20):
        alerting.metrics.update_inference(0.01)
    alerting.metrics.record_error(10)
    alerting.check()
    until(lambda: alerting.health.deliveries[0].failed)
    shown = samples(page(alerting))
    assert shown["shmetrics_alert_rules",] == 1
    assert shown["shmetrics_alerts_firing", "critical", "error_rate"] == 1
    assert shown["shmetrics_alerts_total", "critical"] == 1
    assert shown["shmetrics_alerts_total", "info"] == 0
    assert shown["shmetrics_alerts_held_back_total", "cooldown"] == 0
    name = alerting.health.deliveries[0].name
    assert shown[("shmetrics_alert_deliveries_total", *sorted(["failed", name]))] == 1
    assert shown[("shmetrics_alert_deliveries_total", *sorted(["lost", name]))] == 1
    assert shown["shmetrics_alert_receiver_failing", name] == 1
    assert shown["shmetrics_alert_queue", name] == 0


def test_handlers_of_one_name_are_told_apart(alerting):
    alerting.register_handler("critical", print)
    alerting.register_handler("warning", print)
    shown = samples(page(alerting))
    assert ("shmetrics_alert_queue", "print") in shown
    assert ("shmetrics_alert_queue", "print 2") in shown


def test_it_registers_by_itself_and_promtool_likes_it(alerting):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(AlertingCollector(alerting))
    assert services.check_metrics(generate_latest(registry)) == []
