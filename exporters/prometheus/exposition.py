"""Pages: what a scrape gets to read, and how the two sides agree on its form.

The formats are written by prometheus_client's own encoders; here is what stands around them.
"""

from collections.abc import Collection, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from shmetrics.exporters.prometheus.buckets import Buckets
from shmetrics.exporters.prometheus.collector import PrometheusExporter
from shmetrics.exporters.prometheus.shared import Source


def render(
    metrics_or_hub: Source, *, openmetrics: bool = False, names: Collection[str] = (), buckets: Buckets = None
) -> bytes:
    """One page of the fleet now: the text format of Prometheus, or OpenMetrics 1.0, in UTF-8.

    ``names``: only samples of these names, as ``name[]`` in a scrape asks for; all when empty. ``buckets``: as
    `PrometheusExporter` takes them. Raises what the source's ``snapshot()`` raises, and ValueError for bad buckets.
    """
    exporter = PrometheusExporter(metrics_or_hub, registry=None, buckets=buckets)
    encode = generate_openmetrics if openmetrics else generate_latest
    page: bytes = encode(narrowed(exporter, names))  # type: ignore[arg-type,no-untyped-call]
    return page


class _Narrowed:
    """A collector's samples of some names: what ``CollectorRegistry.restricted_registry`` does, for families too
    that nobody could describe in advance, and with their units.
    """

    def __init__(self, collector: Collector, names: Collection[str]) -> None:
        self._collector = collector
        self._names = frozenset(names)

    def collect(self) -> Iterator[Metric]:
        """Every family that has a sample left."""
        for family in self._collector.collect():
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                family.samples = samples
                yield family


def narrowed(collector: Collector, names: Collection[str]) -> Collector:
    """`collector`, or its samples of these names where there are any names."""
    return _Narrowed(collector, names) if names else collector
