"""Interleaved rounds: whoever is compared takes turns, in an order that is drawn anew for each round, so that what else
the machine does falls on all. `comparing` says what it comes to.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from shmetrics.benchmarks.calls import Work
from shmetrics.benchmarks.progress import Progress, silent

_Found = TypeVar("_Found")
_Name = TypeVar("_Name")

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
"""Of the single call."""


def interleaved(
    turns: Mapping[_Name, Callable[[], _Found]],
    rounds: int,
    seed: int,
    progress: Progress = silent,
    *,
    before: Callable[[], object] | None = None,
    group: Callable[[_Name], object] = id,
) -> dict[_Name, list[_Found]]:
    """What each turn gave in each round. ``before`` is called before each round. Whoever needs it has warmed up.

    ``group``: turns of which this is the same, given their names, follow one another, since they will be compared.
    """
    found: dict[_Name, list[_Found]] = {name: [] for name in turns}
    draw = random.Random(seed)
    for done in range(rounds):
        if before is not None:
            before()
        for at, name in enumerate(_order(list(turns), draw, group)):
            found[name].append(turns[name]())
            progress(done * len(turns) + at + 1, rounds * len(turns))
    return found


def _order(names: list[_Name], draw: random.Random, group: Callable[[_Name], object]) -> list[_Name]:
    """An order of the names, and of their groups."""
    shuffled = draw.sample(names, len(names))
    groups: dict[object, list[_Name]] = {}
    for name in shuffled:
        groups.setdefault(group(name), []).append(name)
    return [name for members in groups.values() for name in members]


def timed(
    works: Mapping[str, Work],
    *,
    rounds: int,
    seconds: float,
    seed: int,
    progress: Progress = silent,
    **order: Any,
) -> dict[str, list[float]]:
    """The seconds of processor time of one call of each, by round, from turns of about so many seconds. Finding out
    how many calls that is warms up. ``order``: see `interleaved`.
    """
    turns = {name: _turn(work, _calls(work, seconds)) for name, work in works.items()}
    return interleaved(turns, rounds, seed, progress, **order)


def singles(
    works: Mapping[str, Work], *, rounds: int, calls: int, seed: int, progress: Progress = silent, **order: Any
) -> dict[str, dict[str, list[float]]]:
    """The quantiles of the single call, over all rounds and by round: ``{"all": ..., "0.5": ..., "0.999": ...}``.

    What the clock takes is in each of them: compare with a work that does nothing. ``order``: see `interleaved`.
    """
    for work in works.values():
        work.each(max(calls // 10, 1))
    turns = {name: _each(work, calls) for name, work in works.items()}
    found = interleaved(turns, rounds, seed, progress, **order)
    return {name: _quantiles(times) for name, times in found.items()}


def _quantiles(times: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    by_round = np.array([np.quantile(one, QUANTILES) for one in times])
    over_all: list[float] = np.quantile(np.concatenate([np.asarray(one) for one in times]), QUANTILES).tolist()
    return {"all": over_all, **{f"{q:g}": by_round[:, at].tolist() for at, q in enumerate(QUANTILES)}}


def _turn(work: Work, calls: int) -> Callable[[], float]:
    return lambda: work.many(calls) / calls


def _each(work: Work, calls: int) -> Callable[[], Sequence[float]]:
    return lambda: work.each(calls)


def _calls(work: Work, seconds: float) -> int:
    """How many calls take about so many seconds, once the first one is over, which may have much to prepare."""
    work.many(1)
    calls = 1
    while work.many(calls) < seconds / 4:
        calls *= 2
    took = min(work.many(calls) for _ in range(2))
    return max(int(calls * seconds / took), 1)
