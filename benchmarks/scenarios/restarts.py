"""Whether reading is as cheap after so many workers that came and went.

Two hubs have as many live workers, which record the same. In one of them workers come, record, and end without giving
their slots up, as killed ones do: 10,000 of them. In the other only so many that each slot has been used. Both are read
in interleaved rounds whenever there have been ten times as many. The incumbent has two files of each worker to read by
then; a thousand show it.
"""

import argparse
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.comparing import over_rounds, paired
from shmetrics.benchmarks.figures import Axis, Cell, Claim, Column, Curve, Figure, Point, Table, at_most
from shmetrics.benchmarks.fleets import Answers, Fleet, fleet
from shmetrics.benchmarks.pages import FEEDS, PAGE, PAGES, THEIR_PAGE
from shmetrics.benchmarks.peers import OURS, missing, opened, peers
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS
from shmetrics.benchmarks.progress import Progress
from shmetrics.benchmarks.rounds import interleaved
from shmetrics.benchmarks.taken import by_key, taken
from shmetrics.cli.options import add_count

SUMMARY: Final = "what reading takes after 10,000 workers that came and went"
STATISTICS: Final = "all statistics"
RESTARTS: Final = 10_000
THEIRS: Final = 1_000
FLAT: Final = 1.2
WORKERS: Final = 4
SERIES: Final = 20
_AT_ONCE: Final = 100
"""Restarts between two looks at how far it is."""


@dataclass(frozen=True)
class Side:
    """A hub, and where the incumbent has its files; None without it."""

    hub: PerformanceMetrics
    directory: str | None


@dataclass(frozen=True)
class State:
    """Both sides, the workers that live, and the process whose children come and go."""

    steady: Side
    restarted: Side
    workers: Fleet
    parent: Fleet


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a flag."""
    add_count(parser, "--restarts", None, f"workers that come and go; default: {RESTARTS}")


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[State]:
    """Two sides that begin as equals."""
    theirs = peers()[MULTIPROCESS]
    with ExitStack() as stack:
        sides = [
            Side(
                stack.enter_context(PerformanceMetrics(max_workers=2 * WORKERS)),
                None if theirs.lacking() else stack.enter_context(opened(theirs)),
            )
            for _ in range(2)
        ]
        for side in sides:
            FEEDS[OURS](side.hub, SERIES)  # defined once, as by an application that is loaded before it forks
        workers = stack.enter_context(fleet(WORKERS, "fork", _as_worker, sides))
        parent = stack.enter_context(fleet(1, "fork", _as_parent, sides))
        yield State(sides[0], sides[1], workers, parent)


def _recording(side: Side, *, theirs: bool) -> Callable[[random.Random], None]:
    """What a worker records, for ours and the incumbent."""
    feeds = [FEEDS[OURS](side.hub, SERIES)]
    if side.directory is not None and theirs:
        feeds.append(FEEDS[MULTIPROCESS](side.directory, SERIES))

    def record(draw: random.Random) -> None:
        for _ in range(8):
            side.hub.update_inference(draw.lognormvariate(-4, 0.5))
        for feed in feeds:
            feed(draw)

    return record


def _as_worker(number: int, sides: list[Side]) -> Answers:
    draw = random.Random(number)
    recordings = [_recording(side, theirs=True) for side in sides]

    def record() -> None:
        for recording in recordings:
            recording(draw)

    record()
    return {"record": record}


def _as_parent(_number: int, sides: list[Side]) -> Answers:
    """It records nothing itself; each child finds that it is a new process."""
    recordings = {
        (at, theirs): _recording(side, theirs=theirs) for at, side in enumerate(sides) for theirs in (True, False)
    }

    def restart(at: int, seeds: range, *, theirs: bool = False) -> None:
        for seed in seeds:
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    recordings[at, theirs](random.Random(seed))
                    status = 0
                finally:
                    os._exit(status)
            _, ended = os.waitpid(child, 0)
            if ended:
                raise ChildProcessError(f"a worker that came to record ended by status {ended}")

    return {
        "restart": lambda seeds, theirs: restart(1, seeds, theirs=theirs),
        "use all slots": lambda: restart(0, range(WORKERS)),
    }


def run(state: State, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Restart, and read at each power of ten."""
    restarts = options.restarts or (20 if options.quick else RESTARTS)
    rounds = options.rounds or (3 if options.quick else 9)
    found: list[dict[str, Any]] = []
    done = 0
    for number, milestone in enumerate(_milestones(restarts)):
        while done < milestone:
            count = min(_AT_ONCE, milestone - done)
            state.parent.ask("restart", range(done, done + count), done < THEIRS)
            done += count
            progress(done, restarts + 1)
        state.parent.ask("use all slots")
        compared = interleaved(
            _reads(state, theirs=milestone <= THEIRS),
            rounds,
            options.seed + number,
            before=partial(state.workers.ask, "record"),
        )
        found.append({"restarts": milestone, "reads": {name: by_key(times) for name, times in compared.items()}})
    seen = state.restarted.hub.get_statistics()["workers_seen"]
    lacking = {name: command for name, command in missing().items() if name in PAGES}
    return {"rounds": rounds, "missing": lacking, "workers_seen": seen, "milestones": found}


def _milestones(restarts: int) -> list[int]:
    """After how many it is read: powers of ten, and all of them."""
    return [*(each for each in (100, 1_000, 10_000, 100_000) if each < restarts), restarts]


def _reads(state: State, *, theirs: bool) -> dict[str, Callable[[], dict[str, float]]]:
    reads: dict[str, Callable[[], dict[str, float]]] = {}
    for name, side in (("steady", state.steady), ("restarted", state.restarted)):
        works: dict[str, Callable[[], object]] = {
            PAGE: PAGES[OURS](side.hub),
            STATISTICS: side.hub.get_comprehensive_statistics,
        }
        if theirs and side.directory is not None:
            works[THEIR_PAGE] = PAGES[MULTIPROCESS](side.directory)
        for work, read in works.items():
            read()
            reads[f"{name}/{work}"] = partial(taken, read)
    return reads


# What it comes to -----------------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> list[Figure]:
    """How many times dearer, as a curve; what it took; and whether it is flat."""
    notes = tuple(f"not compared: {name}; {command}" for name, command in results["missing"].items())
    return [_curve(results, notes), _table(results), *_claims(results)]


def _pairs(milestone: Mapping[str, Any]) -> dict[str, tuple[list[float], list[float]]]:
    """The processor time of each work by round, with restarts and without."""
    reads = milestone["reads"]
    return {
        name.removeprefix("restarted/"): (
            times["processor"],
            reads[name.replace("restarted/", "steady/")]["processor"],
        )
        for name, times in reads.items()
        if name.startswith("restarted/")
    }


def _curve(results: dict[str, Any], notes: tuple[str, ...]) -> Curve:
    lines: dict[str, list[Point]] = {}
    for milestone in results["milestones"]:
        for work, (restarted, steady) in _pairs(milestone).items():
            found = paired(restarted, steady)
            lines.setdefault(work, []).append(Point(milestone["restarts"], found.median, found.low, found.high))
    x, y = Axis("restarts", logarithmic=True), Axis("processor time beside no restarts", "x", logarithmic=True)
    return Curve("reading after restarts", x, y, lines, notes)


def _table(results: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for milestone in results["milestones"]:
        for work, times in _pairs(milestone).items():
            after, before = (over_rounds([1e3 * value for value in each]) for each in times)
            rows.append((work, milestone["restarts"], after.median, after.low, after.high, before.median))
    columns = (
        Column("what"),
        Column("restarts"),
        *(Column(name, "ms") for name in ("median", "min", "max", "without")),
    )
    return Table(f"{WORKERS} live workers of {results['workers_seen']:,}, processor time", columns, tuple(rows))


def _claims(results: dict[str, Any]) -> list[Claim]:
    last = results["milestones"][-1]
    pairs = _pairs(last) if last["restarts"] >= RESTARTS else {}
    return [
        at_most(
            f"{work}: dearer after {RESTARTS:,} restarts",
            FLAT,
            paired(*pairs[work]) if pairs else None,
            why=f"--restarts {RESTARTS}",
        )
        for work in (PAGE, STATISTICS)
    ]
