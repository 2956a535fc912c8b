"""The tripwire: what has whoever watches the fleet look before its next look is due.

Alerts want to be told within a tenth of a second, and a worker cannot ring for them: whether a rate is too high only
the whole fleet's figures say, and a bell on the way of a request would cost every request. But each write already
stores words that tell of it: the error and miss counters, the commit word, the record behind it. So the watcher,
which polls its doorbell fifty times a second anyway, looks at those words too; a write costs nothing more, and not
one operation is added to it. `shmetrics bench alert-latency` measures what that gives and what it costs.

What is read here is a hint and no more. It may be torn or forged; the worst that follows is a look too early.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shmetrics.layout import CLAIMED
from shmetrics.locks import is_locked, slot_byte
from shmetrics.segment import Segment

POLL: Final = 0.02
"""Seconds between two polls: those of the doorbell."""
_SHARE: Final = 0.1
"""Of one CPU, at most, for looks before their time."""
_SHORTEST: Final = 0.05
_NEWEST: Final = 32
"""Records of a worker that are looked at in one poll."""


@dataclass(frozen=True)
class Wires:
    """What is a reason to look early."""

    errors: bool = False
    """Any error."""
    misses: bool = False
    """Any lookup that a cache had no answer to."""
    slower_than: float | None = None
    """A request whose total_time, in seconds, is longer."""
    deaths: bool = False
    """The death of a worker."""

    def __bool__(self) -> bool:
        return self.errors or self.misses or self.deaths or self.slower_than is not None


class Tripwire:
    """Watches the words of a segment. One thread calls: `arm` before each look, `tripped` while waiting for the next.

    Looks that it caused are told by `rest`, so that they take a tenth of a CPU at most however often it trips.
    """

    def __init__(self, segment: Segment, wires: Wires, clock: Callable[[], float] = time.monotonic) -> None:
        self._segment = segment
        self._wires = wires
        self._clock = clock
        self._hot = segment.slots["hot"]
        self._owner = segment.slots["owner"]
        self._rings = segment.slots["ring"]
        self._capacity = segment.layout.capacity
        self._resting_until = -float("inf")
        self.arm()

    def arm(self) -> None:
        """Remember how things are: what comes from here on trips it. Call it before the snapshot is taken."""
        self._counts = self._counted()
        self._heads: NDArray[np.uint64] = self._hot["head"].copy()
        self._dead = self._dead_slots()

    def rest(self, cost: float) -> None:
        """A look that the tripwire caused took so many seconds: no other for as long as keeps the share."""
        self._resting_until = self._clock() + max(_SHORTEST, cost / _SHARE)

    def tripped(self) -> bool:
        """Whether something happened that may matter to a rule."""
        if self._clock() < self._resting_until:
            return False
        return (
            self.found_death()
            or self._counted() != self._counts
            or (self._wires.slower_than is not None and self._slow(self._wires.slower_than))
        )

    def found_death(self) -> bool:
        """Whether a worker died: whoever leads reaps it, and then knows more."""
        return self._wires.deaths and self._dead_slots() != self._dead

    def _counted(self) -> tuple[int, int]:
        errors = int(self._hot["errors"].sum()) if self._wires.errors else 0
        return errors, int(self._hot["cache_misses"].sum()) if self._wires.misses else 0

    def _slow(self, limit: float) -> bool:
        """Whether a worker has recorded a slow request since `arm`, or since the last poll."""
        heads = self._hot["head"].copy()
        changed = np.flatnonzero(heads != self._heads).tolist()
        known, self._heads = self._heads, heads
        for slot in changed:
            head = int(heads[slot])
            count = min(_NEWEST, (head - int(known[slot])) % 2**64, self._capacity)
            rows = self._rings[slot][np.arange(head - count, head) % self._capacity]
            with np.errstate(all="ignore"):
                total = rows["inference_time"] + rows["preprocessing_time"] + rows["quantization_time"]
                if (total > limit).any():
                    self._heads = known  # it stays tripped until somebody looks
                    return True
        return False

    def _dead_slots(self) -> frozenset[int]:
        """Slots whose owner is gone and that nobody has reaped yet."""
        if not self._wires.deaths:
            return frozenset()
        claimed = np.flatnonzero(self._owner["state"] == CLAIMED).tolist()
        try:
            descriptor = self._segment.descriptor
        except OSError:  # closed, or no descriptors left: the next look says more
            return frozenset()
        return frozenset(slot for slot in claimed if not is_locked(descriptor, slot_byte(slot)))
