"""What it costs to define custom metrics and to create series: in one process, and in many that begin at once.

The counts of entries read are the point of it, and no matter of this machine: a process should read each entry of the
catalog once, however often others change it.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from shmetrics import CustomMetrics, PerformanceMetrics, entries
from shmetrics.benchmarks.comparing import exactly, over_rounds
from shmetrics.benchmarks.figures import Axis, Column, Curve, Figure, Point, Table, at_least, at_most
from shmetrics.benchmarks.fleets import Answers, fleet
from shmetrics.benchmarks.progress import Progress
from shmetrics.cli.options import add_count

SUMMARY: Final = "what it costs to define custom metrics and create series, in one process and in many at once"


def configure(parser: argparse.ArgumentParser) -> None:
    """How many begin at once, and how many metrics each defines."""
    add_count(parser, "--workers", 64, "processes that define the same metrics at once; 8 with --quick at most")
    add_count(parser, "--metrics", 200, "metrics that each defines; 20 with --quick at most")


def setup(_options: argparse.Namespace) -> AbstractContextManager[None]:
    """Each part makes its own hub."""
    return nullcontext()


def run(_state: None, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Create series alone, then define metrics together."""
    sizes = (50, 100) if options.quick else (250, 1000, 4000)
    workers, metrics = options.workers, options.metrics
    if options.quick:
        workers, metrics = min(workers, 8), min(metrics, 20)
    rounds = options.rounds or (1 if options.quick else 3)
    alone: dict[str, list[dict[str, float]]] = {str(series): [] for series in sizes}
    together = []
    steps = rounds * (len(sizes) + 1)
    for done in range(rounds):
        for at, series in enumerate(sizes):
            alone[str(series)].append(_alone(series))
            progress(done * (len(sizes) + 1) + at + 1, steps)
        together.append(_together(workers, metrics))
        progress((done + 1) * (len(sizes) + 1), steps)
    return {"alone": alone, "together": together, "workers": workers, "metrics": metrics}


def report(results: dict[str, Any]) -> list[Figure]:
    """By size, by count, and what should be so of both."""
    points = []
    reads = []
    for series, rounds in results["alone"].items():
        each = over_rounds([1e6 * one["seconds"] / int(series) for one in rounds])
        points.append(Point(int(series), each.median, each.low, each.high))
        reads += [one["entries_read"] / int(series) for one in rounds]
    workers, metrics, together = results["workers"], results["metrics"], results["together"]
    rows = tuple(
        (text, *(figure(values) for figure in (lambda found: over_rounds(found).median, min, max)))
        for text, key in _TOGETHER.items()
        for values in [[one[key] for one in together]]
    )
    return [
        Curve("creating series in one process", Axis("series"), Axis("a series", "us"), {"shmetrics": tuple(points)}),
        Table(
            f"{workers} processes define the same {metrics} metrics, each with a series",
            (Column("what"), Column("median"), Column("min"), Column("max")),
            rows,
        ),
        at_most(
            "entries that a process reads for each series that it creates itself", 0.1, exactly(max(reads)), unit=""
        ),
        at_most(
            "times that a process reads each entry",
            1.0,
            exactly(max(one["entries_read"] / workers / one["entries"] for one in together)),
            unit="",
        ),
        at_least(
            "metrics that every process has counted",
            metrics,
            exactly(min(one["metrics_counted_by_all"] for one in together)),
            unit="",
        ),
    ]


_TOGETHER: Final = {
    "seconds until the slowest has defined them": "slowest_defined_seconds",
    "seconds until the slowest has counted, too": "slowest_seconds",
    "entries in the catalog": "entries",
    "entries read, by all": "entries_read",
    "series that waited": "series_that_waited",
    "warnings": "warnings",
}


@contextmanager
def _reads() -> Iterator[list[int]]:
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


def _alone(series: int) -> dict[str, float]:
    """One process creates so many series of one metric."""
    with PerformanceMetrics(max_series=series + 100, max_workers=2) as metrics:
        counter = CustomMetrics(metrics).counter("tokens_total", labels=["model"])
        with _reads() as read:
            start = time.perf_counter()
            for number in range(series):
                counter.labels(str(number)).inc()
            seconds = time.perf_counter() - start
    return {"seconds": seconds, "entries_read": len(read)}


class _Warnings(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.texts.append(record.getMessage())


def _together(workers: int, count: int) -> dict[str, float]:
    """Many processes, each with its slot, define the same metrics and label sets, all at once."""
    with (
        PerformanceMetrics(max_workers=workers + 1, max_series=4 * count) as metrics,
        fleet(workers, "fork", _as_definer, metrics, count) as definers,
    ):
        answers = definers.ask("define", time.monotonic() + 0.01 + 0.001 * workers)
        with _reads() as there:  # this process has read none before, and reads each once
            found = CustomMetrics(metrics).get_all_metrics().values()
        counted_by_all = sum([each["value"] for each in family["series"]] == [workers] for family in found)
    return {
        "slowest_defined_seconds": max(answer[0] for answer in answers),
        "slowest_seconds": max(answer[1] for answer in answers),
        "entries": len(there),
        "entries_read": sum(answer[2] for answer in answers),
        "series_that_waited": sum(answer[3] for answer in answers),
        "warnings": sum(answer[4] for answer in answers),
        "metrics_counted_by_all": counted_by_all,
    }


def _as_definer(_number: int, metrics: PerformanceMetrics, count: int) -> Answers:
    warnings = _Warnings()
    logging.getLogger("shmetrics").addHandler(warnings)

    def define(begin: float) -> tuple[float, float, int, int, int]:
        with _reads() as read:
            custom = CustomMetrics(metrics)
            time.sleep(max(begin - time.monotonic(), 0.0))
            start = time.perf_counter()
            counters = [custom.counter(f"m{number}_total", labels=["model"]) for number in range(count)]
            defined = time.perf_counter() - start
            for counter in counters:
                counter.labels("a").inc()
            waiting = len(metrics.book.waiting)
            seconds = time.perf_counter() - start
        return defined, seconds, len(read), waiting, len(warnings.texts)

    metrics.claim()
    return {"define": define}
