"""The snapshot: the whole fleet at one instant, as plain immutable data.

Everything that computes (statistics, trends, alerts, exporters) is a function of a `Snapshot`, so it can be tested with
forged ones, runs without any lock or guard, and gives the same answer in every process.
"""

from dataclasses import dataclass, field

import numpy as np

from shmetrics.cells import Cells
from shmetrics.families import Exemplar, Family
from shmetrics.folded import Folded, Rows


@dataclass(frozen=True)
class Counters:
    """Counts that only ever grow."""

    requests: int = 0
    errors: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    dropped: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(
            self.requests + other.requests,
            self.errors + other.errors,
            self.cache_hits + other.cache_hits,
            self.cache_misses + other.cache_misses,
            self.dropped + other.dropped,
        )


@dataclass(frozen=True)
class RequestInFlight:
    """A request that a worker is serving."""

    started_at: float
    """Monotonic seconds."""
    label: int


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
    """When it last recorded, folded or claimed."""
    ended_at: float | None
    """When its end was noticed; None while it lives, and while nobody has noticed."""
    counters: Counters
    folded: Folded
    """Everything this incarnation recorded."""
    window: Rows
    """Its last `window_size` records at most, oldest first: shape (n,), dtype ``layout.RECORD``."""
    before_window: Counters
    """The cumulative counters at the record before `window`."""
    in_flight: tuple[RequestInFlight, ...]
    cells: Cells = field(default_factory=lambda: np.empty(0))
    """What it has of custom metrics: see `cells`."""


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
    families: tuple[Family, ...] = ()
    """Custom metrics, in the order in which they were defined."""
    exemplars: tuple[Exemplar, ...] = ()
    """Of inference_time: the slowest recent request of each octave that came with labels, the fastest first."""
