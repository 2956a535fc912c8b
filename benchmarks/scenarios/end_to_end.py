"""What measuring costs a server: requests a second of trivial applications, and their P99, with nothing and with peers.

All servers of one application run at the same time, each with one worker, and wrk loads them in turn, in an order that
is drawn for each round; so what else the machine does falls on all. Servers that are the same differ by some per cent
for as long as they live, by where their memory happens to lie; so there are several of each, and a round's figure is
their mean. "Nothing, again" is a second set of those with nothing: how far off it is cannot be told here. A ratio is
the median of the rounds' ratios. The processor time that a request takes is steadier than the rate, of which wrk's own
share is part.
"""

import argparse
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from statistics import fmean
from typing import Any, Final

from shmetrics.benchmarks.comparing import over_rounds, paired
from shmetrics.benchmarks.figures import Claim, Column, Figure, Table, at_least
from shmetrics.benchmarks.peers import OURS, needs
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import interleaved
from shmetrics.benchmarks.servers import KINDS, Load, Server, lacking, serving
from shmetrics.cli.options import UsageError, add_count, add_text

SUMMARY: Final = "requests a second of trivial applications behind gunicorn and uvicorn, measured and not"
NOTHING: Final = "nothing"
MEASURED_BY: Final = {
    NOTHING: ("", "os"),
    "nothing, again": ("", "os"),
    OURS: ("shmetrics", "shmetrics"),
    "prometheus_client multiprocess": ("prometheus", "prometheus_client"),
    "OpenTelemetry": ("otel", "opentelemetry.instrumentation"),
}
"""What `served.measured` calls it, and a module that it takes."""
LEAST: Final = 0.95
"""Of the requests a second that there are without."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Which servers."""
    add_text(parser, "--servers", f"of {', '.join(KINDS)} (default: all of them, or one if --quick)", "SERVER,...")
    add_count(parser, "--seconds", 1, "of load, for each turn")
    add_count(parser, "--each", None, "servers of each kind that are the same (default: 3, or 1 if --quick)")


@contextmanager
def setup(options: argparse.Namespace) -> Iterator[list[str]]:
    """The servers that will be started: each kind for itself, when its turn has come."""
    chosen = (options.servers or ",".join(list(KINDS)[: 1 if options.quick else None])).split(",")
    unknown = [kind for kind in chosen if kind not in KINDS]
    if unknown:
        raise UsageError(f"there is no server {unknown[0]!r} to be measured; there are {', '.join(KINDS)}")
    yield chosen


def run(state: list[str], options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Load every server with every peer."""
    missing = {name: command for name, (_, module) in MEASURED_BY.items() if (command := needs(module)())}
    found = {}
    for at, kind in enumerate(state):
        if not lacking(kind):
            names = [name for name in MEASURED_BY if name not in missing]
            found[kind] = _loaded(kind, names, options, part(progress, at, len(state)))
    return {
        "missing": missing,
        "servers_missing": {kind: lacking(kind) for kind in state if kind not in found},
        "rounds": _rounds(options),
        "seconds": options.seconds,
        "each": _each(options),
        "servers": found,
    }


def _rounds(options: argparse.Namespace) -> int:
    rounds: int = options.rounds or (3 if options.quick else 20)
    return rounds


def _each(options: argparse.Namespace) -> int:
    each: int = options.each or (1 if options.quick else 3)
    return each


def _loaded(
    kind: str, names: list[str], options: argparse.Namespace, progress: Progress
) -> dict[str, dict[str, list[float]]]:
    seconds, each = options.seconds, _each(options)
    with ExitStack() as stack:
        servers: Mapping[tuple[str, int], Server] = {
            (name, at): stack.enter_context(serving(kind, MEASURED_BY[name][0])) for at in range(each) for name in names
        }
        for server in servers.values():  # to warm up
            server.load(seconds)
        turns = {which: (lambda server=server: server.load(seconds)) for which, server in servers.items()}
        loads = interleaved(turns, _rounds(options), options.seed, progress, group=_set)
    return {name: _means([loads[name, at] for at in range(each)]) for name in names}


def _set(which: tuple[str, int]) -> int:
    """One server of each: these follow one another."""
    return which[1]


def _means(loads: list[list[Load]]) -> dict[str, list[float]]:
    """Of each round, over the servers that are the same."""
    rounds = list(zip(*loads, strict=True))
    names = (field.name for field in fields(Load))
    return {name: [fmean(getattr(load, name) for load in of_round) for of_round in rounds] for name in names}


def report(results: dict[str, Any]) -> list[Figure]:
    """A table for each server, and what ours should keep of its requests a second."""
    figures: list[Figure] = []
    notes = tuple(f"not compared: {name}; {command}" for name, command in results["missing"].items())
    for kind, loads in results["servers"].items():
        figures.append(_table(kind, results["each"], loads, notes))
    for kind, loads in results["servers"].items():
        figures.append(at_least(_claim(kind), LEAST, paired(loads[OURS]["rate"], loads[NOTHING]["rate"])))
    for kind, command in results["servers_missing"].items():
        figures.append(Claim(_claim(kind), f"at least {LEAST:g} x", "", "not measured", command))
    return figures


def _claim(kind: str) -> str:
    return f"requests a second that {kind} keeps with {OURS}"


_COLUMNS: Final = (
    Column("measured by"),
    Column("requests/s", "", 0),
    Column("of those with nothing"),
    Column("least"),
    Column("most"),
    Column("P99", "ms"),
    Column("processor time", "us", 0),
    Column("added", "us", 0),
)


def _table(kind: str, each: int, loads: Mapping[str, Mapping[str, list[float]]], notes: tuple[str, ...]) -> Table:
    rows = []
    without = loads[NOTHING]
    for name, load in loads.items():
        kept = paired(load["rate"], without["rate"])
        cpu = over_rounds([1e6 * cpu for cpu in load["cpu"]]).median
        added = over_rounds(
            [1e6 * (one - other) for one, other in zip(load["cpu"], without["cpu"], strict=True)]
        ).median
        rate, p99 = over_rounds(load["rate"]).median, over_rounds([1e3 * p99 for p99 in load["p99"]]).median
        rows.append((name, rate, kept.median, kept.low, kept.high, p99, cpu, added))
    return Table(f"{kind}: {each} of each, one worker, and wrk", _COLUMNS, tuple(rows), notes)
