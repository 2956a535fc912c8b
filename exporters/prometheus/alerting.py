"""How the alerting of this process is doing, as families: what fires, and whether receivers get what they should."""

from collections.abc import Iterator
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shmetrics.alerting.health import AlertingHealth
from shmetrics.alerting.rules import SEVERITIES
from shmetrics.exporters.prometheus.names import writable

_HELD_BACK: Final = ("silenced", "cooldown", "overflow")


class _Alerting(Protocol):
    """`PerformanceAlerting`, or the aggregator's."""

    @property
    def health(self) -> AlertingHealth:
        """How it is doing."""


class AlertingCollector(Collector):
    """Shows an alerting on a page: ``PrometheusExporter(metrics, include=[AlertingCollector(alerting)])``."""

    def __init__(self, alerting: _Alerting, prefix: str = "") -> None:
        self._alerting = alerting
        self._prefix = f"{prefix}shmetrics_"

    def describe(self) -> Iterator[Metric]:
        """The families, without samples."""
        for family in self.collect():
            family.samples = []
            yield family

    def collect(self) -> Iterator[Metric]:
        """Every family. Called by registries."""
        health, prefix = self._alerting.health, self._prefix
        yield GaugeMetricFamily(f"{prefix}alert_rules", "Rules that are watched over.", value=health.rules)
        firing = GaugeMetricFamily(
            f"{prefix}alerts_firing", "Alerts that fire, announced or not.", labels=["alertname", "severity"]
        )
        counted: dict[tuple[str, str], int] = {}
        for alert in health.active:
            counted[alert.type, alert.severity] = counted.get((alert.type, alert.severity), 0) + 1
        for key, count in counted.items():
            firing.add_metric(key, count)
        yield firing
        announced = CounterMetricFamily(f"{prefix}alerts", "Announcements by this process.", labels=["severity"])
        for severity in SEVERITIES:
            announced.add_metric([severity], health.counts.get(severity, 0))
        yield announced
        held = CounterMetricFamily(f"{prefix}alerts_held_back", "Announcements that were not made.", labels=["reason"])
        for reason in _HELD_BACK:
            held.add_metric([reason], health.counts.get(reason, 0))
        yield held
        yield from self._deliveries(health)

    def _deliveries(self, health: AlertingHealth) -> Iterator[Metric]:
        prefix = self._prefix
        done = CounterMetricFamily(
            f"{prefix}alert_deliveries", "Alerts that a receiver took or never will, and tries that failed.",
            labels=["receiver", "outcome"],
        )  # fmt: skip
        queued = GaugeMetricFamily(f"{prefix}alert_queue", "Alerts that wait for a receiver.", labels=["receiver"])
        failing = GaugeMetricFamily(
            f"{prefix}alert_receiver_failing", "1 while a receiver does not take alerts.", labels=["receiver"]
        )
        for at, figures in enumerate(health.deliveries):
            same = [other.name for other in health.deliveries[:at]].count(figures.name)
            name = writable(figures.name) + (f" {same + 1}" if same else "")
            for outcome in ("sent", "failed", "lost"):
                done.add_metric([name, outcome], getattr(figures, outcome))
            queued.add_metric([name], figures.queued)
            failing.add_metric([name], int(figures.failing_since is not None))
        yield from (done, queued, failing)
