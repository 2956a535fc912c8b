"""The reader: the whole fleet brought home while the workers go on writing.

Any process may read; a read-only mapping will do. Nothing waits long: all guards together for 5 ms at most, and a slot
that changes under our eyes is copied again a bounded number of times.

The first attempt is at all slots at once, and without any guard: what a copy rests on are the commit word and the fold
word (`copies`), and it seldom happens that a worker folds in just that millisecond. A slot that did change is copied
again by itself, now with its guard, which keeps its owner from folding meanwhile. So reading makes no system calls for
guards as a rule, and no worker ever finds its guard busy but in the wake of a fold of its own.

Why slots come before the retired area. A slot that is reaped between the two copies is in both, and
``folded_generation``, part of the retired copy, says so; it is then counted once. In the other order it would be in
neither, and a total would have gone down.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from shmetrics import guards, naming
from shmetrics.arrays import np
from shmetrics.catalog import Catalog
from shmetrics.cells import Plan
from shmetrics.copies import CHANGED, HALF_CLAIMED, Copier, SlotCopy
from shmetrics.folded import Folded, flaw
from shmetrics.layout import CLAIMED, HEADER, Layout
from shmetrics.obituaries import Obituaries
from shmetrics.obituary import Obituary
from shmetrics.segment import Segment
from shmetrics.slots import GUARD, STATE, words_of
from shmetrics.structs import Struct

GUARD_PATIENCE: Final = 0.005
"""Seconds that one read waits for guards, all together."""
RETIRED_PATIENCE: Final = 0.003
"""Seconds that one read tries to copy the retired area."""
_ATTEMPTS: Final = 5
_RETIRED_ATTEMPTS: Final = 50
_RETIRED_COUNTERS: Final = ("requests", "errors", "cache_hits", "cache_misses", "dropped", "incarnations")
_MOST_COUNTED: Final = 1 << 63
"""From here on a counter of the retired area might wrap round when the next slot is added."""


class CorruptError(Exception):
    """The retired area holds what no correct writer stores. Internal: it ends up as a count, and in words."""


@dataclass(frozen=True)
class HubCopy:
    """All that one read brought home."""

    name: str
    layout: Layout
    taken_at: float
    """Monotonic seconds."""
    taken_at_wall: float
    unlinked: bool
    header: Any
    slots: list[SlotCopy]
    total: Folded
    """The areas of those slots whose copy says so, in their order, added together."""
    retired: Any
    """The good retired copy, or the last one that could be believed; None when it kept changing."""
    stale: list[int]
    """Slots that changed faster than they could be copied."""
    flaws: dict[str, str]
    """What was found corrupt: "slot 3" or "retired area", and why."""
    plan: Plan
    """The catalog, as it was before any slot was copied, and what it makes of the cells."""
    refused_series: int
    obituaries: tuple[Obituary, ...]
    seconds_waited: float
    """Seconds spent waiting for guards."""


class _Slots(NamedTuple):
    """What one read found in the slots; see `HubCopy`."""

    copies: list[SlotCopy]
    total: Folded
    stale: list[int]
    flaws: dict[str, str]
    seconds_waited: float


class Reader:
    """Reads one hub. Any thread may call `read`, several at once."""

    def __init__(
        self,
        segment: Segment,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segment = segment
        self._clock = clock
        self._sleep = sleep
        self._prefix = naming.semaphore_prefix(segment.name, segment.instance)
        self._copier = Copier(segment, clock)
        self._good_retired: Any = np.zeros((), segment.layout.retired)
        self._catalog = Catalog(segment)
        self._obituaries = Obituaries(segment)
        self._plan = Plan(self._catalog.contents())

    def read(self) -> HubCopy:
        """Copy every slot that was ever used, then the retired area."""
        contents = self._catalog.contents()
        if contents is not self._plan.contents:
            self._plan = Plan(contents, self._plan)
        plan = self._plan
        slots = self._read_slots(plan.extent)
        flaws = dict(slots.flaws)
        try:
            retired = self._read_retired()
            if retired is not None:
                self._good_retired = retired
                flaws |= self._generation_flaws(retired)
        except CorruptError as error:
            flaws["retired area"] = str(error)
            retired = self._good_retired
        if plan.contents.flaws:
            flaws["catalog"] = "; ".join(plan.contents.flaws[:3])
        return HubCopy(
            name=self._segment.name,
            layout=self._segment.layout,
            taken_at=self._clock(),
            taken_at_wall=time.time(),
            unlinked=self._segment.is_unlinked,
            header=self._copy(0, HEADER),
            slots=slots.copies,
            total=slots.total,
            stale=slots.stale,
            retired=retired,
            flaws=flaws,
            plan=plan,
            refused_series=self._catalog.refused,
            obituaries=self._obituaries.read(),
            seconds_waited=slots.seconds_waited,
        )

    def _read_slots(self, extent: int) -> _Slots:
        """Every slot that was ever used. ``extent``: how many cells of custom metrics to copy."""
        used = self._copier.used()
        total, waited = Folded(), 0.0
        found = self._copier.attempt(used, extent, total) if used else []
        for at, slot in enumerate(used):
            if isinstance(found[at], str) and found[at] != HALF_CLAIMED:
                guard, wait = self._hold_guard(slot, GUARD_PATIENCE - waited)
                waited += wait
                try:
                    found[at] = self._insist(slot, extent, str(found[at]))
                finally:
                    if guard is not None:
                        guard.release()
                        guard.close()
        copies = [copy for copy in found if isinstance(copy, SlotCopy)]
        failed = {slot: copy for slot, copy in zip(used, found, strict=True) if isinstance(copy, str)}
        return _Slots(
            copies,
            total,
            [slot for slot, why in failed.items() if why == CHANGED],
            {f"slot {slot}": why for slot, why in failed.items() if why not in (CHANGED, HALF_CLAIMED)},
            waited,
        )

    def _insist(self, slot: int, extent: int, problem: str) -> SlotCopy | str:
        """What comes of the attempts that are left at one slot; `problem` came of the first.

        What was impossible once is said to be so, unless a copy succeeds.
        """
        for _ in range(_ATTEMPTS - 1):
            (copy,) = self._copier.attempt([slot], extent)
            if isinstance(copy, SlotCopy) or copy == HALF_CLAIMED:
                return copy
            problem = problem if copy == CHANGED else copy
        return problem

    def _hold_guard(self, slot: int, patience: float) -> tuple[guards.Semaphore | None, float]:
        """The slot's guard, acquired, or None when it is not to be had in time; and the seconds that took."""
        words = words_of(self._segment, slot)
        if words[STATE] != CLAIMED:
            return None, 0.0
        guard = guards.open_existing(guards.guard_name(self._prefix, slot, words[GUARD]))
        if guard is None:
            return None, 0.0
        if guard.try_acquire():
            return guard, 0.0
        start = self._clock()
        if patience > 0 and guard.acquire(patience, self._clock, self._sleep):
            return guard, self._clock() - start
        guard.close()
        return None, self._clock() - start

    def _generation_flaws(self, retired: Any) -> dict[str, str]:
        """The slots of which a later incarnation is retired than there ever was: generations only grow."""
        known = self._segment.slots["owner"]["generation"]
        folded = retired["folded_generation"]
        return {
            f"slot {slot}": f"its incarnation {folded[slot]} is retired, but it has had only {known[slot]}"
            for slot in np.flatnonzero(folded > known).tolist()
        }

    def _copy(self, offset: int, struct: Struct) -> Any:
        """A private copy of one element at a byte offset: as bytes, which costs one memcpy."""
        return self._segment.raw[offset : offset + struct.itemsize].copy().view(struct)[0]

    def _read_retired(self) -> Any:
        """A copy of the good retired area, or None when it was flipped under our eyes for RETIRED_PATIENCE.

        While one copy is read the other is written, so the first try mostly does; and a reap takes ten times as long.
        """
        segment = self._segment
        size = segment.layout.retired.itemsize
        deadline = self._clock() + RETIRED_PATIENCE
        for attempt in itertools.count():
            index = segment.retired_index
            segment.fence()
            copy = self._copy(segment.layout.retired_offset + (index & 1) * size, segment.layout.retired)
            segment.fence()
            if segment.retired_index == index:
                folded = copy["folded"]
                records = int(folded["valid"]) + int(folded["invalid"])
                problem = flaw(folded, records, self._clock()) or _counters_flaw(copy, records)
                if problem is not None:
                    raise CorruptError(problem)
                return copy
            if attempt > _RETIRED_ATTEMPTS and self._clock() > deadline:
                return None
        raise AssertionError("unreachable")


def _counters_flaw(retired: Any, records: int) -> str | None:
    """What is impossible about the counters of a retired area in which so many records are folded, or None."""
    requests, *others = (int(retired[name]) for name in _RETIRED_COUNTERS)
    if not records <= requests < _MOST_COUNTED or max(others) >= _MOST_COUNTED:
        return "its counters are out of range"
    return None
