"""What a scrape costs beside prometheus_client multiprocess: 64 workers, each with 100 counters and 100 histograms.

    python -m benchmarks.scrape [--workers 64] [--metrics 100] [--rounds 5] [--restarts 5000] [--json]

A scrape is the whole page in the text format, from nothing but what the workers left in shared memory. Both sides are
fed by the same processes, which then stay alive, and take turns; the ratio of the medians is the figure. With
``--restarts`` so many more workers come, record and go afterwards, and ours is timed once more: the incumbent would have
three files of each to read.
"""

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
from collections.abc import Callable
from multiprocessing.synchronize import Event as EventType
from typing import Any

from benchmarks.timing import interleaved, progress
from shmetrics import PerformanceMetrics
from shmetrics.exporters.prometheus import render

INCUMBENT = "prometheus_client multiprocess"
OURS = "shmetrics"
RESTARTED = "shmetrics after the restarts"
_AT_ONCE = 32
"""Restarted workers at a time."""


def feed_prometheus(count: int) -> None:
    """One worker's worth of the incumbent's metrics, in this process."""
    import prometheus_client  # noqa: PLC0415  reads PROMETHEUS_MULTIPROC_DIR at import

    registry = prometheus_client.CollectorRegistry()
    for at in range(count):
        prometheus_client.Counter(f"things_{at}", "Things.", registry=registry).inc(at)
        prometheus_client.Histogram(f"times_{at}", "Times.", registry=registry).observe(0.01 * at)


def feed_shmetrics(metrics: PerformanceMetrics, count: int) -> None:
    """One worker's worth of ours, in this process.

    Its built-in metrics, as many records as the incumbent has series; custom metrics take this place.
    """
    for at in range(count):
        metrics.update_inference(0.01 * at, at, 0.001, 0.0005)


def prometheus_scrape(directory: str) -> Callable[[], bytes]:
    """What the incumbent's documentation says to do for each scrape."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415  after the variable is set
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

    def scrape() -> bytes:
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    return scrape


def worker(
    metrics: PerformanceMetrics, count: int, ready: "multiprocessing.Queue[int]", done: EventType | None
) -> None:
    """Feed ours, and the incumbent too if this is a worker that stays; then stay."""
    feed_shmetrics(metrics, count)
    if done is not None:
        feed_prometheus(count)
        ready.put(os.getpid())
        done.wait()


def restart(metrics: PerformanceMetrics, count: int, total: int) -> None:
    """Let `total` workers come, record and go."""
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[int] = context.Queue()
    for at in range(0, total, _AT_ONCE):
        processes = [
            context.Process(target=worker, args=(metrics, count, queue, None)) for _ in range(min(_AT_ONCE, total - at))
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        progress(min(total, at + _AT_ONCE), total)


def measure(options: argparse.Namespace, directory: str) -> dict[str, Any]:
    """Every figure of one run."""
    context = multiprocessing.get_context("fork")
    ready: multiprocessing.Queue[int] = context.Queue()
    done = context.Event()
    incumbent = prometheus_scrape(directory)
    with PerformanceMetrics(max_workers=options.workers + _AT_ONCE) as metrics:
        processes = [
            context.Process(target=worker, args=(metrics, options.metrics, ready, done)) for _ in range(options.workers)
        ]
        for process in processes:
            process.start()
        for at in range(options.workers):
            ready.get()
            progress(at + 1, options.workers)
        scrapes = {INCUMBENT: incumbent, OURS: lambda: render(metrics)}
        pages = {name: len(scrape()) for name, scrape in scrapes.items()}
        timings = interleaved(scrapes, 1, options.rounds)
        if options.restarts:
            restart(metrics, options.metrics, options.restarts)
            timings |= interleaved({RESTARTED: scrapes[OURS]}, 1, options.rounds)
        done.set()
        for process in processes:
            process.join()
    return {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "workers": options.workers,
        "metrics": options.metrics,
        "restarts": options.restarts,
        "page_bytes": pages,
        "microseconds": {name: vars(timing) for name, timing in timings.items()},
        "ratio": timings[INCUMBENT].median / timings[OURS].median,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--metrics", type=int, default=100, help="counters, and as many histograms")
    parser.add_argument("--rounds", type=int, default=5)
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
    print(f"{result['workers']} live workers, {result['metrics']} counters and as many histograms each")
    print(f"{options.rounds} interleaved rounds")
    print(f"{'':44}{'median':>10}{'min':>10}{'max':>10}  ms per scrape")
    for name, timing in result["microseconds"].items():
        print(f"{name:44}" + "".join(f"{timing[key] / 1e3:10.2f}" for key in ("median", "low", "high")))
    print(f"a scrape is {result['ratio']:.1f} times faster than the incumbent's in this run")


if __name__ == "__main__":
    main()
