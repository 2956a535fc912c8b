"""The reader: a copy of every slot, each consistent in itself, taken while the workers go on writing.

Any process may read; a read-only mapping will do. Nothing read is trusted: indices are masked, counts are checked, a
slot that cannot be right is reported and skipped. Nothing waits long: all guards together for 5 ms at most, and a slot
that changes under our eyes is copied again a bounded number of times.

Why the copies are right without a lock. The owner stores a record first and the commit word after it, so every row
before ``head`` is whole. Rows are overwritten oldest first: with ``h2`` the commit word *after* the copy, the owner may
just be storing record ``h2`` over row ``h2 - capacity``, so exactly the rows above that are untouched. The folded copy
that ``fold`` names is written to again only by the fold after the next, and by then ``fold`` has changed.

Why slots come before the retired area. A slot that is reaped between the two copies is in both, and
``folded_generation``, part of the retired copy, says so; it is then counted once. In the other order it would be in
neither, and a total would have gone down.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics import exemplars, guards, naming, slots
from shmetrics.catalog import Catalog
from shmetrics.cells import Cells, Plan
from shmetrics.families import Exemplar
from shmetrics.folded import Rows, bytes_of, flaw
from shmetrics.layout import (
    BOARD_ENTRY,
    BOARD_SIZE,
    CLAIMED,
    EXEMPLAR,
    EXEMPLARS,
    FOLDED,
    FREE,
    HEADER,
    OWNER,
    RECORD,
    Layout,
    offset_of,
)
from shmetrics.segment import Segment
from shmetrics.slots import BOARD, FOLD, GENERATION, GUARD, HEAD, RING, STATE, Hot, hot_flaw, read_hot
from shmetrics.strict import Words

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
    """A part of the segment holds what no correct writer stores. Internal: it ends up as a count, and in words."""


class HalfClaimedError(Exception):
    """A FREE slot that is being claimed, or whose claimant died half-way. Internal: it holds nothing that counts."""


class UnsteadyError(Exception):
    """A slot changed during every attempt to copy it. Internal: its last good copy is shown instead."""


@dataclass(frozen=True)
class SlotCopy:
    """One slot at one instant. ``rows`` are the records `first` to `head`: the window, the one before it, the tail."""

    slot: int
    claimed: bool
    alive: bool
    generation: int
    owner: Any
    hot: Hot
    folded: NDArray[np.void]
    first: int
    rows: Rows
    in_flight: NDArray[np.void]
    cells: Cells
    """Those of custom metrics, up to the last that the catalog names."""
    exemplars: tuple[Exemplar, ...] = ()


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
    areas: NDArray[np.void]
    """FOLDED, shape (1 + len(slots),): room for the retired area, then the folded copy of each slot."""
    retired: Any
    """The good retired copy, or the last one that could be believed; None when it kept changing."""
    stale: list[int]
    """Slots that changed faster than they could be copied."""
    flaws: dict[str, str]
    """What was found corrupt: "slot 3" or "retired area", and why."""
    plan: Plan
    """The catalog, as it was before any slot was copied, and what it makes of the cells."""
    refused_series: int
    seconds_waited: float
    """Seconds spent waiting for guards."""


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
        self._words: list[Words] = [slots.words_of(segment, slot) for slot in range(segment.layout.max_workers)]
        self._good_retired: Any = np.zeros((), segment.layout.retired)
        self._catalog = Catalog(segment)
        self._plan = Plan(self._catalog.contents())
        self._cells_at, self._exemplars_at = (offset_of(segment.layout.slot, part) for part in ("cells", "exemplars"))

    def read(self) -> HubCopy:
        """Copy every slot that was ever used, then the retired area."""
        flaws: dict[str, str] = {}
        copies: list[SlotCopy] = []
        stale: list[int] = []
        waited = 0.0
        contents = self._catalog.contents()
        if contents is not self._plan.contents:
            self._plan = Plan(contents)
        plan = self._plan
        used = np.flatnonzero(self._segment.slots["owner"]["generation"]).tolist()
        areas = np.empty(1 + len(used), FOLDED)
        for slot in used:
            guard, wait = self._hold_guard(slot, GUARD_PATIENCE - waited)
            waited += wait
            try:
                copies.append(self._read_slot(slot, areas[1 + len(copies), ...]))
            except CorruptError as error:
                flaws[f"slot {slot}"] = str(error)
            except UnsteadyError:
                stale.append(slot)
            except HalfClaimedError:
                continue
            finally:
                if guard is not None:
                    guard.release()
                    guard.close()
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
            header=self._copy(0, HEADER)[0],
            slots=copies,
            areas=areas[: 1 + len(copies)],
            stale=stale,
            retired=retired,
            flaws=flaws,
            plan=plan,
            refused_series=self._catalog.refused,
            seconds_waited=waited,
        )

    def _hold_guard(self, slot: int, patience: float) -> tuple[guards.Semaphore | None, float]:
        """The slot's guard, acquired, or None when it is not to be had in time; and the seconds that took."""
        if self._words[slot][STATE] != CLAIMED:
            return None, 0.0
        guard = guards.open_existing(guards.guard_name(self._prefix, slot, self._words[slot][GUARD]))
        if guard is None:
            return None, 0.0
        if guard.try_acquire():
            return guard, 0.0
        start = self._clock()
        if patience > 0 and guard.acquire(patience, self._clock, self._sleep):
            return guard, self._clock() - start
        guard.close()
        return None, self._clock() - start

    def _read_slot(self, slot: int, area: NDArray[np.void]) -> SlotCopy:
        """A good copy of a slot, its folded data in `area`; CorruptError or UnsteadyError where there is none."""
        problem = None
        for _ in range(_ATTEMPTS):
            copy = self._try_slot(slot, area)
            if isinstance(copy, SlotCopy):
                return copy
            problem = copy or problem
        raise UnsteadyError if problem is None else CorruptError(problem)

    def _try_slot(self, slot: int, area: NDArray[np.void]) -> SlotCopy | str | None:
        """One attempt: a copy, or what is impossible about the slot, or None when it changed meanwhile."""
        segment, words, fence = self._segment, self._words[slot], self._segment.fence
        dims, base = segment.layout, segment.slot_offset(slot)
        before = (words[STATE], words[GENERATION], words[FOLD])
        fence()
        if before[0] == FREE and before[1] != segment.retired_generation(slot):
            raise HalfClaimedError  # now, since by the time the retired area is copied it may know this incarnation
        at = base + offset_of(dims.slot, "folded") + (before[2] & 1) * FOLDED.itemsize
        bytes_of(area)[:] = segment.raw[at : at + FOLDED.itemsize]
        owner = self._copy(base, OWNER)[0]
        in_flight = self._copy(base + BOARD, BOARD_ENTRY, BOARD_SIZE)
        own_cells = self._copy(base + self._cells_at, np.dtype(np.float64), self._plan.extent)
        start = base + self._exemplars_at
        found = exemplars.read(segment.raw[start : start + EXEMPLARS * EXEMPLAR.itemsize], fence)
        fence()
        hot = read_hot(words)
        problem = hot_flaw(hot, dims.capacity)
        if before[0] not in (FREE, CLAIMED):
            problem = f"its state is {before[0]}"
        first, rows = 0, np.empty(0, RECORD)
        if problem is None:
            first = max(0, min(hot.folded, hot.head - dims.window_size - 1))
            rows = self._copy_ring(base + RING, first, hot.head)
            fence()
            if first <= words[HEAD] - dims.capacity:
                return None
            problem = flaw(area, hot.folded, self._clock()) or _rows_flaw(rows, self._clock())
        fence()
        if (words[STATE], words[GENERATION], words[FOLD]) != before:
            return None
        if problem is not None and before[0] == FREE:
            raise HalfClaimedError
        if problem is not None:
            return problem
        return SlotCopy(
            slot=slot,
            claimed=before[0] == CLAIMED,
            alive=before[0] == CLAIMED and slots.is_alive(segment, slot),
            generation=before[1],
            owner=owner,
            hot=hot,
            folded=area,
            first=first,
            rows=rows,
            in_flight=in_flight[in_flight["start"] > 0.0],
            cells=own_cells,
            exemplars=found,
        )

    def _generation_flaws(self, retired: Any) -> dict[str, str]:
        """The slots of which a later incarnation is retired than there ever was: generations only grow."""
        known = self._segment.slots["owner"]["generation"]
        folded = retired["folded_generation"]
        return {
            f"slot {slot}": f"its incarnation {folded[slot]} is retired, but it has had only {known[slot]}"
            for slot in np.flatnonzero(folded > known).tolist()
        }

    def _copy(self, offset: int, dtype: np.dtype[Any], count: int = 1) -> NDArray[Any]:
        """A private copy of `count` elements at a byte offset: as bytes, which costs one memcpy."""
        copy: NDArray[Any] = self._segment.raw[offset : offset + count * dtype.itemsize].copy().view(dtype)
        return copy

    def _copy_ring(self, offset: int, first: int, head: int) -> Rows:
        """Rows `first` to `head` of the ring that starts at a byte offset: in one piece or two."""
        size, capacity = RECORD.itemsize, self._segment.layout.capacity
        start, count = first & (capacity - 1), head - first
        upper = min(count, capacity - start)
        rows = np.empty(count * size, np.uint8)
        at = offset + start * size
        rows[: upper * size] = self._segment.raw[at : at + upper * size]
        rows[upper * size :] = self._segment.raw[offset : offset + (count - upper) * size]
        return rows.view(RECORD)

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
            copy = self._copy(segment.layout.retired_offset + (index & 1) * size, segment.layout.retired)[0]
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


def _rows_flaw(rows: Rows, now: float) -> str | None:
    """What is impossible about committed rows, or None: one from the future would hide the seconds of all others."""
    late = bool((rows["time"] > now + 1.0).any())
    return "a record in its ring is from the future" if late else None


def _counters_flaw(retired: Any, records: int) -> str | None:
    """What is impossible about the counters of a retired area in which so many records are folded, or None."""
    requests, *others = (int(retired[name]) for name in _RETIRED_COUNTERS)
    if not records <= requests < _MOST_COUNTED or max(others) >= _MOST_COUNTED:
        return "its counters are out of range"
    return None
