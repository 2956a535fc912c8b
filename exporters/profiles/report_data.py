"""What a report of profiled functions shows: plain fields, gathered before anything is drawn.

Times are seconds, moments are Unix times. Names are what users gave, of any length and with any characters: whoever
writes them into a page escapes them. Orders do not matter here; the report sorts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shmetrics.profiling.profile import Profile


@dataclass(frozen=True)
class Bucket:
    """Calls that took longer than `above` and not longer than `upto`."""

    above: float
    upto: float
    calls: int


@dataclass(frozen=True)
class Component:
    """A part of a function's time: a stage, or a module or function that it spent time in."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Breakdown:
    """Where a function's time went; its components add up to the time that was looked at."""

    means: str
    """How that is known, as a heading: "stages", "cProfile", "samples"."""
    components: Sequence[Component]
    note: str = ""
    """What a reader has to know of it, as a sentence: "From 1 call in 100."."""


@dataclass(frozen=True)
class WorkerRow:
    """One function in one worker, or in all workers that ended and whose slots were given away."""

    slot: int | None
    """None of those that ended."""
    pid: int | None
    calls: int
    errors: int
    seconds: float
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    role: str = ""
    alive: bool = True


@dataclass(frozen=True)
class SlowCall:
    """One of the slowest calls of a function that are known."""

    seconds: float
    at: float
    """When it returned."""
    slot: int | None = None
    pid: int | None = None
    error: str = ""
    """The name of the exception that it raised; empty where it returned."""
    detail: str = ""
    """What else is known, in words."""


@dataclass(frozen=True)
class FunctionReport:
    """What is known of one profiled function, of all workers together."""

    name: str
    calls: int
    errors: int
    seconds: float
    """Total; of recursive calls the outermost counts."""
    own: float
    """Of them, those outside of other profiled functions."""
    minimum: float
    maximum: float
    p50: float
    p90: float
    p95: float
    p99: float
    buckets: Sequence[Bucket] = ()
    """Where calls fell; ascending, empty ones may be left out. Of any width: the report joins them."""
    breakdowns: Sequence[Breakdown] = ()
    workers: Sequence[WorkerRow] = ()
    slowest: Sequence[SlowCall] = ()
    profile: Profile | None = None
    """What a sampler saw while it ran; where that is not known, its part of what was seen of whole workers is shown."""
    kind: str = "function"
    """"function", "coroutine", "generator" or "async generator"."""


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows."""

    hub: str
    made_at: float
    since: float
    """When counting began."""
    live_workers: int
    workers_seen: int
    """How many there ever were, the living included."""
    functions: Sequence[FunctionReport]
    profile: Profile | None = None
    """What a sampler saw of whole workers."""
    notes: Sequence[str] = ()
    """What a reader has to know before believing a figure, as sentences."""
