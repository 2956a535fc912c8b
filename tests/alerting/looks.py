"""Forged looks at a fleet, and rules for them: what a test does not name is harmless."""

from dataclasses import dataclass, field, replace

from shmetrics.alerting.readings import Reading
from shmetrics.alerting.rules import Rule
from shmetrics.alerting.wording import PLAIN
from shmetrics.snapshot import Counters
from tests.forge import NOW, fleet, records, worker

WALL = 1.7e9


@dataclass(frozen=True)
class Given:
    """A source whose readings the look has, by name."""

    name: str = "x"
    unit: str = PLAIN
    least_samples: int = 0
    words: str = "the figure"

    def read(self, look):
        yield from look.readings.get(self.name, [])


@dataclass
class GivenLook:
    """A look that has the readings which the test says."""

    now: float = 0.0
    readings: dict = field(default_factory=dict)
    hub: str = "forged"

    @property
    def wall(self):
        return WALL + self.now


def rule(name="Rule", source=None, **fields):
    known = {"above": 10.0, "cooldown": 100.0}
    if "below" in fields or source is not None:
        known.pop("above") if "below" in fields else None
    return Rule(name, Given() if source is None else source, **{**known, **fields})


def reading(value, worker=None, samples=None, **fields):
    return Reading(float(value), () if worker is None else (("worker", str(worker)),), samples, **fields)


def fleet_at(moment, *workers, **fields):
    """A fleet seen at a moment, in seconds after NOW."""
    return fleet(*workers, taken_at=NOW + moment, taken_at_wall=WALL + moment, **fields)


def served(count, *, until=0.0, every=0.01, slot=0, errors=0, hits=0, misses=0, window_size=100, **columns):
    """A worker that recorded `count` requests, the last one `until` seconds after NOW.

    ``errors``, ``hits``, ``misses``: counted after the last record, so that no record tells of them.
    """
    rows = records([NOW + until - every * (count - 1 - at) for at in range(count)], **columns)
    known = worker(rows, slot=slot, window_size=window_size)
    counters = known.counters + Counters(0, errors, hits, misses)
    return replace(known, counters=counters)
