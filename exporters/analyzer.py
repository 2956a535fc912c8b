"""The analyzer: trends, bottlenecks, and everything known of a fleet in the forms that leave the machine.

What it computes is in `trends` and `bottlenecks`, which are pure; what it writes, in the exporters beside it.
"""

import math
import os
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shmetrics import bottlenecks, trends
from shmetrics.exporters.csv_export import export_csv
from shmetrics.exporters.json_export import document, to_json
from shmetrics.history import History
from shmetrics.layout import MEASURES, SECONDS
from shmetrics.resources import Resources
from shmetrics.samples import Samples, per_second
from shmetrics.snapshot import Snapshot, Usage, check_source
from shmetrics.statistics import comprehensive

_KINDS: Final = ("avg", "median", "p50", "p95", "p99", "min", "max", "std")
_POINTS: Final = 300
"""Values in each series of a dashboard at most, or a few more."""


class Source(Protocol):
    """What can be analysed: `PerformanceMetrics`, a `Hub`, or anything else with a snapshot."""

    def snapshot(self) -> Snapshot:
        """The fleet at this instant."""


class PerformanceAnalyzer:
    """Says where a fleet is going and what holds it up. Any thread of any process may call.

    Args:
        metrics: `PerformanceMetrics` or a `Hub`.
        history: an aggregator's (``Aggregator.history``), or one read from a file (`HistoryFile.read`); it reaches
            further back than the five minutes that the hub itself knows, and knows how memory grew.
        seconds: how far back to look; more than 300 needs a history. ValueError where that is none.

    Everything raises what the source's ``snapshot()`` raises: HubClosedError when it was closed.

    """

    def __init__(self, metrics: Source, *, history: History | None = None, seconds: float = SECONDS) -> None:
        if not 0.0 < seconds < math.inf:
            raise ValueError(f"seconds must be above 0 and finite, not {seconds!r}")
        check_source(metrics)
        self._source = metrics
        self._history = history
        self._seconds = seconds
        self._resources = Resources()

    def analyze_performance_trends(self) -> dict[str, Any]:
        """Where throughput, latency and errors are going, and how steady they are: a JSON-ready dictionary.

        ``throughput_trend``, ``latency_trend``, ``error_trend``: "increasing", "decreasing", "stable", or
        "insufficient_data" before there are 30 seconds of traffic in 12 values.

        ``stability_rating``: "excellent", "good", "fair", "poor", or "insufficient_data"; ``stability``: what it is
        made of. ``trends``: for "throughput", "latency" and "error" the direction again, ``slope_per_minute``,
        ``change`` over the whole span, ``confidence``, ``p_value``, and the series judged: ``ages`` (seconds before
        its last value) and ``values``. ``seconds``: how long the span is. docs/trends.md says how it is done.
        """
        return trends.analyze(self._samples(self._source.snapshot()))

    def identify_bottlenecks(self) -> list[dict[str, Any]]:
        """What holds the fleet up, the worst first: JSON-ready dictionaries; none when nothing does.

        ``component``, ``impact`` ("high", "medium", "low"), ``share`` (of total time, 0 to 1; None for what is not a
        stage), ``evidence`` and ``recommendation`` (sentences). docs/trends.md has the rules and their thresholds.
        """
        snapshot = self._source.snapshot()
        return self._bottlenecks(snapshot, [usage.cpu_percent for usage in self._usages(snapshot)])

    def generate_dashboard_data(self) -> dict[str, Any]:
        """Series and tables of a dashboard: a JSON-ready dictionary.

        ``generated_at`` (seconds since the epoch), ``hub`` (name), ``summary`` (the fleet's figures), ``series``,
        ``tables``, ``analysis`` (`analyze_performance_trends`).

        ``series``: lists of the same length, oldest first: ``times`` (epoch, when each step ended), ``throughput``,
        ``error_rate``, ``latency_mean``; values are None where nothing was recorded. With a history there are also
        ``p50``, ``p95``, ``p99`` (of total_time), ``busy``, ``workers`` and ``rss``, each an object with ``times`` and
        ``values``. ``tables``: ``measures``, ``workers``, ``bottlenecks``, each a list of objects.
        """
        snapshot = self._source.snapshot()
        samples, figures = self._samples(snapshot), comprehensive(snapshot)
        hub = figures.pop("hub")
        workers = [
            row | usage._asdict() for row, usage in zip(figures.pop("workers"), self._usages(snapshot), strict=True)
        ]
        ahead = snapshot.taken_at_wall - snapshot.taken_at
        return {
            "generated_at": snapshot.taken_at_wall,
            "hub": hub["name"],
            "summary": figures,
            "series": {
                "times": (samples.times + ahead).tolist(),
                "throughput": (samples.requests / samples.seconds).tolist(),
                "error_rate": _ratios(np.minimum(samples.errors, samples.requests), samples.requests),
                "latency_mean": _ratios(samples.latency_sum, samples.records),
                **self._series_of_history(ahead),
            },
            "tables": {
                "measures": [
                    {"measure": measure, **{kind: figures[f"{kind}_{measure}"] for kind in _KINDS}}
                    for measure in MEASURES
                ],
                "workers": workers,
                "bottlenecks": self._bottlenecks(snapshot, [row["cpu_percent"] for row in workers]),
            },
            "analysis": trends.analyze(samples),
        }

    def export_json(self) -> str:
        """The document of `shmetrics.exporters.json_export` (docs/export.md), with ``analysis`` and ``bottlenecks``."""
        snapshot = self._source.snapshot()
        whole = document(snapshot, resources=self._resources)
        whole["analysis"] = trends.analyze(self._samples(snapshot))
        whole["bottlenecks"] = self._bottlenecks(snapshot, [row["cpu_percent"] for row in whole["workers"]])
        return to_json(whole)

    def export_csv(self) -> str:
        """A row for each worker and one for the fleet, as `shmetrics export --format csv` writes them."""
        return export_csv(self._source.snapshot(), resources=self._resources)

    def export_prometheus(self) -> str:
        """The page that Prometheus scrapes, in its text format (docs/prometheus.md)."""
        from shmetrics.exporters.prometheus import render  # noqa: PLC0415  prometheus_client, for whoever wants it

        return render(self._source).decode()

    # ------------------------------------------------------------------------------------------------------------------

    def _samples(self, snapshot: Snapshot) -> Samples:
        """From the history where it is given, and from the hub's own seconds where it is not or has too little."""
        own = per_second(snapshot, self._seconds)
        if self._history is None or self._seconds <= SECONDS:
            return own
        kept = self._history.samples(self._seconds, self._seconds / _POINTS)
        return kept if kept.span > own.span else own

    def _series_of_history(self, ahead: float) -> dict[str, dict[str, list[float]]]:
        """Those that the hub itself does not know. ``ahead``: what to add to monotonic times to get the wall's."""
        if self._history is None:
            return {}
        step = self._seconds / _POINTS
        found = {}
        for name in ("p50", "p95", "p99", "busy", "workers", "rss"):
            series = self._history.series(name, self._seconds, step)
            found[name] = {"times": (series.times + ahead).tolist(), "values": series.values.tolist()}
        return found

    def _usages(self, snapshot: Snapshot) -> list[Usage]:
        """CPU and memory of every worker that counts."""
        return self._resources.usages([worker for worker in snapshot.workers if worker.counted])

    def _bottlenecks(self, snapshot: Snapshot, cpu_percents: Sequence[float | None]) -> list[dict[str, Any]]:
        memory = None
        if self._history is not None:
            series = self._history.series("rss", bottlenecks.MEMORY_SECONDS, bottlenecks.MEMORY_STEP)
            memory = series.times, series.values
        evidence = bottlenecks.Evidence(
            snapshot,
            cpu_percents=[percent for percent in cpu_percents if percent is not None],
            cpus=len(os.sched_getaffinity(0)),
            memory=memory,
        )
        return [found.as_dict() for found in bottlenecks.find(evidence)]


def _ratios(part: NDArray[np.float64], whole: NDArray[np.float64]) -> list[float | None]:
    """Part / whole; None of nothing."""
    return [a / b if b > 0.0 else None for a, b in zip(part.tolist(), whole.tolist(), strict=True)]
