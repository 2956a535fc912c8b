"""What many processes that record at once do to each other, and what a process that reads does to them.

A point is so many writers, of one peer, with nobody who reads or with a process that renders the whole page so many
times a second. All points take turns, in an order that is drawn for each round, those of one peer after one another.
The writers of a point begin at one moment that they have agreed on, and count what they did until another. Four of five
calls are timed together, by the processor time that they take: that, by record, is what a point has to say about
contention on a machine that does other things as well, since it has what calls wait for in the processor (cache lines)
and in the kernel (locks), and not what others had of the processors. Where a processor changes its speed from second to
second, as virtual ones do, its time is no measure of two points that came one after the other. So a loop that touches
no memory is timed between the calls, and what a record takes is also told in such loops; claims are about that. Every
fifth call is timed by itself, by time that passes, for a writer's P50 and P99.9. How far the writer that did most or
least is from the mean is said of all rounds together, in which luck with the scheduler evens out, and an advantage does
not.

The processes live through all points, and those that a point has no use for sleep. A reader reads the slots of all.
mpmetrics, which cannot be installed beside us, is not among the peers; nor is C, which has no processes.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.comparing import ENOUGH, OPEN, SURE, Ratio, over_rounds, paired
from shmetrics.benchmarks.figures import Axis, Cell, Claim, Column, Curve, Figure, Point, Table, at_least, at_most
from shmetrics.benchmarks.fleets import STARTS, Answers, Fleet, fleet
from shmetrics.benchmarks.pages import PAGES
from shmetrics.benchmarks.peers import OURS, REQUEST, WORKS, missing, opened, peers
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS
from shmetrics.benchmarks.peers.shared_array import NAME as ARRAY
from shmetrics.benchmarks.progress import Progress
from shmetrics.benchmarks.rounds import interleaved
from shmetrics.benchmarks.taken import by_key
from shmetrics.cli.options import UsageError, add_counts, add_text

SUMMARY: Final = "many processes that record at once, from 1 to 64, with and without one that reads"
WRITERS: Final = (1, 2, 4, 8, 16, 32, 64)
RATES: Final = (0, 1, 10, 100)
MOST: Final = 64
"""Writers: so many slots has a hub that nobody asked for more."""
PEERS: Final = {"fork": (OURS, MULTIPROCESS, ARRAY), "spawn": (OURS, MULTIPROCESS)}
"""A lock of the one start method is not for processes of the other, so the array is there once."""
BASE: Final = 2
"""Writers that others are compared with."""
CROWDS: Final = (16, 64)
PER_CORE: Final = 0.9
FROM_MEAN: Final = 20.0
DISTURBED: Final = 1.5
_TOGETHER, _SINGLE = 100, 25
"""Calls between two looks at the clock."""
_LOOP: Final = Call("add(numbers)", add=sum, numbers=range(300))
"""As long at any number of writers, but for the processor's speed; and short, or it would disturb the calls."""
_TWO_SIDED: Final = statistics.NormalDist().inv_cdf((1.0 + SURE) / 2)


@dataclass(frozen=True)
class Spot:
    """Where one point lies."""

    start: str
    peer: str
    writers: int
    rate: int
    """Of who reads: so many times a second."""


@dataclass(frozen=True)
class State:
    """The processes, by how they were started."""

    writers: Mapping[str, Fleet]
    readers: Mapping[str, Fleet]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add flags."""
    add_counts(parser, "--writers", "processes that record at once; default: 1,2,4,8,16,32,64", MOST)
    add_text(parser, "--peers", f"of {', '.join(PEERS['fork'])} (default: all of them)", "PEER,...")
    add_counts(parser, "--rates", "reads each second, 0 for none; default: 0,1,10,100", 1000)


def _writers(options: argparse.Namespace) -> Sequence[int]:
    given: Sequence[int] = options.writers or ((1, 2) if options.quick else WRITERS)
    return [count for count in given if count]


def _rates(options: argparse.Namespace) -> Sequence[int]:
    given: Sequence[int] = options.rates or ((0, 100) if options.quick else RATES)
    return given


def _peers(options: argparse.Namespace) -> Mapping[str, Sequence[str]]:
    """By how their writers are started."""
    wanted = [name.strip() for name in (options.peers or ",".join(PEERS["fork"])).split(",")]
    unknown = [name for name in wanted if name not in PEERS["fork"]]
    if unknown:
        raise UsageError(f"there is no peer {unknown[0]!r} here; there are {', '.join(PEERS['fork'])}")
    return {start: [name for name in names if name in wanted] for start, names in PEERS.items()}


@contextmanager
def setup(options: argparse.Namespace) -> Iterator[State]:
    """A fleet for each start method, and a process that reads."""
    known = peers()
    writers, readers = {}, {}
    with ExitStack() as stack:
        for start in STARTS:
            states = {
                name: stack.enter_context(opened(known[name]))
                for name in _peers(options)[start]
                if not known[name].lacking()
            }
            writers[start] = stack.enter_context(fleet(max(_writers(options)), start, _as_writer, states))
            readers[start] = stack.enter_context(fleet(1, "fork", _as_reader, states))
        yield State(writers, readers)


def _as_writer(_number: int, states: Mapping[str, Any]) -> Answers:
    works = {name: peers()[name].calls(state)[REQUEST] for name, state in states.items()}
    for work in works.values():
        work.many(_TOGETHER)  # has a slot, a file
        work.each(_SINGLE)
    return {"write": lambda peer, begin, end: _written(works[peer], begin, end)}


def _written(work: Work, begin: float, end: float) -> dict[str, float]:
    """What this process did between two moments of the monotonic clock, which all processes share."""
    time.sleep(max(begin - time.monotonic(), 0.0))
    together, seconds, loops = 0, 0.0, 0.0
    single: list[float] = []
    while True:
        seconds += work.many(_TOGETHER)
        loops += _LOOP.many(1)
        together += _TOGETHER
        single += work.each(_SINGLE)
        if time.monotonic() >= end:
            break
    middle, tail = np.quantile(single, (0.5, 0.999)).tolist()
    return {
        "records": together + len(single),
        "seconds": seconds / together,
        "loop": _TOGETHER * loops / together,
        "p50": middle,
        "p999": tail,
    }


def _as_reader(_number: int, states: Mapping[str, Any]) -> Answers:
    pages = {name: PAGES[name](state) for name, state in states.items() if name in PAGES}

    def read(peer: str, rate: int, begin: float, end: float) -> dict[str, float]:
        reads, busy = 0, 0.0
        due = begin + 0.5 / rate
        while due < end:
            time.sleep(max(due - time.monotonic(), 0.0))
            before = time.thread_time()
            pages[peer]()
            busy += time.thread_time() - before
            reads += 1
            due = max(due + 1.0 / rate, time.monotonic())
        return {"reads": reads, "seconds": busy / reads if reads else 0.0}

    return {"read": read}


def run(state: State, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Visit every point once a round."""
    spots = [
        Spot(start, peer, writers, rate)
        for start in STARTS
        for peer in _peers(options)[start]
        if not peers()[peer].lacking()
        for writers in _writers(options)
        for rate in _rates(options)
        if not rate or peer in PAGES
    ]
    rounds = options.rounds or (2 if options.quick else 8)
    of = {repr(spot): spot for spot in spots}
    turns = {name: partial(_visit, state, spot, _duration(spot, quick=options.quick)) for name, spot in of.items()}
    found = interleaved(turns, rounds, options.seed, progress, group=lambda name: (of[name].start, of[name].peer))
    points = [{**vars(spot), "rounds": by_key(found[name])} for name, spot in of.items()]
    return {"rounds": rounds, "missing": missing(), "points": points}


def _duration(spot: Spot, *, quick: bool) -> float:
    """Seconds of a visit: each writer has its turns on the processors, and a reader reads."""
    if quick:
        return 0.05
    return max(0.4, 1.0 / spot.rate if spot.rate else 0.0, 0.03 * spot.writers)


def _visit(state: State, spot: Spot, seconds: float) -> dict[str, Any]:
    """What a point is in one round."""
    writers, readers = state.writers[spot.start], state.readers[spot.start]
    begin = time.monotonic() + 0.01 + 0.001 * spot.writers
    end = begin + seconds
    writers.tell("write", spot.peer, begin, end, of=spot.writers)
    if spot.rate:
        readers.tell("read", spot.peer, spot.rate, begin, end)
    written = writers.heard(spot.writers)
    read = readers.heard()[0] if spot.rate else {"reads": 0, "seconds": 0.0}
    records = [one["records"] for one in written]
    each = [one["seconds"] for one in written]
    total = sum(records)
    return {
        "records": total / seconds,
        "processor": sum(one * by for one, by in zip(each, records, strict=True)) / total,
        "in_loops": sum(one["seconds"] / one["loop"] * one["records"] for one in written) / total,
        "p50": statistics.median(one["p50"] for one in written),
        "p999": statistics.median(one["p999"] for one in written),
        "p999_worst": max(one["p999"] for one in written),
        "each": records,
        "furthest_processor": _furthest([1.0 / one for one in each]),
        "reads": read["reads"] / seconds,
        "read_seconds": read["seconds"],
    }


def _furthest(values: Sequence[float]) -> float:
    """How far the one that is furthest from the mean is from it, as a part of it."""
    mean = statistics.fmean(values)
    return max(abs(value / mean - 1.0) for value in values)


def _furthest_over_all(rounds: Sequence[Sequence[float]]) -> float:
    """The same, of what each did in all rounds together: turns on the processors that came by luck add up to little."""
    return _furthest([sum(each) for each in zip(*rounds, strict=True)])


# What it comes to -----------------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> list[Figure]:
    """Contention as curves, every point in tables, and what should be so."""
    points = {
        Spot(each["start"], each["peer"], each["writers"], each["rate"]): each["rounds"] for each in results["points"]
    }
    notes = tuple(f"not compared: {name}; {command}" for name, command in results["missing"].items() if name in PAGES)
    return [
        _curve("what a record takes of a processor", Axis("time", "us"), points, "processor", factor=1e6, notes=notes),
        _curve("records", Axis("rate", "1/s"), points, "records", notes=notes),
        _curve(
            "P99.9 of the single call, of the middle writer",
            Axis("time", "us"),
            points,
            "p999",
            factor=1e6,
            notes=notes,
        ),
        *(_table(start, peer, points) for start, peer in dict.fromkeys((spot.start, spot.peer) for spot in points)),
        *_claims(points),
    ]


_Points = Mapping[Spot, Mapping[str, Sequence[Any]]]


def _curve(title: str, y: Axis, points: _Points, key: str, *, factor: float = 1.0, notes: tuple[str, ...]) -> Curve:
    """Over the number of writers: a line for each peer by itself, and ours with those who read."""
    lines: dict[str, list[Point]] = {}
    for spot, rounds in points.items():
        if spot.rate and spot.peer != OURS:
            continue
        found = over_rounds([factor * value for value in rounds[key]])
        name = f"{spot.peer}, {spot.start}" + (f", read at {spot.rate} Hz" if spot.rate else "")
        lines.setdefault(name, []).append(Point(spot.writers, found.median, found.low, found.high))
    return Curve(title, Axis("writers", logarithmic=True), y, lines, notes)


_COLUMNS: Final = (
    (Column("records", "1/s", 0), "records", 1.0),
    (Column("processor time", "us", 3), "processor", 1e6),
    (Column("in loops", "", 4), "in_loops", 1.0),
    (Column("P50", "us", 2), "p50", 1e6),
    (Column("P99.9", "us", 0), "p999", 1e6),
    (Column("of the worst writer", "us", 0), "p999_worst", 1e6),
    (Column("furthest by processor time", "%", 1), "furthest_processor", 100.0),
    (Column("reads", "1/s", 1), "reads", 1.0),
    (Column("a read", "ms", 1), "read_seconds", 1e3),
)


def _table(start: str, peer: str, points: _Points) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"{spot.writers}" + (f", read at {spot.rate} Hz" if spot.rate else ""),
            100.0 * _furthest_over_all(rounds["each"]),
            *(factor * statistics.median(rounds[key]) for _, key, factor in _COLUMNS),
        )
        for spot, rounds in points.items()
        if (spot.start, spot.peer) == (start, peer)
    ]
    return Table(
        f"{peer}, writers started by {start}: {WORKS[REQUEST]}",
        (Column("writers"), Column("furthest from the mean", "%", 1), *(column for column, _, _ in _COLUMNS)),
        tuple(rows),
    )


def _claims(points: _Points) -> list[Claim]:
    claims = []
    for start in STARTS:
        for crowd in CROWDS:
            many = points.get(Spot(start, OURS, crowd, 0))
            few = points.get(Spot(start, OURS, BASE, 0))
            why = f"--writers {BASE},{crowd} --rates 0"
            name = f"records for each second of a processor at one speed, of {crowd} writers ({start}) beside {BASE}"
            claims.append(
                at_least(name, PER_CORE, paired(few["in_loops"], many["in_loops"]) if few and many else None, why=why)
            )
            name = f"the writer furthest from the mean of {crowd} ({start})"
            claims.append(at_most(name, FROM_MEAN, _percent(many), "%", why=why))
        for count in (BASE, *CROWDS):
            alone, read = (points.get(Spot(start, OURS, count, rate)) for rate in (0, 10))
            name = f"P99.9 of {count} writers ({start}) with one who would read at 10 Hz beside none"
            found = paired(read["p999"], alone["p999"]) if alone and read else None
            claims.append(at_most(name, DISTURBED, found, why=f"--writers {count} --rates 0,10"))
    return claims


def _percent(rounds: Mapping[str, Sequence[Any]] | None) -> Ratio | None:
    """How far the furthest is; how sure that is, the jackknife says: what it is with any one round left out.

    Its variance is from Efron and Tibshirani, An Introduction to the Bootstrap, equation 11.5.
    """
    if not rounds:
        return None
    each = rounds["each"]
    count = len(each)
    found = 100.0 * _furthest_over_all(each)
    without = [100.0 * _furthest_over_all([*each[:at], *each[at + 1 :]] or each) for at in range(count)]
    mean = statistics.fmean(without)
    if count < ENOUGH:
        return Ratio(found, min(without), max(without), OPEN)
    error = math.sqrt((count - 1) / count * sum((value - mean) ** 2 for value in without))
    return Ratio(found, min(without), max(without), (found - _TWO_SIDED * error, found + _TWO_SIDED * error))
