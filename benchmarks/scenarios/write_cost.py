"""What a call costs that records something, beside the same work of peers.

Every call is a line of code in a loop of its own. All calls take turns, those of the same work after one another, in
an order that is drawn for each round; what a call costs is the processor time that it takes, as the median over the
rounds, and a ratio is the median of the rounds' ratios. Then each call is timed by itself, for its P50 and P99.9: of
time that passes, whoever else had the processor meanwhile; and what the clock takes is in it, as the line of the call
that does nothing shows. Where valgrind is installed, instructions are counted as well.

Every 512 records are folded by whoever writes the last of them. What part of a request that is, tells a hub that never
folds, beside ours in each round.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, Final

from shmetrics.benchmarks import instructions
from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.comparing import over_rounds, paired, standing
from shmetrics.benchmarks.figures import Axis, Cell, Column, Curve, Figure, Point, Table, at_least, at_most
from shmetrics.benchmarks.peers import COUNTER, HISTOGRAM, OURS, REQUEST, WORKS, missing, opened, peers
from shmetrics.benchmarks.peers.ours import never_folding
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import QUANTILES, singles, timed

SUMMARY: Final = "what a call costs that records something, beside the same work of peers"
NOTHING: Final = "nothing"
CLAIMS: Final = {REQUEST: 12.0, COUNTER: 3.0, HISTOGRAM: 3.0}
"""How many times cheaper than the incumbent."""
_UNFOLDED: Final = f"{OURS}, never folding"
FOLD: Final = 25.0
"""Per cent of a request, at most."""
_P50, _P999 = QUANTILES.index(0.5), QUANTILES.index(0.999)


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[Mapping[str, Mapping[str, Work]]]:
    """The calls of every peer that is there."""
    with ExitStack() as stack:
        calls = {
            name: peer.calls(stack.enter_context(opened(peer))) for name, peer in peers().items() if not peer.lacking()
        }
        yield {**calls, _UNFOLDED: stack.enter_context(never_folding())}


def run(state: Mapping[str, Mapping[str, Work]], options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Time every call of every peer."""
    works: dict[str, Work] = {f"{NOTHING}/{what}": call for what, call in _idle().items()}
    for name, calls in state.items():
        works |= {f"{work}/{name}": call for work, call in calls.items()}
    how: dict[str, Any] = {
        "rounds": options.rounds or (6 if options.quick else 60),
        "seed": options.seed,
        "group": _work_of,
    }
    seconds, each = (0.005, 200) if options.quick else (0.008, 1_000)
    counts = not (options.quick or instructions.lacking())
    parts = 3 if counts else 2
    means = timed(works, seconds=seconds, progress=part(progress, 0, parts), **how)
    unfolded = f"{REQUEST}/{_UNFOLDED}"
    folds = [
        1.0 - without / whole for without, whole in zip(means.pop(unfolded), means[f"{REQUEST}/{OURS}"], strict=True)
    ]
    del works[unfolded]
    single = singles(works, calls=each, progress=part(progress, 1, parts), **how)
    names = [name for name in state if name != _UNFOLDED]
    return {
        "peers": names,
        "missing": missing(),
        "shared": [name for name, peer in peers().items() if peer.shared and name != OURS],
        "rounds": how["rounds"],
        "calls_each": each,
        "seconds": _nested(means),
        "single": _nested(single),
        "fold": folds,
        "instructions": _instructions(names) if counts else {},
        "no_instructions": instructions.lacking(),
    }


def _idle() -> dict[str, Work]:
    """What is in every figure; and what a lock alone would add to each record: why `shmetrics.exclusion` has none."""
    return {"a loop around nothing": Call("pass"), "a lock around nothing": Call("with lock:\n    pass", lock=Lock())}


def _instructions(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """By peer, and then by work."""
    return instructions.counted([name for name in names if peers()[name].is_here])


def _work_of(name: str) -> str:
    return name.partition("/")[0]


def _nested(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By work, and then by peer."""
    nested: dict[str, dict[str, Any]] = {}
    for name, value in found.items():
        work = _work_of(name)
        nested.setdefault(work, {})[name.removeprefix(f"{work}/")] = value
    return nested


def report(results: dict[str, Any]) -> list[Figure]:
    """A table for each work, and what should be so."""
    tables = [_table(work, results) for work in results["seconds"] if work != NOTHING]
    lacking = [f"not compared: {name}; {command}" for name, command in results["missing"].items()]
    if results["no_instructions"]:
        lacking.append(f"instructions were not counted; {results['no_instructions']}")
    tables[0] = replace(tables[0], notes=(*tables[0].notes, *lacking))
    return [*tables, _quantiles(results), _nothing(results), *_claims(results)]


def _claims(results: dict[str, Any]) -> list[Figure]:
    seconds: dict[str, dict[str, list[float]]] = results["seconds"]
    claims: list[Figure] = []
    for work, wanted in CLAIMS.items():
        known = MULTIPROCESS in seconds[work]
        found = paired(seconds[work][MULTIPROCESS], seconds[work][OURS]) if known else None
        name = f"{WORKS[work]}: cheaper than with {MULTIPROCESS}"
        claims.append(at_least(name, wanted, found, why=results["missing"].get(MULTIPROCESS, "")))
    for peer in results["shared"]:
        name = f"ahead of {peer} in whatever both do"
        if peer in results["missing"]:
            claims.append(at_least(name, 1.0, None, why=results["missing"][peer]))
            continue
        ratios = {work: paired(found[peer], found[OURS]) for work, found in seconds.items() if peer in found}
        least = min(ratios, key=lambda work: ratios[work].median)
        claims.append(at_least(f"{name}; least in: {WORKS[least]}", 1.0, ratios[least]))
    fold = over_rounds([100.0 * part for part in results["fold"]])
    return [*claims, at_most("the part of a request that is its fold", FOLD, fold, "%")]


_TIMES: Final = (
    Column("median", "us", 3),
    Column("min", "us", 3),
    Column("max", "us", 3),
    Column("P50 of one", "us", 3),
    Column("P99.9 of one", "us", 3),
)


def _table(work: str, results: dict[str, Any]) -> Table:
    rounds: dict[str, list[float]] = results["seconds"][work]
    ranked = standing(rounds)
    counts: dict[str, dict[str, float]] = results["instructions"]
    rows: list[tuple[Cell, ...]] = []
    for name in ranked.order:
        ratio = paired(rounds[name], rounds[OURS])
        times = _times(rounds[name], results["single"][work][name]["all"])
        count = counts.get(name, {}).get(work)
        instructions_taken = None if count is None else round(count)
        rows.append((name, ranked.places[name], *times, ratio.median, instructions_taken))
    columns = [Column("peer"), Column("place"), *_TIMES, Column(f"times {OURS}"), Column("instructions")]
    if not counts:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return Table(WORKS[work], tuple(columns), tuple(rows), ranked.refusals, drawn="median")


def _times(rounds: Sequence[float], single: Sequence[float]) -> tuple[float, ...]:
    """Of one call, in microseconds: what `_TIMES` are."""
    mean = over_rounds(rounds)
    return tuple(1e6 * seconds for seconds in (mean.median, mean.low, mean.high, single[_P50], single[_P999]))


def _quantiles(results: dict[str, Any]) -> Curve:
    """How long the slowest of so many calls takes: the clock is in it."""
    calls = [round(1.0 / (1.0 - quantile)) for quantile in QUANTILES]
    lines = {
        name: tuple(Point(of, 1e6 * passes) for of, passes in zip(calls, one["all"], strict=True))
        for name, one in results["single"][REQUEST].items()
    }
    of, time = Axis("the slowest of so many calls", logarithmic=True), Axis("time", "us", logarithmic=True)
    return Curve(f"{WORKS[REQUEST]}: the slowest of so many calls", of, time, lines)


def _nothing(results: dict[str, Any]) -> Table:
    seconds, single = results["seconds"][NOTHING], results["single"][NOTHING]
    rows = tuple((what, *_times(rounds, single[what]["all"])) for what, rounds in seconds.items())
    return Table("what measuring takes, and what a lock would", (Column("what"), *_TIMES), rows)
