"""What profiling a function costs beside calling it.

What a call takes more than a bare one, in the same round, is the figure, and how many times an `update_inference` that
is. Calls that the sampler watches come after the others: it goes on for a moment, and would be in their figures. What
its own thread takes is another scenario, `sampling`.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.comparing import over_rounds, paired
from shmetrics.benchmarks.figures import Cell, Column, Figure, Table
from shmetrics.benchmarks.peers import MEASUREMENT
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import timed
from shmetrics.profiling.profiler import Profiler

SUMMARY: Final = "what profiling a function costs beside calling it"
BASE: Final = "update_inference"
FUNCTION, METHOD, COROUTINE = "bare function", "bare method", "bare coroutine"
STEP, GENERATOR = "bare step", "bare generator"
BARE_OF: Final = {
    "profiled function": FUNCTION,
    "profiled method": METHOD,
    "profiled, either of two nested calls": FUNCTION,
    "profiled, with a stage": FUNCTION,
    "profiled, cProfile on 1 % of calls": FUNCTION,
    "profiled, watched by the sampler": FUNCTION,
    "profiled coroutine": COROUTINE,
    "step of a profiled generator": STEP,
    "profiled generator of one value": GENERATOR,
}
CALLS: Final = {"profiled, either of two nested calls": 2}
"""Profiled calls in one, where there is more than one."""


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[PerformanceMetrics]:
    """A hub."""
    with PerformanceMetrics(window_size=1000) as metrics:
        yield metrics


def run(metrics: PerformanceMetrics, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Time all of them, and then those that are watched."""
    how: dict[str, Any] = {
        "rounds": options.rounds or (5 if options.quick else 50),
        "seconds": 0.005,
        "seed": options.seed,
    }
    calls = timed(_calls(metrics), progress=part(progress, 0, 2), **how)
    return {"calls": calls, "watched": timed(_watched(metrics), progress=part(progress, 1, 2), **how)}


def report(results: dict[str, Any]) -> list[Figure]:
    """A line for each kind of function."""
    base: list[float] = results["calls"][BASE]
    rows: list[tuple[Cell, ...]] = []
    for name, bare in BARE_OF.items():
        of = results["calls"] if name in results["calls"] else results["watched"]
        pairs = zip(of[name], of[bare], strict=True)
        added = [(one - other) / CALLS.get(name, 1) for one, other in pairs]
        whole, more = over_rounds(of[name]), over_rounds(added)
        times = (1e6 * seconds for seconds in (whole.median, more.median, more.low, more.high))
        rows.append((name, *times, paired(added, base).median))
    columns = (
        Column("call"),
        Column("median", "us", 3),
        Column("added", "us", 3),
        Column("min", "us", 3),
        Column("max", "us", 3),
        Column(f"added, times {BASE}"),
    )
    return [Table("what a call takes, and how much of it for being profiled", columns, tuple(rows), drawn="added")]


def _bare(x: int) -> int:
    return x


def _values(x: int) -> Iterator[int]:
    yield x


def _endless() -> Iterator[int]:
    while True:
        yield 1


async def _answer(x: int) -> int:
    return x


def _finished(made: Any) -> Call:
    """A coroutine without an event loop, which would cost more than all that is measured here."""
    return Call("try:\n    made(1).send(None)\nexcept StopIteration:\n    pass", made=made)


def _calls(metrics: PerformanceMetrics) -> dict[str, Work]:
    profiler = Profiler(metrics)
    profiled = profiler.profile_function(_bare)
    looked = profiler.profile_function(name="looked", breakdown="cprofile")(_bare)
    values, answer = profiler.profile_function(_values), profiler.profile_function(_answer)

    @profiler.profile_function
    def outer(x: int) -> int:
        return profiled(x)

    @profiler.profile_function
    def staged(x: int) -> int:
        with profiler.stage("stage"):
            return x

    class Model:
        def bare(self, x: int) -> int:
            return x

        @profiler.profile_function
        def predict(self, x: int) -> int:
            return x

    model = Model()
    return {
        BASE: Call(f"update{MEASUREMENT}", update=metrics.update_inference),
        FUNCTION: Call("function(1)", function=_bare),
        "profiled function": Call("function(1)", function=profiled),
        METHOD: Call("model.bare(1)", model=model),
        "profiled method": Call("model.predict(1)", model=model),
        "profiled, either of two nested calls": Call("function(1)", function=outer),
        "profiled, with a stage": Call("function(1)", function=staged),
        "profiled, cProfile on 1 % of calls": Call("function(1)", function=looked),
        COROUTINE: _finished(_answer),
        "profiled coroutine": _finished(answer),
        STEP: Call("step()", step=_endless().__next__),
        "step of a profiled generator": Call("step()", step=profiler.profile_function(_endless)().__next__),
        GENERATOR: Call("list(values(1))", values=_values),
        "profiled generator of one value": Call("list(values(1))", values=values),
    }


def _watched(metrics: PerformanceMetrics) -> dict[str, Work]:
    looked = Profiler(metrics).profile_function(name="watched", breakdown="sampling")(_bare)
    return {
        FUNCTION: Call("function(1)", function=_bare),
        "profiled, watched by the sampler": Call("function(1)", function=looked),
    }
