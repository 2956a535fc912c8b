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
from shmetrics.profiling.families import BOUNDS, CPROFILE, OWN, PROFILED, SAMPLING, SKIPPED, STAGE
from shmetrics.profiling.profiler import Profiler
from shmetrics.profiling.results import OUTSIDE, Figures, FunctionResults, Results, WorkerFigures
from shmetrics.profiling.slowest import SlowCall as Slow
from shmetrics.snapshot import Snapshot

_MOST_PARTS = 4
"""Of a slow call, to be named."""
_LEAST_PART = 0.005
"""Of a slow call, what is named; less would be 0 %."""
_UNNAMED = "MainProcess"
"""What Python calls a process that nobody named, which says nothing to a reader."""
_HEADINGS = {CPROFILE: "cProfile", SAMPLING: "samples"}


def report_of(profiler: Profiler, seen: Seen = NOTHING) -> ReportData:
    """What the whole fleet knows of every function, at this instant, and what was seen of its workers before."""
    known = profiler.all_results()
    functions = [_function(known.of(name, profiler.remembered(name)), profiler.kind(name)) for name in known.names]
    return _report(known.snapshot, functions, seen)


def report_from_outside(snapshot: Snapshot, seen: Seen = NOTHING) -> ReportData:
    """The same by somebody who profiles nothing, and only reads: of a snapshot of the fleet."""
    known = Results(snapshot)
    return _report(snapshot, [_function(known.of(name), kind="") for name in known.names], seen)


def _report(snapshot: Snapshot, functions: list[FunctionReport], seen: Seen) -> ReportData:
    return ReportData(
        hub=snapshot.name,
        made_at=snapshot.taken_at_wall,
        since=snapshot.taken_at_wall - (snapshot.taken_at - snapshot.created_at),
        live_workers=snapshot.health.slots_live,
        workers_seen=snapshot.workers_seen,
        functions=functions,
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
                detail=_detail(call, OUTSIDE if STAGE in figures.parts else OWN),
            )
            for call in found.slowest
        ],
        kind=kind,
    )


def _note(means: str, figures: Figures) -> str:
    """What a reader has to know of a breakdown."""
    if means == SAMPLING:
        return "An estimate: the threads in it are looked at now and then, so what is short or rare may be missing."
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
        role="" if worker is None or worker.role == _UNNAMED else worker.role,
        alive=worker is not None and worker.alive,
    )


def _detail(call: Slow, rest: str) -> str:
    """Where most of a slow call went. ``rest``: what the time is called that was in no part."""
    if not call.parts or call.seconds <= 0.0:
        return ""
    left = call.seconds - sum(seconds for _, seconds in call.parts)
    largest = sorted((*call.parts, (rest, left)), key=lambda part: -part[1])[:_MOST_PARTS]
    shares = [(name, seconds / call.seconds) for name, seconds in largest]
    return ", ".join(f"{name} {share:.0%}".replace("%", " %") for name, share in shares if share >= _LEAST_PART)
