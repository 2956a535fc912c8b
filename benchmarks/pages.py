"""The page that a scrape gets, and the series that are on it: a counter and a histogram, and so on by turns.

By peer, for those that have pages of all processes; each takes what `Peer.open` gave.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.benchmarks.peers import OURS
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS, kept_as, multiprocess

PAGE: Final = "page"
THEIR_PAGE: Final = f"page of {MULTIPROCESS}"
"""What scenarios call reading one."""

Page = Callable[[], bytes]
Feed = Callable[[random.Random], None]
"""Changes every series of a process, by amounts that are drawn."""
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


def room(series: int) -> int:
    """`max_series` of a hub that has place for so many: entries for names, help and bounds, and cells for buckets."""
    return max(1024, series * (len(BUCKETS) + 5) // 2)


def _feed(counters: Sequence[Any], histograms: Sequence[Any]) -> Feed:
    """The same with each peer: it is what their metrics have in common."""

    def feed(draw: random.Random) -> None:
        for counter in counters:
            counter.inc(draw.randint(1, 100))
        for histogram in histograms:
            histogram.observe(draw.lognormvariate(-2, 1.5))

    return feed


def _our_page(metrics: PerformanceMetrics) -> Page:
    """What `shmetrics serve` and every exporter of ours answers with."""
    from shmetrics.exporters.prometheus import render  # noqa: PLC0415  as the one below

    return lambda: render(metrics)


def _our_feed(metrics: PerformanceMetrics, series: int) -> Feed:
    custom = CustomMetrics(metrics)
    counters = [custom.counter(f"things_{at}_total", "Things.").labels() for at in range(0, series, 2)]
    histograms = [custom.histogram(f"times_{at}", "T.", buckets=BUCKETS).labels() for at in range(1, series, 2)]
    return _feed(counters, histograms)


def _prometheus_page(directory: str) -> Page:
    """What its documentation says to do for each scrape."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415  others do without
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    def page() -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    return page


def _prometheus_feed(directory: str, series: int) -> Feed:
    from prometheus_client import CollectorRegistry, Counter, Histogram  # noqa: PLC0415  others do without

    registry = CollectorRegistry()
    with multiprocess(directory), kept_as(MULTIPROCESS):
        counters = [Counter(f"things_{at}", "Things.", registry=registry) for at in range(0, series, 2)]
        histograms = [Histogram(f"times_{at}", "T.", registry=registry, buckets=BUCKETS) for at in range(1, series, 2)]
    return _feed(counters, histograms)


PAGES: Final[Mapping[str, Callable[[Any], Page]]] = {OURS: _our_page, MULTIPROCESS: _prometheus_page}
FEEDS: Final[Mapping[str, Callable[[Any, int], Feed]]] = {OURS: _our_feed, MULTIPROCESS: _prometheus_feed}
"""Given how many series."""
