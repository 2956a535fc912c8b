"""What measuring costs a server: requests a second of trivial applications, and their P99, with nothing and with peers.

All servers of one application run on one processor at the same time, each with one worker. In each round wrk loads them
in turn, in an order that is drawn; that tells requests a second, and their P99. And then all of them at once, each by a
wrk of its own: they share the processor, so its speed and what else the machine does is the same for all, from one
thousandth of a second to the next, and what is left of the requests is told by that. (In turns, servers that are the
same differ by some per cent, for a processor changes its speed every second or so.) "Nothing, again" is a second set
of those with nothing: how far off it is cannot be told here. A round's figure is the mean of servers that are the same,
and a ratio the median of the rounds' ratios.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from statistics import fmean
from typing import Any, Final

from shmetrics.benchmarks.comparing import Ratio, paired
from shmetrics.benchmarks.figures import Claim, Column, Figure, Table, at_least
from shmetrics.benchmarks.peers import OURS, needs
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import interleaved
from shmetrics.benchmarks.servers import KINDS, Load, Server, lacking, load_at_once, serving
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
    add_count(parser, "--seconds", 1, "of load, for each server and round, in turn; and half as many at once")
    add_count(parser, "--each", None, "servers of each kind that are the same (default: 2, or 1 if --quick)")


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
    each: int = options.each or (1 if options.quick else 2)
    return each


def _loaded(
    kind: str, names: list[str], options: argparse.Namespace, progress: Progress
) -> dict[str, dict[str, dict[str, list[float]]]]:
    seconds, each = options.seconds, _each(options)
    with ExitStack() as stack:
        servers: Mapping[tuple[str, int], Server] = {
            (name, at): stack.enter_context(serving(kind, MEASURED_BY[name][0])) for at in range(each) for name in names
        }
        at_once: dict[tuple[str, int], list[Load]] = {which: [] for which in servers}

        def load_all() -> None:
            for which, load in zip(servers, load_at_once([*servers.values()], _at_once(seconds, servers)), strict=True):
                at_once[which].append(load)

        for server in servers.values():  # to warm up
            server.load(seconds)
        turns = {which: (lambda server=server: server.load(seconds)) for which, server in servers.items()}
        loads = interleaved(turns, _rounds(options), options.seed, progress, group=_set, before=load_all)
    return {
        name: {
            "alone": _means([loads[name, at] for at in range(each)]),
            "at once": _means([at_once[name, at] for at in range(each)]),
        }
        for name in names
    }


def _at_once(seconds: int, servers: Sized) -> int:
    """Seconds for all of them together."""
    return max(seconds * len(servers) // 2, 1)


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
        figures.append(at_least(_claim(kind), LEAST, _kept(loads, OURS)))
    for kind, command in results["servers_missing"].items():
        figures.append(Claim(_claim(kind), f"at least {LEAST:g} x", "", "not measured", command))
    return figures


def _claim(kind: str) -> str:
    return f"requests a second that {kind} keeps with {OURS}"


_COLUMNS: Final = (
    Column("measured by"),
    Column("requests/s", "", 0),
    Column("P99", "ms"),
    Column("of all at once"),
    Column("least"),
    Column("most"),
    Column("processor time", "us", 0),
    Column("added", "us", 0),
)


_Loads = Mapping[str, Mapping[str, Mapping[str, list[float]]]]


def _kept(loads: _Loads, name: str) -> Ratio:
    """Of the requests of those with nothing, with which it shared a processor."""
    return paired(loads[name]["at once"]["rate"], loads[NOTHING]["at once"]["rate"])


def _table(kind: str, each: int, loads: _Loads, notes: tuple[str, ...]) -> Table:
    rows = []
    without = loads[NOTHING]["at once"]["cpu"]
    for name, load in loads.items():
        alone, kept = load["alone"], _kept(loads, name)
        rate, p99 = statistics.median(alone["rate"]), 1e3 * statistics.median(alone["p99"])
        took = load["at once"]["cpu"]
        cpu = 1e6 * statistics.median(took)
        added = 1e6 * statistics.median(one - other for one, other in zip(took, without, strict=True))
        rows.append((name, rate, p99, kept.median, kept.low, kept.high, cpu, added))
    return Table(f"{kind}: {each} of each, one worker, and wrk", _COLUMNS, tuple(rows), notes)
