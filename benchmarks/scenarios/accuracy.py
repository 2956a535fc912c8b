"""How far percentiles are from the exact ones that are kept in little room: our sketch, and others.

Values are drawn from distributions that have names, by a seed, so that these figures are the same on every machine; and
durations of real requests are recorded, which are not. An estimate is right if it lies between the two values that the
percentile is between when all are sorted, which no definition of a percentile disputes; else its error is how far it is
from the nearer one, as a part of that.
"""

import argparse
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from shmetrics.benchmarks.comparing import exactly
from shmetrics.benchmarks.estimators import ESTIMATORS
from shmetrics.benchmarks.figures import Cell, Claim, Column, Figure, Table, at_most
from shmetrics.benchmarks.peers import OURS
from shmetrics.benchmarks.progress import Progress
from shmetrics.benchmarks.traces import requests

SUMMARY: Final = "how far percentiles are from the exact ones: our sketch, other sketches, and buckets"
FRACTIONS: Final = (0.5, 0.9, 0.95, 0.99, 0.999)
TRACE: Final = "requests to a local server"
WORST: Final = 1.1
"""Per cent: what docs/statistics.md promises of lifetime percentiles."""

DISTRIBUTIONS: Final[Mapping[str, Callable[[random.Random], float]]] = {
    "uniform": lambda draw: draw.uniform(0.001, 0.1),
    "lognormal": lambda draw: draw.lognormvariate(-4.0, 1.0),
    "bimodal": lambda draw: draw.lognormvariate(-5.3 if draw.random() < 0.9 else -0.7, 0.1),
    "Pareto": lambda draw: 0.002 * draw.paretovariate(1.5),
    "constant": lambda _: 0.0123,
}
"""Seconds. The two modes are 5 ms, of nine in ten, and half a second."""


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(options: argparse.Namespace) -> Iterator[Mapping[str, list[float]]]:
    """The values of each distribution."""
    count = 5_000 if options.quick else 100_000
    drawn = {}
    for name, distribution in DISTRIBUTIONS.items():
        draw = random.Random(options.seed)
        drawn[name] = [distribution(draw) for _ in range(count)]
    yield {**drawn, TRACE: requests(300 if options.quick else 5_000, options.seed)}


def run(state: Mapping[str, list[float]], _options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Ask each for each."""
    there = [estimator for estimator in ESTIMATORS if not estimator.lacking()]
    found: list[dict[str, Any]] = []
    for values in state.values():
        ordered = sorted(values)
        exact = [between(ordered, fraction) for fraction in FRACTIONS]
        errors, places = {}, {}
        for estimator in there:
            quantile, places[estimator.name] = estimator.keep(values)
            errors[estimator.name] = [
                error(quantile(fraction), *bounds) for fraction, bounds in zip(FRACTIONS, exact, strict=True)
            ]
            progress(len(found) * len(there) + len(errors), len(state) * len(there))
        found.append({"values": len(values), "exact": exact, "errors": errors, "places": places})
    return {
        "distributions": dict(zip(state, found, strict=True)),
        "missing": {each.name: each.lacking() for each in ESTIMATORS if each.lacking()},
    }


def between(ordered: Sequence[float], fraction: float) -> tuple[float, float]:
    """The two values that a percentile lies between; one and the same where it is one of them."""
    rank = fraction * (len(ordered) - 1)
    return ordered[math.floor(rank)], ordered[math.ceil(rank)]


def error(estimate: float, low: float, high: float) -> float:
    """How far an estimate is from what lies between the two, as a part of the nearer one."""
    nearest = min(max(estimate, low), high)
    return abs(estimate - nearest) / nearest


# What it comes to -----------------------------------------------------------------------------------------------------


def report(results: dict[str, Any]) -> list[Figure]:
    """The worst errors, all of them, and whether ours are as small as is promised."""
    notes = tuple(f"not compared: {name}; {command}" for name, command in results["missing"].items())
    distributions = results["distributions"]
    return [
        _summary(distributions, notes),
        *(_table(name, found) for name, found in distributions.items()),
        *_claims(distributions),
    ]


def _summary(distributions: Mapping[str, Any], notes: tuple[str, ...]) -> Table:
    names = list(next(iter(distributions.values()))["errors"])
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        worst = [100.0 * max(found["errors"][name]) for found in distributions.values()]
        places = [found["places"][name] for found in distributions.values()]
        rows.append((name, *worst, max(places)))
    columns = (Column("by"), *(Column(name, "%") for name in distributions), Column("counts kept, at most"))
    return Table("the worst error of five percentiles", columns, tuple(rows), notes)


def _table(name: str, found: Mapping[str, Any]) -> Table:
    heads = [f"P{100.0 * fraction:g}" for fraction in FRACTIONS]
    rows: list[tuple[Cell, ...]] = [
        (by, *(100.0 * each for each in errors), 100.0 * max(errors)) for by, errors in found["errors"].items()
    ]
    exact = ", ".join(f"{head} {1e3 * low:.4g} ms" for head, (low, _) in zip(heads, found["exact"], strict=True))
    columns = (Column("by"), *(Column(head, "%") for head in heads), Column("worst", "%"))
    return Table(
        f"{name}: errors of {found['values']:,} values", columns, tuple(rows), (f"exact: {exact}",), drawn="worst"
    )


def _claims(distributions: Mapping[str, Any]) -> list[Claim]:
    return [
        at_most(f"the worst error of {OURS}, {name}", WORST, exactly(100.0 * max(found["errors"][OURS])), "%")
        for name, found in distributions.items()
    ]
