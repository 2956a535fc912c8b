"""What measuring a task costs: beside a record, and in a pool whose tasks take a millisecond of computing.

The pools have one process each, so that they do not compete; a turn is a `map` of two hundred tasks.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.calls import Call
from shmetrics.benchmarks.figures import Figure
from shmetrics.benchmarks.fleets import deaf
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import interleaved, timed
from shmetrics.benchmarks.tables import beside

SUMMARY: Final = "what measuring a task costs, beside a record and in a pool"
RECORD: Final = "update_inference"
PLAIN, MEASURED = "a plain pool", "a measured pool"
PATIENCE: Final = 20.0
"""Seconds for what takes a tenth of one."""
ALONE, POOLS = "a task that does nothing", "a task of a millisecond, in a pool"
State = tuple[PerformanceMetrics, Mapping[str, Any]]


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[State]:
    """A hub, and both pools, their workers started."""
    context = multiprocessing.get_context("fork")
    with ExitStack() as stack:
        metrics = stack.enter_context(PerformanceMetrics(window_size=1000))
        with deaf():
            plain = stack.enter_context(context.Pool(1))
            measured = stack.enter_context(metrics.pool(1, context="fork"))
        pools = {PLAIN: plain, MEASURED: measured}
        for pool in pools.values():
            _turn(pool, 10)()
        yield metrics, pools


def run(state: State, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Time tasks by themselves, and in both pools."""
    metrics, pools = state
    rounds, tasks = options.rounds or (3 if options.quick else 25), 20 if options.quick else 200
    alone = timed(
        {
            RECORD: Call("update(0.1)", update=metrics.update_inference),
            "a task": Call("task(1)", task=metrics.task(nothing)),
        },
        rounds=rounds,
        seconds=0.005 if options.quick else 0.02,
        seed=options.seed,
        progress=part(progress, 0, 2),
    )
    turns = {name: _turn(pool, tasks) for name, pool in pools.items()}
    return {ALONE: alone, POOLS: interleaved(turns, rounds, options.seed, part(progress, 1, 2)), "tasks": tasks}


def report(results: dict[str, Any]) -> list[Figure]:
    """A table of each."""
    of = f"time that passes, by task, of a map of {results['tasks']}"
    return [beside(ALONE, results[ALONE], RECORD), beside(POOLS, results[POOLS], PLAIN, (of,))]


def nothing(number: int) -> int:
    """A task that only is measured."""
    return number


def work(_number: int) -> None:
    """A task of a millisecond, busy."""
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass


def _turn(pool: Any, tasks: int) -> Callable[[], float]:
    """The seconds that pass by task."""

    def turn() -> float:
        begun = time.perf_counter()
        found = pool.map_async(work, range(tasks))
        found.wait(PATIENCE)
        if not found.ready():  # a worker that is killed takes its task with it, and `map` would wait for ever
            raise TimeoutError(f"{tasks} tasks took a pool more than {PATIENCE:g} s: has its worker been killed?")
        found.get()
        return (time.perf_counter() - begun) / tasks

    return turn
