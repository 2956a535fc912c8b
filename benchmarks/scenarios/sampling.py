"""What the sampler costs a worker that computes without pause, in Python alone: the worst there is for it.

Pairs of short stretches of the same work in the same process, one sampled and one not, in an order that is drawn for
each pair. For each the work done is counted, by the second and by the second of processor time of the process (the
sampler's is in it). The figure is the median over all pairs of one over the other, so that what else the machine does
falls on both; it takes a quiet machine to tell 1 % from 3 %.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from shmetrics.benchmarks.comparing import Ratio, over_rounds, paired
from shmetrics.benchmarks.figures import Cell, Column, Figure, Table, at_least
from shmetrics.benchmarks.progress import Progress
from shmetrics.benchmarks.rounds import interleaved
from shmetrics.cli.options import add_count, add_seconds
from shmetrics.profiling.sampling import Sampling

SUMMARY: Final = "what the sampler costs a worker that computes without pause"
SAMPLED, ALONE = "sampled", "alone"
DEPTH: Final = 30
"""Frames under the work, as a framework has them."""
LEAST: Final = 0.98
"""Of the work, what is left of it at 100 looks a second."""


def configure(parser: argparse.ArgumentParser) -> None:
    """How often the sampler looks, and how long a stretch is."""
    add_count(parser, "--rate", 100, "looks a second")
    add_seconds(parser, "--seconds", 0.3, "of work in each stretch")


def setup(_options: argparse.Namespace) -> AbstractContextManager[None]:
    """It needs nothing."""
    return nullcontext()


def run(_state: None, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Work, sampled and not."""
    seconds = min(options.seconds, 0.1) if options.quick else options.seconds
    turns = {SAMPLED: _turn(seconds, options.rate), ALONE: _turn(seconds, None)}
    for turn in turns.values():  # to warm up
        turn()
    found = interleaved(turns, options.rounds or (4 if options.quick else 100), options.seed, progress)
    return {"rate": options.rate, "done": found}


def report(results: dict[str, Any]) -> list[Figure]:
    """Of the work, what is left of it."""
    done = results["done"]
    by_time, by_processor = (
        paired([one[by] for one in done[SAMPLED]], [one[by] for one in done[ALONE]])
        for by in ("by_time", "by_processor")
    )
    cost = over_rounds([one["cost"] for one in done[SAMPLED]])
    rows: tuple[tuple[Cell, ...], ...] = (
        ("less work by the second", *_lost(by_time)),
        ("less work by the second of processor time", *_lost(by_processor)),
        ("of a processor, by the sampler's own account", 100 * cost.median, 100 * cost.low, 100 * cost.high),
    )
    columns = (Column("what"), Column("median", "%"), Column("least", "%"), Column("most", "%"))
    return [
        Table(f"what sampling at {results['rate']} Hz costs", columns, rows),
        at_least("work that a sampled worker does, of what it does alone", LEAST, by_time, unit=""),
    ]


def _lost(left: Ratio) -> tuple[float, float, float]:
    """Of the work, what is gone, in percent: in the middle, at least, at most."""
    return 100 * (1 - left.median), 100 * (1 - left.high), 100 * (1 - left.low)


def _turn(seconds: float, rate: float | None) -> Callable[[], dict[str, float]]:
    def turn() -> dict[str, float]:
        if rate is None:
            by_time, by_processor = work(seconds)
            return {"by_time": by_time, "by_processor": by_processor}
        sampling = Sampling(rate)
        with sampling:
            by_time, by_processor = work(seconds)
        profile = sampling.profile()
        cost = profile.cost / max(profile.seconds, 1e-9)
        return {"by_time": by_time, "by_processor": by_processor, "cost": cost}

    return turn


def work(seconds: float, depth: int = DEPTH) -> tuple[float, float]:
    """Work done by the second, and by the second of processor time."""
    if depth:
        return work(seconds, depth - 1)
    done, begun, used = 0, time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - begun) < seconds:
        done += sum(_unit(number) for number in range(50))
    return done / passed, done / (time.process_time() - used)


def _unit(number: int) -> int:
    """Counts as one: a little of arithmetic, of attributes and of containers."""
    table = {key: key * number for key in range(5)}
    return 1 if table[4] >= 0 and str(number) else 0
