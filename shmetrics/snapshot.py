"""The snapshot: the whole fleet at one instant, as plain immutable data.

Everything that computes (statistics, trends, alerts, exporters) is a function of a `Snapshot`, so it can be tested with
forged ones, runs without any lock or guard, and gives the same answer in every process.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from shmetrics.arrays import np
from shmetrics.board import Busy, RequestInFlight
from shmetrics.cells import Cells
from shmetrics.families import Exemplar, Family
from shmetrics.folded import Folded, Kept, Rows, unpacked
from shmetrics.layout import GENERATIONS
from shmetrics.obituary import Obituary

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Counters(NamedTuple):
    """Counts that only ever grow."""

    requests: int = 0
    errors: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    dropped: int = 0

    def __add__(self, other: Counters) -> Counters:  # type: ignore[override]  # they add up
        return Counters(*map(operator.add, self, other))


def added(counters: Sequence[Counters]) -> Counters:
    """The sum of them all."""
    return Counters(*map(sum, zip(*counters, strict=True)))


class Usage(NamedTuple):
    """What the operating system says of a worker's process at one look; None where it cannot be known."""

    cpu_percent: float | None = None
    """Of one CPU: since the last look at this process, at the first look since it started."""
    rss_bytes: int | None = None
    rss_growth: float | None = None
    """Bytes per second by which its memory grows steadily, 0.0 where it does not; None until that can be told."""
    state: str | None = None
    """R, S, D, T, ...: as proc(5) has it."""


class Garbage(NamedTuple):
    """What a worker's garbage collections came to, since it attached or was forked: of each generation of objects, the
    youngest first; nothing where it cannot be believed.
    """

    collections: list[int]
    collected: list[int]
    """Objects that were freed."""
    uncollectable: list[int]
    """Objects that could not be."""
    seconds: list[float]
    """Spent in them; 0.0 where nobody asked for it (`garbage`)."""


@dataclass(frozen=True)
class WorkerSnapshot:
    """One incarnation of one slot: a worker that lives, or the last one that did. Times are monotonic seconds."""

    slot: int
    generation: int
    alive: bool
    counted: bool
    """Whether its window is part of the fleet's: it lives, or ended less than a minute ago."""
    in_totals: bool
    """Whether its counters are part of the fleet's by themselves, not by way of the retired area."""
    stale: bool
    """Whether this is an earlier copy, because the slot changed too fast to be copied now."""
    pid: int
    start_ticks: int
    role: str
    claimed_at: float
    last_seen: float
    """When it last recorded, folded, claimed, or sent a further part of a response."""
    ended_at: float | None
    """When its end was noticed; None while it lives, and while nobody has noticed."""
    counters: Counters
    kept: Kept
    """Everything this incarnation recorded; see `area`."""
    window: Rows
    """Its last `window_size` records at most, oldest first: shape (n,), dtype ``layout.RECORD``."""
    before_window: Counters
    """The cumulative counters at the record before `window`."""
    in_flight: tuple[RequestInFlight, ...]
    """Those that its board shows, the oldest first."""
    crowd: int = 0
    """Requests in flight that its board has no place for."""
    busy: Busy = field(default_factory=Busy)
    """Its busy time; not known where it shows no requests on its board."""
    cells: Cells = field(default_factory=lambda: np.empty(0))
    """What it has of custom metrics: see `cells`."""
    expected: bool = False
    """Whether it has said that it is about to end."""
    garbage_counts: list[int] = field(default_factory=list)
    """Those of `garbage` one after another, with nanoseconds for seconds."""

    @property
    def gone_unnoticed(self) -> bool:
        """Whether it is gone, and nobody has noticed: it did not give its slot up, and has no obituary."""
        return not self.alive and self.ended_at is None

    @property
    def in_flight_count(self) -> int:
        """Requests that it is serving."""
        return len(self.in_flight) + self.crowd

    @property
    def garbage(self) -> Garbage:
        """Its garbage collections, up to its last fold."""
        counts, n = self.garbage_counts, GENERATIONS
        seconds = [nanoseconds / 1e9 for nanoseconds in counts[3 * n :]]
        return Garbage(counts[:n], counts[n : 2 * n], counts[2 * n : 3 * n], seconds)

    @cached_property
    def area(self) -> NDArray[np.void]:
        """Everything this incarnation recorded, as `folded` has it: ``layout.FOLDED``, zero-dimensional."""
        return unpacked(self.kept)

    @cached_property
    def folded(self) -> Folded:
        """Everything this incarnation recorded, as sketches, sums and seconds."""
        return Folded(self.area)


@dataclass(frozen=True)
class Health:
    """How the hub itself is doing."""

    bytes: int
    slots_live: int
    slots_dead: int
    slots_total: int
    stale: bool
    """Whether all of this is an earlier snapshot, because the retired area could not be copied now."""
    stale_slots: int
    corrupt: dict[str, str]
    """Which parts cannot be believed, and why; they are left out of every figure."""
    corrupt_reaped: int
    """Dead slots that were freed unread because they could not be believed."""
    unlinked: bool
    seconds_waited: float
    catalog_used: int = 0
    """Blocks of the catalog that custom metrics and their series take: one each, as a rule."""
    catalog_total: int = 0
    cells_used: int = 0
    """Cells that the series of custom metrics take in each slot."""
    cells_total: int = 0
    refused_series: int = 0
    """How often there was no room for a series, so that it went to its metric's overflow."""


@dataclass(frozen=True)
class Snapshot:
    """The fleet at one instant."""

    name: str
    taken_at: float
    """Monotonic seconds."""
    taken_at_wall: float
    """Seconds since the epoch."""
    created_at: float
    """Monotonic seconds."""
    window_size: int
    counters: Counters
    """Lifetime totals, retired workers included."""
    folded: Folded
    """Every valid record ever, as sketches, sums and seconds."""
    workers_seen: int
    peak_recorded: float
    """The best full second an aggregator ever saw, requests per second."""
    workers: tuple[WorkerSnapshot, ...]
    """By slot: every worker whose slot was not taken over since."""
    health: Health
    families: Sequence[Family] = ()
    """Custom metrics, in the order in which they were defined."""
    exemplars: tuple[Exemplar, ...] = ()
    """Of inference_time: the slowest recent request of each octave that came with labels, the fastest first."""
    obituaries: tuple[Obituary, ...] = ()
    """Of workers that died without giving their slots up: the last OBITUARIES, the newest last."""


def check_source(source: object) -> None:
    """TypeError for what has no snapshots, such as the name of a hub. For whoever reads a fleet later."""
    if not callable(getattr(source, "snapshot", None)):
        raise TypeError(f"wanted PerformanceMetrics, or a hub to read (Hub.attach(name)), not {source!r}")
