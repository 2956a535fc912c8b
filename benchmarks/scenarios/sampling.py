"""What the sampler costs a worker that computes without pause, in Python alone: the worst there is for it.

Pairs of short stretches of the same work in the same process, one sampled and one not, in an order that is drawn for
each pair. For each the work done is counted, by the second and by the second of processor time of the process (the
sampler's is in it). A hundred looks a second cost so little that what else the machine does hides it; so the sampled
stretch is looked at as often as the sampler can, whatever it may cost, and what a look has cost is counted, and told as
what so many a second do. Where these would take more than its share, the sampler looks less often, and so it is told.
"""

import argparse
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from shmetrics.benchmarks.comparing import OPEN, Ratio, over_rounds
from shmetrics.benchmarks.figures import Cell, Column, Figure, Table, at_least
from shmetrics.benchmarks.progress import Progress
from shmetrics.benchmarks.rounds import interleaved
from shmetrics.cli.options import add_count, add_seconds
from shmetrics.profiling.sampler import SHARE, Sampler

SUMMARY: Final = "what the sampler costs a worker that computes without pause"
SAMPLED, ALONE = "sampled", "alone"
BY: Final = ("by_time", "by_processor")
DEPTH: Final = 30
"""Frames under the work, as a framework has them."""
OFTEN: Final = 1000.0
"""Looks a second of a sampled stretch."""
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
    turns = {SAMPLED: lambda: _sampled(seconds), ALONE: lambda: _alone(seconds)}
    _alone(seconds)  # to warm up
    _sampled(seconds)
    found = interleaved(turns, options.rounds or (4 if options.quick else 100), options.seed, progress)
    return {"rate": options.rate, "done": found}


def report(results: dict[str, Any]) -> list[Figure]:
    """Of the work, what is left of it."""
    done, rate = results["done"], results["rate"]
    by_time, by_processor = (_left(done, by, rate) for by in BY)
    account = over_rounds([1.0 - _looks(one, rate) * one["look"] for one in done[SAMPLED]])
    rows: tuple[tuple[Cell, ...], ...] = (
        ("less work by the second", *_lost(by_time)),
        ("less work by the second of processor time", *_lost(by_processor)),
        ("of a processor, by the sampler's own account", *_lost(account)),
    )
    columns = (Column("what"), Column("median", "%"), Column("surely above", "%"), Column("surely below", "%"))
    most, looks = (
        over_rounds(values).median
        for values in ([one["looks"] for one in done[SAMPLED]], [_looks(one, rate) for one in done[SAMPLED]])
    )
    notes = (
        f"of what {most:,.0f} looks a second cost, the part that is due to {looks:.3g}",
        f"so many of {rate:g} does the sampler take, which looks for {100 * SHARE:.3g} % of a processor at most",
    )
    return [
        Table(f"what sampling at {rate:g} Hz costs", columns, rows, notes),
        at_least("work that a sampled worker does, of what it does alone", LEAST, by_time, unit=""),
    ]


def _looks(sampled: dict[str, float], rate: float) -> float:
    """How many looks a second the sampler takes of those it is asked for, by what one has cost."""
    return min(rate, SHARE / sampled["look"])


def _left(done: dict[str, list[dict[str, float]]], by: str, rate: float) -> Ratio:
    """Of the work, what is left at so many looks a second, pair by pair."""
    pairs = zip(done[SAMPLED], done[ALONE], strict=True)
    return over_rounds([1.0 - (1.0 - one[by] / other[by]) * _looks(one, rate) / one["looks"] for one, other in pairs])


def _lost(left: Ratio) -> tuple[float | None, ...]:
    """Of the work, what is gone, in percent: in the middle, and between what that surely is."""
    least, most = (None if left.between == OPEN else 100 * (1 - value) for value in left.between)
    return 100 * (1 - left.median), most, least


def _sampled(seconds: float) -> dict[str, float]:
    """Work that is looked at, and what that was: looks a second, and the seconds of processor time of each."""
    sampler, enough, looks = Sampler(OFTEN, share=1.0), threading.Lock(), 0

    def wait(most: float) -> bool:
        nonlocal looks
        looks += 1
        return enough.acquire(timeout=most)

    thread = threading.Thread(target=sampler.run, args=(wait,))
    with enough:
        thread.start()
        found = _alone(seconds)
    thread.join()
    return {**found, "looks": looks / seconds, "look": sampler.taken().cost / looks}


def _alone(seconds: float) -> dict[str, float]:
    return dict(zip(BY, work(seconds), strict=True))


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
