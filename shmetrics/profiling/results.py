"""Results: what the whole fleet knows of a profiled function, made from one snapshot. Pure."""

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shmetrics.families import OVERFLOW, Family, Series
from shmetrics.profiling.families import (
    AWAITED,
    BOUNDS,
    CALL,
    CPROFILE,
    DURATION,
    ERRORS,
    NESTED,
    OWN,
    PARTS,
    PROFILED,
    SAMPLED,
    SAMPLING,
    SKIPPED,
    STAGE,
)
from shmetrics.profiling.slowest import SlowCall, slowest
from shmetrics.series import MergedFamilies
from shmetrics.snapshot import Snapshot, WorkerSnapshot

OUTSIDE: Final = "(outside of stages)"
AWAITING: Final = "(waiting)"
STAGES: Final = "stages"
CALLS: Final = "calls"
_PERCENTILES: Final = (50, 90, 95, 99)


@dataclass(frozen=True)
class Figures:
    """One function in the whole fleet, or in one worker."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    """Calls in each bucket, those above the last bound last."""
    seconds: float = 0.0
    """Recursive calls count once."""
    errors: int = 0
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Seconds by means, then by the name of the part."""
    sampled: Mapping[str, int] = field(default_factory=dict)
    """Calls that were chosen for cProfile, by what came of it."""

    @property
    def calls(self) -> int:
        """Calls that ended."""
        return sum(self.counts)

    @property
    def own(self) -> float:
        """Seconds outside of other profiled functions."""
        nested = sum(self.parts.get(CALL, {}).values()) + sum(self.parts.get(NESTED[0], {}).values())
        return max(0.0, self.seconds - nested)

    def percentile(self, percent: float) -> float:
        """Seconds that so many of a hundred calls took at most, to 14 %; 0.0 without any calls."""
        count = self.calls
        rank, seen = max(1, math.ceil(count * percent / 100)), 0
        for bucket, calls in enumerate(self.counts):
            seen += calls
            if calls and seen >= rank:
                mean = self.seconds / count
                alone = calls == count and bisect_left(BOUNDS, mean) == bucket
                return mean if alone else typical(bucket)
        return 0.0

    def breakdowns(self) -> dict[str, dict[str, float]]:
        """Seconds of each part, the greatest first, by means. Each adds up to `seconds`; what is left has a name."""
        found: dict[str, dict[str, float]] = {}
        stages, called = self.parts.get(STAGE, {}), self.parts.get(CALL, {})
        if stages or called:
            known = {name: stages.get(name, 0.0) + called.get(name, 0.0) for name in (*stages, *called)}
            rest = max(0.0, self.seconds - sum(known.values()))
            known[OUTSIDE if stages else OWN] = rest
            found[STAGES if stages else CALLS] = _scaled(known, self.seconds)
        if CPROFILE in self.parts:
            found[CPROFILE] = _scaled(self.parts[CPROFILE], self.seconds)
        if SAMPLING in self.parts:
            found[SAMPLING] = _scaled(self.parts[SAMPLING], self.seconds)
        elif AWAITED in self.parts:
            running = self.parts[AWAITED]
            waiting = max(0.0, self.seconds - sum(running.values()))
            found[SAMPLING] = _scaled({**running, AWAITING: waiting}, self.seconds)
        return found

    def breakdown(self) -> dict[str, float]:
        """The one that tells most: of stages, where there are some; else what was found automatically."""
        found = self.breakdowns()
        for means in (STAGES, *(means for means in found if means != CALLS), CALLS):
            if means in found:
                return found[means]
        return {OWN: self.seconds} if self.seconds else {}


@dataclass(frozen=True)
class WorkerFigures:
    """One function in one worker; ``worker`` is None for those that ended and whose slots others have."""

    worker: WorkerSnapshot | None
    figures: Figures


@dataclass(frozen=True)
class FunctionResults:
    """Everything that a hub knows of one function."""

    name: str
    fleet: Figures
    workers: tuple[WorkerFigures, ...]
    slowest: tuple[SlowCall, ...]
    """The slowest calls that are known, the slowest first."""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON-ready dictionary: see `PerformanceProfiler.get_profile_results`."""
        return {
            "function": self.name,
            **_row(self.fleet),
            "time_breakdown": self.fleet.breakdown(),
            "breakdowns": self.fleet.breakdowns(),
            "sampled_calls": self.fleet.sampled.get(PROFILED, 0),
            "skipped_calls": self.fleet.sampled.get(SKIPPED, 0),
            "slowest_calls": [
                {
                    "time": call.seconds,
                    "at": call.at,
                    "worker": call.slot,
                    "pid": call.pid,
                    "error": call.error,
                    "parts": dict(call.parts),
                }
                for call in self.slowest
            ],
            "workers": [_worker(each) for each in self.workers],
        }


def typical(bucket: int) -> float:
    """What stands for all that is in a bucket: the middle between its bounds, by ratio."""
    if bucket >= len(BOUNDS):
        return BOUNDS[-1]
    above = BOUNDS[bucket - 1] if bucket else BOUNDS[0] * BOUNDS[0] / BOUNDS[1]
    return math.sqrt(above * BOUNDS[bucket])


def found(name: str, known: Sequence[str], decorated: Sequence[str] = ()) -> str:
    """The known name that is meant: itself, or one that ends in it. KeyError that lists the known ones.

    ``decorated``: those of this process, which the hub may have had no room for.
    """
    if not isinstance(name, str):
        raise KeyError(f"wanted the name of a profiled function, not {name!r}; there are: {', '.join(known) or 'none'}")
    fitting = _fitting(name, known)
    if not fitting and (full := _fitting(name, decorated)):
        raise KeyError(
            f"the hub had no room for {full[0]!r}, so nothing is known of it; create the hub with a larger max_series"
        )
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise KeyError(f"{name!r} could be any of {', '.join(fitting)}; give one of these names")
    if not known:
        raise KeyError(f"no function {name!r} is profiled, and no other; decorate it with @profiler.profile_function")
    raise KeyError(f"no function {name!r} is profiled; there are: {', '.join(known)}")


def _fitting(name: str, known: Sequence[str]) -> list[str]:
    return [each for each in known if each == name] or [
        each for each in known if each.endswith((f":{name}", f".{name}"))
    ]


class Results:
    """What one snapshot knows of all profiled functions."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        families = snapshot.families
        self._fleet = _by_function(families)
        self._workers: list[tuple[WorkerSnapshot, dict[str, Figures]]] = []
        if isinstance(families, MergedFamilies):
            by_slot = {worker.slot: worker for worker in snapshot.workers}
            self._workers = [(by_slot[each.slot], _by_function(own)) for each, own in families.of_each()]
        self._exemplars = {series.labels[0]: series.exemplars for series in _series(families, DURATION.name)}

    @property
    def names(self) -> list[str]:
        """The functions that any worker profiled."""
        return sorted(self._fleet)

    def of(self, name: str, remembered: Sequence[SlowCall] = ()) -> FunctionResults:
        """What is known of one of `names`. ``remembered``: its slowest calls in this process."""
        fleet = self._fleet[name]
        rows = [WorkerFigures(worker, own[name]) for worker, own in self._workers if name in own and own[name].calls]
        earlier = _without(fleet, [row.figures for row in rows])
        if earlier.calls:
            rows.append(WorkerFigures(None, earlier))
        slots = {worker.pid: worker.slot for worker in self.snapshot.workers}
        slow = slowest(remembered, self._exemplars[name].values(), slots)
        return FunctionResults(name, fleet, tuple(rows), slow)


def _series(families: Sequence[Family], metric: str) -> tuple[Series, ...]:
    return next((family.series for family in families if family.definition.name == metric), ())


def _by_function(families: Sequence[Family]) -> dict[str, Figures]:
    """The figures of every function."""
    errors = {series.labels[0]: series.value for series in _series(families, ERRORS.name)}
    sampled: dict[str, dict[str, int]] = {}
    for series in _series(families, SAMPLED.name):
        sampled.setdefault(series.labels[0], {})[series.labels[1]] = round(series.value)
    parts: dict[str, dict[str, dict[str, float]]] = {}
    for series in _series(families, PARTS.name):
        function, means, part = series.labels
        if series.value > 0.0:
            parts.setdefault(function, {}).setdefault(means, {})[part] = series.value
    return {
        series.labels[0]: Figures(
            counts=tuple(round(upto - below) for below, upto in itertools.pairwise((0.0, *series.buckets))),
            seconds=series.sum,
            errors=round(errors.get(series.labels[0], 0.0)),
            parts=parts.get(series.labels[0], {}),
            sampled=sampled.get(series.labels[0], {}),
        )
        for series in _series(families, DURATION.name)
        if OVERFLOW not in series.labels
    }


def _without(fleet: Figures, workers: Iterable[Figures]) -> Figures:
    """What is left of the fleet's figures when those of some workers are taken out."""
    workers = list(workers)
    return Figures(
        counts=tuple(max(0, count - sum(each.counts[at] for each in workers)) for at, count in enumerate(fleet.counts)),
        seconds=max(0.0, fleet.seconds - sum(each.seconds for each in workers)),
        errors=max(0, fleet.errors - sum(each.errors for each in workers)),
        parts={
            means: {
                part: max(0.0, seconds - sum(each.parts.get(means, {}).get(part, 0.0) for each in workers))
                for part, seconds in parts.items()
            }
            for means, parts in fleet.parts.items()
        },
    )


def _scaled(parts: Mapping[str, float], seconds: float) -> dict[str, float]:
    """The parts, the greatest first, so that they add up to so many seconds."""
    total = sum(parts.values())
    scale = seconds / total if total else 0.0
    return {name: part * scale for name, part in sorted(parts.items(), key=lambda each: -each[1]) if part > 0.0}


def _row(figures: Figures) -> dict[str, Any]:
    calls = figures.calls
    return {
        "total_calls": calls,
        "total_time": figures.seconds,
        "avg_time_per_call": figures.seconds / calls if calls else 0.0,
        "self_time": figures.own,
        "total_errors": figures.errors,
        "error_rate": figures.errors / calls if calls else 0.0,
        **{f"p{percent}_time": figures.percentile(percent) for percent in _PERCENTILES},
    }


def _worker(row: WorkerFigures) -> dict[str, Any]:
    worker = row.worker
    return {
        "worker": None if worker is None else worker.slot,
        "pid": None if worker is None else worker.pid,
        "role": "" if worker is None else worker.role,
        "alive": worker is not None and worker.alive,
        **_row(row.figures),
    }
