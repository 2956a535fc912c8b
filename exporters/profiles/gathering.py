"""Gathering: everything that a hub knows of profiled functions, as the data of a report."""

from shmetrics.exporters.profiles.looking import NOTHING, Seen
from shmetrics.exporters.profiles.report_data import (
    Breakdown,
    Bucket,
    Component,
    FunctionReport,
    ReportData,
    SlowCall,
    WorkerRow,
)
from shmetrics.profiling.families import BOUNDS, CPROFILE, PROFILED, SAMPLING, SKIPPED
from shmetrics.profiling.profiler import Profiler
from shmetrics.profiling.results import Figures, FunctionResults, WorkerFigures

_MOST_PARTS = 4
"""Of a slow call, to be named."""
_HEADINGS = {CPROFILE: "cProfile", SAMPLING: "samples"}


def report_of(profiler: Profiler, seen: Seen = NOTHING) -> ReportData:
    """What the whole fleet knows of every function, at this instant, and what was seen of its workers before."""
    known = profiler.all_results()
    snapshot = known.snapshot
    return ReportData(
        hub=snapshot.name,
        made_at=snapshot.taken_at_wall,
        since=snapshot.taken_at_wall - (snapshot.taken_at - snapshot.created_at),
        live_workers=snapshot.health.slots_live,
        workers_seen=snapshot.workers_seen,
        functions=[_function(known.of(name, profiler.remembered(name)), profiler.kind(name)) for name in known.names],
        profile=seen.profile,
        notes=[*seen.notes, *_notes(snapshot.health.refused_series)],
    )


def _notes(refused: int) -> list[str]:
    if not refused:
        return []
    return [
        "The hub had no room for some series, so functions or their components may be missing; create it with a larger "
        "max_series."
    ]


def _function(found: FunctionResults, kind: str) -> FunctionReport:
    figures = found.fleet
    p50, p90, p95, p99 = (figures.percentile(percent) for percent in (50, 90, 95, 99))
    slowest = max((call.seconds for call in found.slowest), default=0.0)
    return FunctionReport(
        name=found.name,
        calls=figures.calls,
        errors=figures.errors,
        seconds=figures.seconds,
        own=figures.own,
        minimum=figures.percentile(0),
        maximum=slowest or figures.percentile(100),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        buckets=_buckets(figures),
        breakdowns=[
            Breakdown(
                _HEADINGS.get(means, means),
                [Component(name, seconds) for name, seconds in parts.items()],
                _note(means, figures),
            )
            for means, parts in figures.breakdowns().items()
        ],
        workers=[_worker(row) for row in found.workers],
        slowest=[
            SlowCall(
                seconds=call.seconds,
                at=call.at,
                slot=call.slot,
                pid=call.pid,
                error=call.error,
                detail=_detail(call.parts, call.seconds),
            )
            for call in found.slowest
        ],
        kind=kind,
    )


def _note(means: str, figures: Figures) -> str:
    """What a reader has to know of a breakdown."""
    if means == SAMPLING:
        return "From looks at the threads in it, now and then."
    if means != CPROFILE:
        return "Of every call."
    looked, skipped = figures.sampled.get(PROFILED, 0), figures.sampled.get(SKIPPED, 0)
    beside = f"; {skipped:,} more were left out, since something else was at work" if skipped else ""
    return f"From {looked:,} of {figures.calls:,} calls{beside}."


def _buckets(figures: Figures) -> list[Bucket]:
    bounds = (BOUNDS[0] ** 2 / BOUNDS[1], *BOUNDS, max(2.0 * BOUNDS[-1], figures.seconds))
    return [Bucket(bounds[at], bounds[at + 1], calls) for at, calls in enumerate(figures.counts) if calls]


def _worker(row: WorkerFigures) -> WorkerRow:
    figures, worker = row.figures, row.worker
    p50, p95, p99 = (figures.percentile(percent) for percent in (50, 95, 99))
    return WorkerRow(
        slot=None if worker is None else worker.slot,
        pid=None if worker is None else worker.pid,
        calls=figures.calls,
        errors=figures.errors,
        seconds=figures.seconds,
        p50=p50,
        p95=p95,
        p99=p99,
        role="" if worker is None else worker.role,
        alive=worker is not None and worker.alive,
    )


def _detail(parts: tuple[tuple[str, float], ...], seconds: float) -> str:
    """Where most of a slow call went."""
    largest = sorted(parts, key=lambda part: -part[1])[:_MOST_PARTS]
    return ", ".join(f"{name} {part / seconds:.0%}" for name, part in largest if part > 0.0)
