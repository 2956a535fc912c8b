"""What a scrape costs beside prometheus_client multiprocess: 64 workers, each with 100 counters and 100 histograms.

    python -m benchmarks.scrape [--workers 64] [--metrics 100] [--rounds 7] [--restarts 5000] [--json]

A scrape is the whole page in the text format, from nothing but what the workers left in shared memory. The same
processes feed both sides, and every number changes between two rounds; the sides take turns, and the ratio of the
medians is the figure. With ``--restarts`` so many workers come, record with ours and go, and ours is timed again with a
fleet of the same size. (The incumbent would have two files of each to read by then.)
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event
from typing import Any

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.benchmarks.timing import interleaved, progress
from shmetrics.book import Metric
from shmetrics.instruments import Counter, Histogram

INCUMBENT = "prometheus_client multiprocess"
OURS = "shmetrics"
RESTARTED = "shmetrics after the restarts"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_context = multiprocessing.get_context("fork")


Feed = Callable[[random.Random], None]
"""Changes every metric of one worker, by amounts that are drawn."""


def prometheus_feed(count: int) -> Feed:
    """One worker's metrics of the incumbent, in this process."""
    import prometheus_client  # noqa: PLC0415  reads PROMETHEUS_MULTIPROC_DIR at import

    registry = prometheus_client.CollectorRegistry()
    metrics = [
        (
            prometheus_client.Counter(f"things_{at}", "Things.", registry=registry),
            prometheus_client.Histogram(f"times_{at}", "Times.", registry=registry, buckets=BUCKETS),
        )
        for at in range(count)
    ]

    def feed(draw: random.Random) -> None:
        for things, times in metrics:
            things.inc(draw.randint(1, 100))
            times.observe(draw.lognormvariate(-2, 1.5))

    return feed


Handles = list[tuple[Metric[Counter], Metric[Histogram]]]


def define_shmetrics(metrics: PerformanceMetrics, count: int) -> Handles:
    """Ours, defined once before the fork, as a preloaded application does."""
    custom = CustomMetrics(metrics)
    return [
        (custom.counter(f"things_{at}_total", "Things."), custom.histogram(f"times_{at}", "Times.", buckets=BUCKETS))
        for at in range(count)
    ]


def shmetrics_feed(handles: Handles) -> Feed:
    """The same as the incumbent's, in this process."""
    metrics = [(things.labels(), times.labels()) for things, times in handles]

    def feed(draw: random.Random) -> None:
        for things, times in metrics:
            things.inc(draw.randint(1, 100))
            times.observe(draw.lognormvariate(-2, 1.5))

    return feed


def prometheus_scrape(directory: str) -> Callable[[], bytes]:
    """What the incumbent's documentation says to do for each scrape."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415  after the variable is set
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    def scrape() -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    return scrape


def shmetrics_scrape(metrics: PerformanceMetrics) -> Callable[[], bytes]:
    """The page that `shmetrics serve` and every exporter of ours answers with."""
    from shmetrics.exporters.prometheus import render  # noqa: PLC0415  imports prometheus_client: see above

    return lambda: render(metrics)


class Fleet:
    """Workers that feed whenever they are told to, until they are told to go. They start one after the other."""

    def __init__(self, handles: Handles, workers: int, *, both: bool) -> None:
        self._turn = _context.Barrier(workers + 1)
        self._is_over = _context.Event()
        self._processes: list[ForkProcess] = []
        started = _context.Event()
        for number in range(workers):
            process = _context.Process(target=self._work, args=(handles, number, started, both))
            process.start()
            self._processes.append(process)
            started.wait()
            started.clear()

    def _work(self, handles: Handles, number: int, started: Event, both: bool) -> None:
        feeds = [shmetrics_feed(handles), *([prometheus_feed(len(handles))] if both else [])]
        draws = [random.Random(number) for _ in feeds]
        self._feed(feeds, draws)
        started.set()
        while self._turn.wait() >= 0 and not self._is_over.is_set():
            self._feed(feeds, draws)
            self._turn.wait()

    @staticmethod
    def _feed(feeds: list[Feed], draws: list[random.Random]) -> None:
        for feed, draw in zip(feeds, draws, strict=True):
            feed(draw)

    def feed(self) -> None:
        """Let all of them feed once, and wait until they have: a scrape that follows finds every number changed.

        And until they sleep again: to go to sleep takes 64 processes as long as a scrape of ours, on the same CPUs.
        """
        self._turn.wait()
        self._turn.wait()
        while self._turn.n_waiting < len(self._processes):
            time.sleep(0.001)
        time.sleep(0.01)

    def dismiss(self) -> None:
        """Let them go, and wait until they have."""
        self._is_over.set()
        self._turn.wait()
        for process in self._processes:
            process.join()


def measure(options: argparse.Namespace, directory: str) -> dict[str, Any]:
    """Every figure of one run."""
    series = options.metrics * (1 + len(BUCKETS) + 4)
    with PerformanceMetrics(max_workers=options.workers, max_series=series) as metrics:
        handles = define_shmetrics(metrics, options.metrics)
        fleet = Fleet(handles, options.workers, both=True)
        scrapes = {INCUMBENT: prometheus_scrape(directory), OURS: shmetrics_scrape(metrics)}
        pages = {name: scrape() for name, scrape in scrapes.items()}
        timings = interleaved(scrapes, 1, options.rounds, before=fleet.feed)
        if options.restarts:
            fleet.dismiss()
            for done in range(options.restarts):
                Fleet(handles, 1, both=False).dismiss()
                progress(done + 1, options.restarts)
            fleet = Fleet(handles, options.workers, both=False)
            scrapes[OURS]()
            timings |= interleaved({RESTARTED: scrapes[OURS]}, 1, options.rounds, before=fleet.feed)
        workers_seen = metrics.get_statistics()["workers_seen"]
        fleet.dismiss()
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "workers": options.workers,
        "metrics": options.metrics,
        "workers_seen": workers_seen,
        "page_lines": {name: page.count(b"\n") for name, page in pages.items()},
        "microseconds": {name: vars(timing) for name, timing in timings.items()},
        "ratio": timings[INCUMBENT].median / timings[OURS].median,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--metrics", type=int, default=100, help="counters, and as many histograms")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--restarts", type=int, default=0, help="workers that come and go before ours is timed again")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        result = measure(options, directory)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"Python {result['python']}, {result['cpus']} CPUs")
    print(f"{result['workers']} live workers of {result['workers_seen']}, {options.rounds} interleaved rounds")
    print(f"{result['metrics']} counters and as many histograms in each worker")
    print(f"{'':44}{'median':>10}{'min':>10}{'max':>10}  ms per scrape")
    for name, timing in result["microseconds"].items():
        print(f"{name:44}" + "".join(f"{timing[key] / 1e3:10.2f}" for key in ("median", "low", "high")))
    print(f"a scrape is {result['ratio']:.1f} times faster than the incumbent's in this run")


if __name__ == "__main__":
    main()
