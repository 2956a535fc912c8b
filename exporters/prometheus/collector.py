"""The exporter: a collector that shows the whole fleet in any registry of prometheus_client."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, cast

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from shmetrics.custom import CustomMetrics
from shmetrics.exporters.prometheus import claims, custom, fleet, hub, processes
from shmetrics.exporters.prometheus.buckets import Buckets, bounds_by_measure
from shmetrics.exporters.prometheus.names import Names, check_prefix
from shmetrics.exporters.prometheus.shared import SharedSnapshots, Source
from shmetrics.folded import Folded
from shmetrics.metrics import PerformanceMetrics
from shmetrics.notices import Notices
from shmetrics.snapshot import Counters, Health, Snapshot

_EMPTY: Final = Snapshot(
    name="",
    taken_at=0.0,
    taken_at_wall=0.0,
    created_at=0.0,
    window_size=1,
    counters=Counters(),
    folded=Folded(),
    workers_seen=0,
    peak_recorded=0.0,
    workers=(),
    health=Health(
        bytes=0,
        slots_live=0,
        slots_dead=0,
        slots_total=1,
        stale=False,
        stale_slots=0,
        corrupt={},
        corrupt_reaped=0,
        unlinked=False,
        seconds_waited=0.0,
    ),
)
"""A hub in which nothing ever happened: it has every family that any hub has."""

_SETTERS: Final = {"gauge": "set", "histogram": "observe", "summary": "observe"}
"""What `PrometheusExporter.set_custom_metric` does to a metric of each type that it knows."""


class PrometheusExporter:
    """Shows the whole fleet in a registry, whichever process is scraped.

    Args:
        metrics: `PerformanceMetrics`, a `Hub`, or anything else with a ``snapshot()``.
        registry: registers itself there; None to be a collector and no more.
        buckets: upper bounds of the histograms; a sequence for all durations, or a mapping from a measure
            (``inference_time``, ``batch_size``, ...) to its bounds. They are chosen here, not where records are made,
            so another choice needs no restart of any worker. See `buckets`.
        prefix: put before every name, so that two hubs fit on one page.
        include: other collectors to show on the same page, such as ``prometheus_client.PLATFORM_COLLECTOR``.

    Raises ValueError for bad buckets, a prefix that no name can start with, an include that contains this exporter, and
    names that the registry already has.

    Any thread may collect. Nothing is read before the first `collect`; each then shows one snapshot, shared with
    those that overlap. A family whose name is taken or cannot be written is left out, and counted in
    ``shmetrics_hidden_families``: the page stays whole.

    """

    def __init__(
        self,
        metrics: Source,
        registry: CollectorRegistry | None = REGISTRY,
        *,
        buckets: Buckets = None,
        prefix: str = "",
        include: Iterable[Collector] = (),
    ) -> None:
        self._metrics = metrics
        self._registry = registry
        self._shared = SharedSnapshots(metrics)
        self._bounds = bounds_by_measure(buckets)
        self._prefix = check_prefix(prefix)
        self._include: Sequence[Collector] = tuple(include)
        if registry is not None and registry in self._include:
            raise ValueError("a registry cannot be included in an exporter that is registered in it")
        self._epoch: float | None = None
        self._notices: Notices | None = None
        if registry is not None:
            registry.register(self)

    def snapshot(self) -> Snapshot:
        """The fleet now; callers that overlap share one. What the source raises, HubClosedError say, is passed on."""
        return self._shared.snapshot()

    def collect(self) -> Iterator[Metric]:
        """Every family of one snapshot, then those of the collectors included. Called by registries."""
        snapshot = self.snapshot()
        return cast(Iterator[Metric], self._families(snapshot, as_text=False))

    def text_parts(self) -> Iterator[Metric | bytes]:
        """The same; custom metrics in the text format, many at once, where all that changes is their numbers."""
        snapshot = self.snapshot()
        return self._families(snapshot, as_text=self._registry is None)

    def describe(self) -> Iterator[Metric]:
        """The families that every hub has, without samples: registering takes no snapshot. Called by registries."""
        for family in (*self._own(_EMPTY, 0.0), hub.hidden_families(0, self._prefix)):
            family.samples = []
            yield family

    def add_custom_metric(
        self, name: str, description: str, metric_type: str = "gauge", labels: Sequence[str] = ()
    ) -> None:
        """Define a custom metric in the hub: a gauge, of which the last value set counts, a histogram or a summary.

        Short for `CustomMetrics.define_metric`, which can do more. ValueError as there, for other types, and where the
        exporter has no `PerformanceMetrics` but only reads.
        """
        if metric_type not in _SETTERS:
            raise ValueError(f"metric {name!r} cannot be a {metric_type!r} here: {', '.join(_SETTERS)} can; see "
                             f"CustomMetrics for the other types")  # fmt: skip
        self._custom().define_metric(name, metric_type, description, labels=labels)

    def set_custom_metric(self, name: str, value: float, labels: Mapping[str, object] | None = None) -> None:
        """Set a gauge; observe a value of a histogram or summary. ValueError for what is not there or cannot be set."""
        custom_metrics = self._custom()
        metric = custom_metrics.find(name)
        setter = _SETTERS.get(metric.definition.kind)
        if setter is None:
            raise ValueError(f"{name!r} is a {metric.definition.kind}, which cannot be set; change it by CustomMetrics")
        getattr(metric.labels(**(labels or {})), setter)(value)

    def _custom(self) -> CustomMetrics:
        if not isinstance(self._metrics, PerformanceMetrics):
            raise ValueError(f"{self._metrics!r} is for reading; make the exporter of PerformanceMetrics to change it")
        return CustomMetrics(self._metrics)

    def _families(self, snapshot: Snapshot, *, as_text: bool) -> Iterator[Metric | bytes]:
        if self._epoch is None:  # once, so that a creation time stays the same to the last bit from scrape to scrape
            self._epoch = snapshot.taken_at_wall - snapshot.taken_at
        names, hidden = Names(), 0
        names.take(hub.hidden_families(0, self._prefix))  # it comes last, when all else has its name
        for name, family in self._named(snapshot, self._epoch, names if as_text else None):
            if isinstance(family, bytes) or (family is not None and names.take(family)):
                yield family
            else:
                hidden += 1
                self._mention(snapshot.name, name)
        yield hub.hidden_families(hidden, self._prefix)

    def _named(
        self, snapshot: Snapshot, epoch: float, names: Names | None
    ) -> Iterator[tuple[str, Metric | bytes | None]]:
        """Every family with its name, those first whose names are their own; None for one that no page can hold.

        ``names``: where text will do for custom metrics, which take their names by themselves then.
        """
        yield from ((family.name, family) for family in self._own(snapshot, epoch))
        registry = self._registry
        own: Iterable[tuple[str, Metric | bytes | None]]
        if names is None:
            own = custom.families(snapshot.families, self._prefix)
        else:
            own = custom.text_or_families(snapshot.families, self._prefix, names)
        for name, family in own:
            if (
                registry is None
                or not isinstance(family, Metric)
                or not self._shows_by_itself(registry, snapshot, family)
            ):
                yield name, family
        for collector in self._include:
            for family in collector.collect():
                if not self._shows_by_itself(collector, snapshot, family):
                    yield family.name, family

    def _shows_by_itself(self, collector: Collector | None, snapshot: Snapshot, family: Metric) -> bool:
        """Whether `collector` has this family of this very hub, so that it would be on the page twice."""
        return not self._prefix and claims.shows(collector, snapshot.name, family.name)

    def _mention(self, hub_name: str, name: str) -> None:
        """Say once of each family that it is left out."""
        if self._notices is None:
            self._notices = Notices(hub_name)
        if self._notices.is_new(name):
            self._notices.say(f"metric {name!r} is not exported: its name is taken on the page, or cannot be written")

    def _own(self, snapshot: Snapshot, epoch: float) -> Iterator[Metric]:
        created = float(math.floor(epoch + snapshot.created_at))
        yield from fleet.families(snapshot, created, self._bounds, self._prefix)
        yield from processes.families(snapshot, epoch, self._prefix)
        yield from hub.families(snapshot, created, self._prefix)
