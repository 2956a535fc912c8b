"""From a condition that becomes true in a worker to the call of the handler; and what waiting for it costs.

A forked worker records healthy requests, and then fails. The monitoring process looks once a second, in turn with the
tripwire and without; each round fails at another moment of that second. Times hold waiting for a CPU too: see the load.
"""

import argparse
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event, Semaphore
from typing import Any, Final

from shmetrics import PerformanceAlerting, PerformanceMetrics
from shmetrics.alerting import performance
from shmetrics.alerting.tripwire import POLL, Tripwire, Wires
from shmetrics.benchmarks.calls import Call
from shmetrics.benchmarks.comparing import over_rounds
from shmetrics.benchmarks.figures import Column, Figure, Table
from shmetrics.benchmarks.fleets import deaf
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import interleaved, timed

SUMMARY: Final = "how soon an alert's handler is called, and what waiting for it costs"
THRESHOLDS: Final = {"error_rate_threshold": 0.05, "latency_p95_threshold": 0.1}
PATIENCE: Final = 30.0
WITH, WITHOUT = "with the tripwire", "at one look a second"


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[dict[int, PerformanceMetrics]]:
    """Hubs of few slots and of many, to be polled."""
    with PerformanceMetrics(max_workers=4) as small, PerformanceMetrics(max_workers=64) as large:
        yield {4: small, 64: large}


def run(hubs: dict[int, PerformanceMetrics], options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Fail again and again; then poll."""
    draw = random.Random(options.seed)
    turns = {name: _failure(draw, tripwire=name == WITH) for name in (WITH, WITHOUT)}
    latencies = interleaved(turns, options.rounds or (1 if options.quick else 10), options.seed, part(progress, 0, 2))
    wires = Wires(errors=True, misses=True, slower_than=1.0, deaths=True)
    polls = {
        f"of {count} slots": Call("tripped()", tripped=Tripwire(metrics.view.segment, wires).tripped)
        for count, metrics in hubs.items()
    }
    seconds = 0.005 if options.quick else 0.02
    found = timed(polls, rounds=25, seconds=seconds, seed=options.seed, progress=part(progress, 1, 2))
    return {"latencies": latencies, "polls": found}


def report(results: dict[str, Any]) -> list[Figure]:
    """How soon, and at what cost."""
    latencies = {name: over_rounds(seconds) for name, seconds in results["latencies"].items()}
    polls = {name: over_rounds(seconds) for name, seconds in results["polls"].items()}
    return [
        Table(
            "from the failure to the handler",
            (Column("how"), Column("median", "ms", 1), Column("min", "ms", 1), Column("max", "ms", 1)),
            tuple((name, 1e3 * each.median, 1e3 * each.low, 1e3 * each.high) for name, each in latencies.items()),
            drawn="median",
        ),
        Table(
            "a poll of the tripwire",
            (Column("poll"), Column("median", "us", 1), Column("of a CPU", "%")),
            tuple((name, 1e6 * each.median, 100.0 * each.median / POLL) for name, each in polls.items()),
        ),
    ]


def _failure(draw: random.Random, *, tripwire: bool) -> Callable[[], float]:
    """The seconds from a failure to the handler."""

    def turn() -> float:
        context = multiprocessing.get_context("fork")
        fail, end, failed_at = context.Semaphore(0), context.Event(), context.Value("d", 0.0)
        called: list[float] = []
        with PerformanceMetrics(window_size=100, max_workers=64) as metrics, _wired(tripwire):
            worker = context.Process(target=_work, args=(metrics, fail, failed_at, end), daemon=True)
            with deaf():
                worker.start()
            try:
                _until(lambda: metrics.get_statistics()["total_requests"] >= 100)
                with PerformanceAlerting(metrics, THRESHOLDS) as alerting:
                    alerting.register_handler("critical", lambda alert: called.append(time.monotonic()))
                    time.sleep(0.3 + draw.random())
                    fail.release()
                    _until(lambda: bool(called))
            finally:
                end.set()
                fail.release()  # of whoever is interrupted before
                worker.join()
        return called[0] - float(failed_at.value)

    return turn


def _work(metrics: PerformanceMetrics, fail: Semaphore, failed_at: "Synchronized[float]", end: Event) -> None:
    """Be healthy; then, at a signal, fail and say when."""
    for _ in range(100):
        metrics.update_inference(0.01)
    if fail.acquire(timeout=PATIENCE):
        failed_at.value = time.monotonic()
        metrics.record_error(20)
    end.wait(PATIENCE)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"an alert, or a worker, took more than {PATIENCE:g} s")
        time.sleep(0.001)


@contextmanager
def _wired(tripwire: bool) -> Iterator[None]:
    """Without the tripwire there is nothing that it should wait for."""
    known = vars(performance)["wires_of"]
    if not tripwire:
        vars(performance)["wires_of"] = lambda rules: Wires()
    try:
        yield
    finally:
        vars(performance)["wires_of"] = known
