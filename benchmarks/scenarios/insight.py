"""What insight costs: a request on the in-flight board, reaping a dead worker with an obituary, and findings.

`enter` and `leave` are on the path of every request; an obituary is written by whoever reaps a dead worker, which may
be the first record of a new one; findings are computed by whoever looks.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from shmetrics import PerformanceMetrics, slots
from shmetrics.benchmarks.calls import Call
from shmetrics.benchmarks.figures import Figure
from shmetrics.benchmarks.fleets import deaf
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import interleaved, timed
from shmetrics.benchmarks.tables import beside
from shmetrics.evidence import Evidence
from shmetrics.findings import find

SUMMARY: Final = "what the in-flight board, obituaries and findings cost"
LABELS: Final = ("GET /predict/{model}", "GET /health")
RECORD: Final = "update_inference"
CLOSED, DIED = "of a worker that closed", "of one that died over a request"
CALLS, REAPS = "calls", "reaping a worker"


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[PerformanceMetrics]:
    """A hub whose first slot is ours."""
    with PerformanceMetrics(window_size=1000) as metrics:
        metrics.claim()
        yield metrics


def run(metrics: PerformanceMetrics, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Time calls, and reaps of workers that were real."""
    rounds = options.rounds or (3 if options.quick else 25)
    board: Any = {"enter": metrics.recorder.enter, "leave": metrics.recorder.leave}
    in_turn = "\n".join(f"leave(enter({label!r}))" for label in LABELS)
    works = {
        RECORD: Call("update(0.01)", update=metrics.update_inference),
        "enter + leave": Call(f"leave(enter({LABELS[0]!r}))", **board),
        "enter + leave, twice, labels in turn": Call(in_turn, **board),
        "findings of one worker": Call("find(evidence)", find=find, evidence=Evidence(metrics.snapshot())),
    }
    seconds = 0.005 if options.quick else 0.02
    calls = timed(works, rounds=rounds, seconds=seconds, seed=options.seed, progress=part(progress, 0, 2))
    turns = {name: _reap(metrics, dies=name == DIED) for name in (CLOSED, DIED)}
    return {CALLS: calls, REAPS: interleaved(turns, rounds, options.seed, part(progress, 1, 2))}


def report(results: dict[str, Any]) -> list[Figure]:
    """A table of each."""
    return [beside(CALLS, results[CALLS], RECORD), beside(REAPS, results[REAPS], CLOSED)]


def _reap(metrics: PerformanceMetrics, *, dies: bool) -> Callable[[], float]:
    """The seconds of reaping a worker that recorded a little, and then closed or died."""

    def turn() -> float:
        worker = multiprocessing.get_context("fork").Process(target=_work, args=(metrics, dies))
        with deaf():
            worker.start()
        worker.join()
        begun = time.perf_counter()
        reaped = slots.reap(metrics.view.segment)
        assert reaped == 1, f"{reaped} workers were reaped, and not one"
        return time.perf_counter() - begun

    return turn


def _work(metrics: PerformanceMetrics, dies: bool) -> None:
    for _ in range(300):
        metrics.update_inference(0.01)
    metrics.recorder.enter(LABELS[0])
    if not dies:
        metrics.close()
    os._exit(0)  # a worker that has not closed is one that died
