"""What reading takes: a snapshot, all statistics, and the page of a scrape, by slots, window size, series and readers.

The hubs of all points are there at once, and a process has a slot in each that has so many. Before each round every
process records, and changes each of its series, so that nothing that was read before is good any more; then all reads
take turns, in an order that is drawn for each round. What a read takes is the processor time of the process that reads;
nobody writes meanwhile, so that it waits for nothing. Beside it the time that passed, others' turns on the processors
included. A series is a counter or a histogram of 14 buckets, by turns.

Then several processes read the same hub as often as they can. And what a slot takes of memory is looked up in /dev/shm,
and held against what the layout says.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.comparing import exactly, over_rounds, paired
from shmetrics.benchmarks.figures import Axis, Cell, Claim, Column, Curve, Figure, Point, Table, at_least, at_most
from shmetrics.benchmarks.fleets import Answers, Fleet, fleet
from shmetrics.benchmarks.pages import FEEDS, PAGE, PAGES, THEIR_PAGE, room
from shmetrics.benchmarks.peers import OURS, missing, opened, peers
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import interleaved
from shmetrics.benchmarks.taken import Taken, by_key, taken
from shmetrics.layout import Layout
from shmetrics.naming import segment_path

SUMMARY: Final = "what a snapshot, all statistics and a scrape take, by slots, window, series and readers"
SNAPSHOT: Final = "snapshot"
STATISTICS: Final = "all statistics"
MILLISECONDS: Final = 20.0
CHEAPER: Final = 40.0
AS_THE_LAYOUT_SAYS: Final = 1.01
_FRESH: Final = 16
"""Records of each process before each round."""


@dataclass(frozen=True)
class Spot:
    """One hub."""

    slots: int
    window: int
    series: int


@dataclass(frozen=True)
class Plan:
    """Which points there are: one of a spot's three changes, and the others are those of its base."""

    read: Spot = Spot(16, 1_000, 0)
    scraped: Spot = Spot(16, Layout.window_size, 200)
    slots: tuple[int, ...] = (1, 4, 16, 64)
    windows: tuple[int, ...] = (100, 1_000, 10_000)
    series: tuple[int, ...] = (20, 200, 2_000)
    readers: tuple[int, ...] = (1, 2, 4, 8)

    def spots(self) -> list[Spot]:
        """The hubs, each once."""
        found = [replace(self.read, slots=each) for each in self.slots]
        found += [replace(self.read, window=each) for each in self.windows]
        found += [replace(self.scraped, slots=each) for each in self.slots]
        found += [replace(self.scraped, series=each) for each in self.series]
        return list(dict.fromkeys(found))

    @property
    def largest(self) -> Spot:
        """What several read at once."""
        return replace(self.read, slots=self.slots[-1])


_QUICK: Final = Plan(Spot(4, 1_000, 0), Spot(4, Layout.window_size, 20), (1, 4), (100, 1_000), (4, 20), (1, 2))
CLAIMED: Final = replace(Plan().read, slots=64)
CLAIMED_PAGE: Final = replace(Plan().scraped, slots=64)


@dataclass(frozen=True)
class State:
    """The hubs, what the incumbent has for each, and the processes."""

    plan: Plan
    hubs: Mapping[Spot, PerformanceMetrics]
    directories: Mapping[Spot, str]
    workers: Fleet
    readers: Fleet


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(options: argparse.Namespace) -> Iterator[State]:
    """Hubs, processes that have slots in them, and processes that read."""
    plan = _QUICK if options.quick else Plan()
    theirs = peers()[MULTIPROCESS]
    with ExitStack() as stack:
        hubs = {
            spot: stack.enter_context(
                PerformanceMetrics(window_size=spot.window, max_workers=spot.slots, max_series=room(spot.series))
            )
            for spot in plan.spots()
        }
        for spot, hub in hubs.items():
            FEEDS[OURS](hub, spot.series)  # defined once, as by an application that is loaded before it forks
        directories = {
            spot: stack.enter_context(opened(theirs)) for spot in hubs if spot.series and not theirs.lacking()
        }
        workers = stack.enter_context(fleet(plan.slots[-1], "fork", _as_worker, hubs, directories))
        readers = stack.enter_context(fleet(plan.readers[-1], "fork", _as_reader, hubs[plan.largest]))
        yield State(plan, hubs, directories, workers, readers)


def _as_worker(number: int, hubs: Mapping[Spot, PerformanceMetrics], directories: Mapping[Spot, str]) -> Answers:
    draw = random.Random(number)
    mine = {spot: hub for spot, hub in hubs.items() if number < spot.slots}
    feeds = [FEEDS[OURS](hub, spot.series) for spot, hub in mine.items() if spot.series]
    feeds += [FEEDS[MULTIPROCESS](directories[spot], spot.series) for spot in mine if spot in directories]

    def record(records: Callable[[Spot], int]) -> None:
        for spot, hub in mine.items():
            for _ in range(records(spot)):
                hub.update_inference(draw.lognormvariate(-4, 0.5), draw.randint(1, 64), 0.001, 0.0005)
        for feed in feeds:
            feed(draw)

    record(lambda spot: 2 * spot.window)
    return {"record": lambda: record(lambda _: _FRESH)}


def _as_reader(_number: int, hub: PerformanceMetrics) -> Answers:
    def read(begin: float, end: float) -> dict[str, float]:
        time.sleep(max(begin - time.monotonic(), 0.0))
        found: list[Taken] = []
        while not found or time.monotonic() < end:
            found.append(taken(hub.get_comprehensive_statistics))
        return {key: statistics.fmean(times) for key, times in by_key(found).items()}

    return {"read": read}


def run(state: State, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Read everything once a round, then by several at once."""
    rounds = options.rounds or (3 if options.quick else 9)
    reads = {(spot, work): read for spot in state.hubs for work, read in _reads(state, spot).items()}
    for read in reads.values():
        read()
    found = interleaved(
        {repr(each): partial(taken, read) for each, read in reads.items()},
        rounds,
        options.seed,
        part(progress, 0, 2),
        before=partial(_record, state),
    )
    seconds = 0.05 if options.quick else 1.0
    crowds = interleaved(
        {str(count): partial(_at_once, state, count, seconds) for count in state.plan.readers},
        rounds,
        options.seed,
        part(progress, 1, 2),
    )
    return {
        "rounds": rounds,
        "missing": {name: command for name, command in missing().items() if name in PAGES},
        "bases": [vars(state.plan.read), vars(state.plan.scraped)],
        "slots": state.plan.largest.slots,
        "reads": [{**vars(spot), "work": work, **by_key(found[repr((spot, work))])} for spot, work in reads],
        "readers": {count: by_key(each) for count, each in crowds.items()},
        "memory": [_memory(spot, state) for spot in state.hubs],
    }


def _reads(state: State, spot: Spot) -> dict[str, Callable[[], object]]:
    hub = state.hubs[spot]
    if not spot.series:
        return {SNAPSHOT: hub.snapshot, STATISTICS: hub.get_comprehensive_statistics}
    ours: dict[str, Callable[[], object]] = {PAGE: PAGES[OURS](hub)}
    return ours | ({THEIR_PAGE: PAGES[MULTIPROCESS](state.directories[spot])} if spot in state.directories else {})


def _record(state: State) -> None:
    """Have all processes record, and wait until they sleep: 64 that go to sleep take a while, of our processors."""
    state.workers.ask("record")
    time.sleep(0.01)


def _at_once(state: State, count: int, seconds: float) -> dict[str, float]:
    begin = time.monotonic() + 0.01
    found = state.readers.ask("read", begin, begin + seconds, of=count)
    return {key: statistics.fmean(one[key] for one in found) for key in ("processor", "passed")}


def _memory(spot: Spot, state: State) -> dict[str, Any]:
    """What a hub has in memory, and what it should have."""
    layout = Layout(spot.slots, spot.window, room(spot.series))
    files = Path(state.directories[spot]).iterdir() if spot in state.directories else []
    return {
        **vars(spot),
        "bytes": os.stat(segment_path(state.hubs[spot].name)).st_blocks * 512,
        "formula": layout.size,
        "slot": layout.slot.itemsize,
        "theirs": sum(file.stat().st_blocks for file in files) * 512 / spot.slots,
    }


# What it comes to -----------------------------------------------------------------------------------------------------


_Reads = Mapping[tuple[Spot, str], Mapping[str, Sequence[float]]]


def report(results: dict[str, Any]) -> list[Figure]:
    """Curves over what changes, every read in a table, memory, and what should be so."""
    reads = {(Spot(each["slots"], each["window"], each["series"]), each["work"]): each for each in results["reads"]}
    read, scraped = (Spot(**base) for base in results["bases"])
    notes = tuple(f"not compared: {name}; {command}" for name, command in results["missing"].items())
    return [
        _curve(f"reading slots of {read.window:,} records", reads, read, "slots"),
        _curve(f"reading {read.slots} slots", reads, read, "window"),
        _curve(f"a scrape of {scraped.series} series", reads, scraped, "slots", notes),
        _curve(f"a scrape of {scraped.slots} slots", reads, scraped, "series", notes),
        _readers(results),
        _table(reads),
        _memory_table(results["memory"]),
        *_claims(reads, results),
    ]


def _curve(title: str, reads: _Reads, base: Spot, field: str, notes: tuple[str, ...] = ()) -> Curve:
    """Over one of the three that a spot has, where the others are those of ``base``."""
    lines: dict[str, list[Point]] = {}
    for (spot, work), times in reads.items():
        x = getattr(spot, field)
        if replace(base, **{field: x}) == spot and bool(spot.series) == bool(base.series):
            lines.setdefault(work, []).append(_point(x, times["processor"]))
    ordered = {work: sorted(line, key=lambda point: point.x) for work, line in lines.items()}
    unit = "records" if field == "window" else ""
    return Curve(title, Axis(field, unit, logarithmic=True), Axis("processor time", "ms"), ordered, notes)


def _point(x: float, seconds: Sequence[float]) -> Point:
    found = over_rounds([1e3 * value for value in seconds])
    return Point(x, found.median, found.low, found.high)


def _readers(results: dict[str, Any]) -> Curve:
    lines = {
        name: [_point(int(count), times[key]) for count, times in results["readers"].items()]
        for name, key in (("of the reader's processor", "processor"), ("that passes", "passed"))
    }
    axis = Axis("readers at once", logarithmic=True)
    return Curve(f"{STATISTICS} of {results['slots']} slots", axis, Axis("time", "ms"), lines)


def _table(reads: _Reads) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (spot, work), times in reads.items():
        found = over_rounds([1e3 * value for value in times["processor"]])
        passed = 1e3 * statistics.median(times["passed"])
        rows.append((work, spot.slots, spot.window, spot.series, found.median, found.low, found.high, passed))
    columns = [Column(name) for name in ("what", "slots", "window", "series")]
    columns += [Column(name, "ms") for name in ("processor time", "min", "max", "time that passed")]
    return Table("every read", tuple(columns), tuple(rows))


def _memory_table(memory: Sequence[Mapping[str, Any]]) -> Table:
    columns = [Column(name) for name in ("hub", "slots", "window", "series")]
    columns += [
        Column(name, "KiB", 0) for name in ("found", "by the layout", "of it a slot", f"{MULTIPROCESS}, a process")
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            f"{each['slots']} slots",
            *(each[key] for key in ("slots", "window", "series")),
            *(each[key] / 1024 for key in ("bytes", "formula", "slot")),
            each["theirs"] / 1024 if each["theirs"] else None,
        )
        for each in memory
    ]
    return Table("memory", tuple(columns), tuple(rows))


def _claims(reads: _Reads, results: dict[str, Any]) -> list[Claim]:
    why = "run it without --quick"
    snapshot = reads.get((CLAIMED, STATISTICS))
    found = over_rounds([1e3 * value for value in snapshot["processor"]]) if snapshot else None
    name = f"a snapshot with all statistics of {CLAIMED.slots} slots with {CLAIMED.window:,} records each"
    claims = [at_most(name, MILLISECONDS, found, "ms", why)]
    ours, theirs = (reads.get((CLAIMED_PAGE, work)) for work in (PAGE, THEIR_PAGE))
    ratio = paired(theirs["processor"], ours["processor"]) if ours and theirs else None
    what = f"a scrape of {CLAIMED_PAGE.slots} processes with {CLAIMED_PAGE.series} series each"
    claims.append(
        at_least(f"{what}: cheaper than {MULTIPROCESS}", CHEAPER, ratio, why=results["missing"].get(MULTIPROCESS, why))
    )
    size = exactly(max(each["bytes"] / each["formula"] for each in results["memory"]))
    claims.append(at_most("memory of a hub beside what the layout says", AS_THE_LAYOUT_SAYS, size))
    return claims
