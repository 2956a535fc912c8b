"""What measuring costs a server: requests a second of trivial applications, and their P99, with nothing and with peers.

In each round new servers are started, one of each kind and with one worker, in an order that is drawn: servers with the
same code differ by one or two per cent for as long as they live, by where their memory happens to lie, so rounds with
the same servers would only make sure of that. All are on one processor, and wrk on the others. First they have turns of
a tenth of a second, in an order that is drawn each time, so that what changes with time is the same for all: what is
left of the requests is told by these. Then each is loaded without a break, which tells requests a second, and their
P99. "Nothing again" is another server with nothing: what it differs by cannot be told here. A ratio is the median of
the rounds' ratios.
"""

import argparse
import random
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

from shmetrics.benchmarks.comparing import Ratio, paired
from shmetrics.benchmarks.figures import Claim, Column, Figure, Table, at_least
from shmetrics.benchmarks.peers import OURS, needs
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.servers import KINDS, TURN, Load, lacking, load_in_turns, serving
from shmetrics.cli.options import UsageError, add_count, add_text

SUMMARY: Final = "requests a second of trivial applications behind gunicorn and uvicorn, measured and not"
NOTHING: Final = "nothing"
MEASURED_BY: Final = {
    NOTHING: ("", "os"),
    "nothing again": ("", "os"),
    OURS: ("shmetrics", "shmetrics"),
    "prometheus_client multiprocess": ("prometheus", "prometheus_client"),
    "OpenTelemetry": ("otel", "opentelemetry.instrumentation"),
}
"""What `served.measured` calls it, and a module that it takes."""
_WARM_UP: Final = 3
"""Turns."""
LEAST: Final = 0.95
"""Of the requests a second that there are without."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Which servers."""
    add_text(parser, "--servers", f"of {', '.join(KINDS)} (default: all of them, or one if --quick)", "SERVER,...")
    add_text(parser, "--peers", f"of {', '.join(list(MEASURED_BY)[1:])} (default: all of them)", "PEER,...")
    add_count(parser, "--seconds", 1, "of load for each server and round, in turns, and as many without a break")


@dataclass(frozen=True)
class State:
    """What will be started: each kind for itself, when its turn has come."""

    kinds: Sequence[str]
    names: Sequence[str]
    """What each is measured by, in turn."""


@contextmanager
def setup(options: argparse.Namespace) -> Iterator[State]:
    """Which servers, and what measures them."""
    kinds = _chosen(options.servers, list(KINDS)[: 1 if options.quick else None], KINDS, "server")
    names = _chosen(options.peers, list(MEASURED_BY), MEASURED_BY, "peer")
    yield State(kinds, [NOTHING, *(name for name in MEASURED_BY if name in names and name != NOTHING)])


def _chosen(given: str | None, default: list[str], among: Iterable[str], what: str) -> list[str]:
    names = default if given is None else [name.strip() for name in given.split(",")]
    unknown = [name for name in names if name not in among]
    if unknown:
        raise UsageError(f"there is no {what} {unknown[0]!r} here; there are {', '.join(among)}")
    return names


def run(state: State, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Load every server with every peer."""
    missing = {name: command for name in state.names if (command := needs(MEASURED_BY[name][1])())}
    found = {}
    for at, kind in enumerate(state.kinds):
        if not lacking(kind):
            names = [name for name in state.names if name not in missing]
            found[kind] = _loaded(kind, names, options, part(progress, at, len(state.kinds)))
    return {
        "missing": missing,
        "servers_missing": {kind: lacking(kind) for kind in state.kinds if kind not in found},
        "rounds": _rounds(options),
        "seconds": options.seconds,
        "servers": found,
    }


def _rounds(options: argparse.Namespace) -> int:
    rounds: int = options.rounds or (2 if options.quick else 20)
    return rounds


def _loaded(
    kind: str, names: list[str], options: argparse.Namespace, progress: Progress
) -> dict[str, dict[str, dict[str, list[float]]]]:
    found: dict[str, dict[str, list[Load]]] = {name: {"in turns": [], "without a break": []} for name in names}
    draw, rounds = random.Random(options.seed), _rounds(options)
    for done in range(rounds):
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(serving(kind, MEASURED_BY[name][0]))
                for name in draw.sample(names, len(names))
            }
            load_in_turns([*servers.values()], _WARM_UP, draw)
            in_turns = load_in_turns([*servers.values()], round(options.seconds / TURN), draw)
            for (name, server), load in zip(servers.items(), in_turns, strict=True):
                found[name]["in turns"].append(load)
                found[name]["without a break"].append(server.load(options.seconds))
        progress(done + 1, rounds)
    return {name: {how: _by_field(loads) for how, loads in ways.items()} for name, ways in found.items()}


def _by_field(loads: list[Load]) -> dict[str, list[float]]:
    figures = {field.name: [getattr(load, field.name) for load in loads] for field in fields(Load)}
    return {name: values for name, values in figures.items() if None not in values}


def report(results: dict[str, Any]) -> list[Figure]:
    """A table for each server, and what ours should keep of its requests a second."""
    figures: list[Figure] = []
    notes = tuple(f"not compared: {name}; {command}" for name, command in results["missing"].items())
    for kind, loads in results["servers"].items():
        figures.append(_table(kind, loads, notes))
    for kind, loads in results["servers"].items():
        if OURS in loads:
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
    Column("in turns"),
    Column("least"),
    Column("most"),
    Column("processor time", "us", 0),
    Column("added", "us", 0),
)


_Loads = Mapping[str, Mapping[str, Mapping[str, list[float]]]]


def _kept(loads: _Loads, name: str) -> Ratio:
    """Of the requests of those with nothing, with which it had turns."""
    return paired(loads[name]["in turns"]["rate"], loads[NOTHING]["in turns"]["rate"])


def _table(kind: str, loads: _Loads, notes: tuple[str, ...]) -> Table:
    rows = []
    without = loads[NOTHING]["in turns"]["cpu"]
    for name, load in loads.items():
        unbroken, took, kept = load["without a break"], load["in turns"]["cpu"], _kept(loads, name)
        rate, p99 = statistics.median(unbroken["rate"]), 1e3 * statistics.median(unbroken["p99"])
        cpu = 1e6 * statistics.median(took)
        added = 1e6 * statistics.median(one - other for one, other in zip(took, without, strict=True))
        rows.append((name, rate, p99, kept.median, kept.low, kept.high, cpu, added))
    return Table(f"{kind}: one worker, and wrk", _COLUMNS, tuple(rows), notes)
