"""The whole page that a scrape gets, of those that have one: of all processes, from what they left in memory."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.peers import OURS
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS

Page = Callable[[], bytes]


def _ours(metrics: PerformanceMetrics) -> Page:
    """What `shmetrics serve` and every exporter of ours answers with."""
    from shmetrics.exporters.prometheus import render  # noqa: PLC0415  see `_prometheus`

    return lambda: render(metrics)


def _prometheus(directory: str) -> Page:
    """What its documentation says to do for each scrape."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415  imported after its variable is set
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    def page() -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    return page


PAGES: Final[Mapping[str, Callable[[Any], Page]]] = {OURS: _ours, MULTIPROCESS: _prometheus}
"""By peer; each takes what `Peer.open` gave."""
