"""What it costs to define custom metrics and create series: in one process, and in many that begin at once.

    python -m benchmarks.catalog [--workers 64] [--metrics 200] [--json]

The seconds are this machine's and this minute's; the counts of entries read, the point of it, are not: a process should
read each entry of the catalog once, however often others change it.
"""

import argparse
import json
import logging
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shmetrics import CustomMetrics, PerformanceMetrics, entries

SERIES = (250, 1000, 4000)


@contextmanager
def reads() -> Iterator[list[int]]:
    """The blocks of the entries that this process reads while it lasts."""
    noticed: list[int] = []
    read = entries.read

    def noted(blocks: Any, block: int) -> entries.Entry:
        noticed.append(block)
        return read(blocks, block)

    entries.read = noted
    try:
        yield noticed
    finally:
        entries.read = read


def alone(series: int) -> dict[str, float]:
    """One process creates so many series of one metric."""
    with PerformanceMetrics(max_series=series + 100, max_workers=2) as metrics:
        counter = CustomMetrics(metrics).counter("tokens_total", labels=["model"])
        with reads() as read:
            start = time.perf_counter()
            for number in range(series):
                counter.labels(str(number)).inc()
            seconds = time.perf_counter() - start
    return {"seconds": seconds, "microseconds_per_series": 1e6 * seconds / series, "entries_read": len(read)}


class Warnings(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(record.getMessage())


def _hub(name: str, workers: int, metrics_count: int) -> PerformanceMetrics:
    return PerformanceMetrics(name=name, max_workers=workers, max_series=4 * metrics_count)


def _define(name: str, workers: int, metrics_count: int, barrier: Any, results: Any) -> None:
    warnings = Warnings()
    logging.getLogger("shmetrics").addHandler(warnings)
    with reads() as read, _hub(name, workers, metrics_count) as metrics:
        metrics.claim()
        custom = CustomMetrics(metrics)
        barrier.wait()
        start = time.perf_counter()
        counters = [custom.counter(f"m{number}_total", labels=["model"]) for number in range(metrics_count)]
        defined = time.perf_counter() - start
        for counter in counters:
            counter.labels("a").inc()
        waiting = sum(len(counter.waiting) for counter in counters)
        seconds = time.perf_counter() - start
    results.put((defined, seconds, len(read), waiting, len(warnings.texts)))


def together(workers: int, metrics_count: int) -> dict[str, float]:
    """Many processes, each with its slot, define the same metrics and label sets, all at once."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(workers), context.SimpleQueue()
    name = f"bench-{os.getpid()}"
    arguments = (name, workers, metrics_count, barrier, results)
    processes = [context.Process(target=_define, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    answers = [results.get() for _ in processes]
    for process in processes:
        process.join()
    with _hub(name, workers, metrics_count) as metrics:
        found = CustomMetrics(metrics).get_all_metrics().values()
        counted_by_all = sum([each["value"] for each in family["series"]] == [workers] for family in found)
        metrics.unlink()
    return {
        "slowest_defined_seconds": max(answer[0] for answer in answers),
        "slowest_seconds": max(answer[1] for answer in answers),
        "entries_read": sum(answer[2] for answer in answers),
        "series_that_waited": sum(answer[3] for answer in answers),
        "warnings": sum(answer[4] for answer in answers),
        "metrics_counted_by_all": counted_by_all,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--metrics", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    figures = {
        **{f"{series} series in one process": alone(series) for series in SERIES},
        f"{options.workers} workers define the same {options.metrics} metrics": together(
            options.workers, options.metrics
        ),
    }
    if options.json:
        print(json.dumps({"python": platform.python_version(), "cpus": os.cpu_count(), **figures}, indent=2))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    for name, values in figures.items():
        print(name)
        for key, value in values.items():
            print(f"    {key.replace('_', ' '):28}{value:12,.3f}".rstrip("0").rstrip("."))


if __name__ == "__main__":
    main()
