"""Copies of slots: one attempt to bring home a consistent copy of each of some slots, all at once.

Nothing read is trusted: indices are masked, counts are checked, a slot that cannot be right is reported and skipped.

Why the copies are right without a lock. The owner stores a record first and the commit word after it, so every row
before ``head`` is whole. Rows are overwritten oldest first: with ``h2`` the commit word *after* the copy, the owner may
just be storing record ``h2`` over row ``h2 - capacity``, so exactly the rows above that are untouched. The folded copy
that ``fold`` names is written to again only by the fold after the next, and by then ``fold`` has changed.

Why all at once. A numpy call costs as much for one slot as for sixty-four. Each step of the protocol is taken for every
slot before the next step is, in the order that it has for a single one: what lies between "before" and "after" is only
longer, a millisecond or so, and a slot that changes in it is copied again by itself. C, where it is used
(`in_c/copies.c`), takes the same steps slot by slot, so that what it copies is checked and added to while it is in the
cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shmetrics import exemplars, native
from shmetrics.arrays import np
from shmetrics.cells import Cells
from shmetrics.families import Exemplar
from shmetrics.folded import Areas, Folded, Kept, Rows, flaws, no_rows
from shmetrics.layout import (
    BOARD,
    CLAIMED,
    EXEMPLAR,
    EXEMPLARS,
    FOLDED,
    FREE,
    HEADER,
    OWNER,
    RECORD,
    offset_of,
)
from shmetrics.locks import is_locked, slot_byte
from shmetrics.segment import Segment
from shmetrics.slots import BOARD as BOARD_START
from shmetrics.slots import (
    CACHE_HITS,
    CACHE_MISSES,
    DROPPED,
    ERRORS,
    FOLD,
    GENERATION,
    HEAD,
    MOST_EVENTS,
    RING,
    STATE,
    UNCOUNTED,
    Hot,
    hot_flaw,
)
from shmetrics.tails import add_tails

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shmetrics.structs import Struct

CHANGED: Final = "it changed while it was copied"
"""Why there is no copy of a slot: to be tried again."""
HALF_CLAIMED: Final = "it is being claimed, or its claimant died half-way"
"""Why there is none of a FREE slot: it holds nothing that counts."""

_AREA_WORDS: Final = FOLDED.itemsize // 8
_ROW_WORDS: Final = RECORD.itemsize // 8
_EXEMPLAR_WORDS: Final = EXEMPLAR.itemsize // 8
_IDENTITY: Final = tuple(name for name, (_, shape) in OWNER.formats.items() if not shape)
_GARBAGE: Final = offset_of(OWNER, "collections") // 8
"""The first word of the counts, which are the last of an entry."""

_LABELS: Final = offset_of(BOARD, "label") // 8
"""The first word of a board's labels. What is before them says whether there are any."""

native.tell(
    "use_copies",
    state=STATE,
    generation=GENERATION,
    head=HEAD,
    fold=FOLD,
    errors=ERRORS,
    hits=CACHE_HITS,
    misses=CACHE_MISSES,
    dropped=DROPPED,
    uncounted=UNCOUNTED,
    owner=OWNER.itemsize // 8,
    garbage=_GARBAGE,
    board=BOARD_START // 8,
    board_words=BOARD.itemsize // 8,
    labels=_LABELS,
    ring=RING // 8,
    exemplars=EXEMPLARS,
    exemplar_words=_EXEMPLAR_WORDS,
    area_words=_AREA_WORDS,
    lock=slot_byte(0),
    free=FREE,
    claimed=CLAIMED,
    most_events=MOST_EVENTS,
)


class Owner(NamedTuple):
    """Whose slot it is: the fields of ``layout.OWNER``, as they were found."""

    state: int
    generation: int
    pid: int
    start_ticks: int
    guard: int
    claimed_at: float
    ended_at: float
    heartbeat: float
    role: bytes
    garbage: list[int]
    """The four counts of garbage collections, each of all generations."""


def owners_of(entries: NDArray[Any]) -> list[Owner]:
    """What entries of ``layout.OWNER``, private memory of shape (n,), say."""
    words = entries.view(np.uint64).reshape(len(entries), -1)
    identities = entries[list(_IDENTITY)].tolist()  # subarrays would come as arrays, one by one
    garbage: list[list[int]] = words[:, _GARBAGE:].tolist()
    return [Owner._make((*identity, counts)) for identity, counts in zip(identities, garbage, strict=True)]


class SlotCopy(NamedTuple):
    """One slot at one instant. ``rows`` are the last records: the window, the one before it, maybe more."""

    slot: int
    claimed: bool
    alive: bool
    generation: int
    owner: Owner
    hot: Hot
    kept: Kept
    """What was folded, and the rows that were not."""
    first: int
    """Number of the first row."""
    rows: Rows
    board: Any
    """``layout.BOARD``, zero-dimensional; None where no request was ever shown on it."""
    cells: Cells
    """Those of custom metrics, up to the last that the catalog names."""
    exemplars: tuple[Exemplar, ...] = ()
    is_added: bool = False
    """Whether its area is part of the total that its attempt came to."""


class Copier:
    """Makes copies of one hub's slots. Any thread may call, several at once; a read-only mapping will do."""

    def __init__(self, segment: Segment, clock: Callable[[], float]) -> None:
        dims = segment.layout
        self._segment = segment
        self._clock = clock
        self._words: NDArray[np.uint64] = np.ndarray(
            (dims.max_workers, dims.slot.itemsize // 8), np.uint64, segment.memory, dims.slots_offset
        )
        """Every slot as 8-byte words; numpy loads each element of a column whole."""
        self._start = {part: offset_of(dims.slot, part) // 8 for part in ("board", "folded", "cells", "exemplars")}
        self._place = (
            dims.slots_offset // 8,
            dims.slot.itemsize // 8,
            dims.capacity,
            dims.window_size,
            *(self._start[part] for part in ("folded", "cells", "exemplars")),
            offset_of(HEADER, "retired_index") // 8,
            (dims.retired_offset + offset_of(dims.retired, "folded_generation")) // 8,
            dims.retired.itemsize // 8,
        )
        """Where C finds the parts of this hub: in words, but for capacity and window."""
        self._is_native = native.is_used() and not segment.strict

    def used(self) -> list[int]:
        """The slots that were ever claimed."""
        used: list[int] = np.flatnonzero(self._words[:, GENERATION]).tolist()
        return used

    def attempt(self, slots: list[int], extent: int, total: Folded | None = None) -> list[SlotCopy | str]:
        """One attempt at each of these slots, one at least.

        Returns for each a copy, or why there is none: CHANGED, HALF_CLAIMED, or what is impossible about it.
        ``extent``: how many cells of custom metrics to copy. ``total``: what the areas of those that live are added to,
        in the order of ``slots``, where C does it on the way; a copy says whether its own is.
        """
        if not self._is_native:
            return self._attempt(slots, extent)
        found = self._attempt_in_c(slots, extent, total)
        odd = [slot for slot, copy in zip(slots, found, strict=True) if copy is None]
        again = iter(self._attempt(odd, extent) if odd else ())
        return [next(again) if copy is None else copy for copy in found]

    def _attempt_in_c(self, slots: list[int], extent: int, total: Folded | None) -> list[SlotCopy | None]:
        """The same, but that what is odd about a slot is not found out: None for it."""
        segment, count = self._segment, len(slots)
        descriptor = segment.descriptor if (self._words[slots, STATE] == CLAIMED).any() else -1
        boards, cells = np.empty(count, BOARD), np.empty((count, extent))
        found: list[Any] = native.bring(
            slots,
            self._place,
            self._clock,
            descriptor,
            _types(),
            segment.memory,
            boards,
            cells,
            None if total is None else total.area,
        )
        for at, copy in enumerate(found):
            if copy is not None and copy.exemplars is None:  # there are some
                found[at] = copy._replace(exemplars=self._exemplars_of(copy.slot))
        return found

    def _attempt(self, slots: list[int], extent: int) -> list[SlotCopy | str]:
        """The same in Python, and without a total."""
        areas = np.empty(len(slots), FOLDED)
        segment, fence = self._segment, self._segment.fence
        before = self._versions(slots)
        states, generations, folds = before.tolist()
        fence()
        # Now, since by the time the retired area is copied it may know the incarnation that is being claimed.
        retired = segment.retired(segment.retired_index)["folded_generation"][slots].tolist()
        self._copy_areas(slots, folds, areas)
        owners = owners_of(self._copy_part(slots, 0, OWNER, 1)[:, 0])
        boards = self._copy_part(slots, self._start["board"], BOARD, 1)
        cells = self._copy_part(slots, self._start["cells"], np.dtype(np.float64), extent)
        shown = self._copy_exemplars(slots)
        fence()
        hots = self._copy_hot(slots)
        problems = [self._problem(state, hot) for state, hot in zip(states, hots, strict=True)]
        firsts, rows = self._copy_rows(slots, hots, problems)
        fence()
        now = self._clock()
        fence()
        heads, capacity = self._words[slots, HEAD].tolist(), segment.layout.capacity
        impossible = _rows_flaws([latest for _, latest in rows], now) | _areas_flaws(
            areas, [hot.folded for hot in hots], now
        )
        fence()
        has_changed = (self._versions(slots) != before).any(axis=0).tolist()
        has_board = np.any(boards.view(np.uint64)[:, :_LABELS], axis=1).tolist()
        descriptor = segment.descriptor if CLAIMED in states else -1

        found: list[SlotCopy | str] = []
        tails = [no_rows()] * len(slots)
        for at, slot in enumerate(slots):
            state, generation, hot, first = states[at], generations[at], hots[at], firsts[at]
            is_lapped = first <= heads[at] - capacity
            problem = problems[at] or impossible.get(at)
            if state == FREE and generation != retired[at]:
                found.append(HALF_CLAIMED)
            elif has_changed[at] or (is_lapped and problems[at] is None):
                found.append(CHANGED)
            elif problem is not None:
                found.append(HALF_CLAIMED if state == FREE else problem)
            else:
                tails[at] = rows[at][0][hot.folded - first :]
                found.append(
                    SlotCopy(
                        slot=slot,
                        claimed=state == CLAIMED,
                        alive=state == CLAIMED and is_locked(descriptor, slot_byte(slot)),
                        generation=generation,
                        owner=owners[at],
                        hot=hot,
                        kept=areas[at, ...],
                        first=first,
                        rows=rows[at][0],
                        board=boards[at, 0] if has_board[at] else None,
                        cells=cells[at],
                        exemplars=shown[at],
                    )
                )
        add_tails(areas, tails)
        return found

    def _problem(self, state: int, hot: Hot) -> str | None:
        """What is impossible about a state and the hot words beside it, or None."""
        return hot_flaw(hot, self._segment.layout.capacity) if state in (FREE, CLAIMED) else f"its state is {state}"

    def _versions(self, slots: list[int]) -> NDArray[np.uint64]:
        """What tells whether a slot was claimed, freed or folded: states, generations and fold words."""
        return np.array([self._words[slots, word] for word in (STATE, GENERATION, FOLD)])

    def _copy_hot(self, slots: list[int]) -> list[Hot]:
        """The hot words, the commit words first: then the counters count no less than the records do."""
        words = (HEAD, FOLD, ERRORS, CACHE_HITS, CACHE_MISSES, DROPPED, UNCOUNTED)
        return list(map(Hot._make, zip(*(self._words[slots, word].tolist() for word in words), strict=True)))

    def _copy_part(self, slots: list[int], start: int, dtype: Struct | np.dtype[Any], count: int) -> NDArray[Any]:
        """Private copies of `count` elements from a word on: shape (len(slots), count)."""
        words = self._words[slots, start : start + count * dtype.itemsize // 8]
        copy: NDArray[Any] = words.view(dtype) if count else np.empty((len(slots), 0), dtype)
        return copy

    def _copy_areas(self, slots: list[int], folds: list[int], areas: Areas) -> None:
        """Copy what the fold words name. Where they say that nothing was folded yet nothing is looked at."""
        targets = areas.view(np.uint64).reshape(len(slots), _AREA_WORDS)
        for target, slot, fold in zip(targets, slots, folds, strict=True):
            if fold >> 1:
                start = self._start["folded"] + (fold & 1) * _AREA_WORDS
                target[:] = self._words[slot, start : start + _AREA_WORDS]
            else:
                target[:] = 0

    def _copy_exemplars(self, slots: list[int]) -> list[tuple[Exemplar, ...]]:
        start, end = self._start["exemplars"], self._start["exemplars"] + EXEMPLARS * _EXEMPLAR_WORDS
        has_any = np.any(self._words[slots, start:end:_EXEMPLAR_WORDS], axis=1).tolist()
        return [self._exemplars_of(slot) if has else () for slot, has in zip(slots, has_any, strict=True)]

    def _exemplars_of(self, slot: int) -> tuple[Exemplar, ...]:
        start, end = self._start["exemplars"], self._start["exemplars"] + EXEMPLARS * _EXEMPLAR_WORDS
        return exemplars.read(self._words[slot, start:end].view(np.uint8), self._segment.fence)

    def _copy_rows(
        self, slots: list[int], hots: list[Hot], problems: list[str | None]
    ) -> tuple[list[int], list[tuple[Rows, float]]]:
        """Of each slot the number of the first row that is wanted, and all rows from there on as `_copy_ring` has them.

        None where there is a problem.
        """
        window = self._segment.layout.window_size
        firsts = [
            max(0, min(hot.folded, hot.head - window - 1)) if problem is None else hot.head
            for hot, problem in zip(hots, problems, strict=True)
        ]
        rows = [
            self._copy_ring(slot, first, hot.head) if first < hot.head else (no_rows(), -math.inf)
            for slot, first, hot in zip(slots, firsts, hots, strict=True)
        ]
        return firsts, rows

    def _copy_ring(self, slot: int, first: int, head: int) -> tuple[Rows, float]:
        """Rows `first` to `head`, in one piece or two, and the latest of their times."""
        rows, capacity = np.empty(head - first, RECORD), self._segment.layout.capacity
        ring = self._words[slot, RING // 8 :]
        start, count = (first & (capacity - 1)) * _ROW_WORDS, (head - first) * _ROW_WORDS
        upper = min(count, capacity * _ROW_WORDS - start)
        words: NDArray[np.uint64] = np.ndarray((count,), np.uint64, rows)
        words[:upper] = ring[start : start + upper]
        if upper < count:
            words[upper:] = ring[: count - upper]
        return rows, float(np.fmax.reduce(rows["time"]))


def _areas_flaws(areas: Areas, folded: list[int], now: float) -> dict[int, str]:
    """`flaws` of the areas that are not empty."""
    some = [at for at, count in enumerate(folded) if count]
    if len(some) == len(folded):
        return flaws(areas, folded, now)
    if not some:
        return {}
    copies = areas.view(np.uint64).reshape(len(areas), _AREA_WORDS)[some].view(FOLDED)[:, 0]
    found = flaws(copies, [folded[at] for at in some], now)
    return {some[at]: flaw for at, flaw in found.items()}


def _rows_flaws(latest: list[float], now: float) -> dict[int, str]:
    """What is impossible about committed rows: one from the future would hide the seconds of all others."""
    return {at: "a record in its ring is from the future" for at, time in enumerate(latest) if time > now + 1.0}


@cache
def _types() -> tuple[Any, ...]:
    """What C makes of a slot."""
    return SlotCopy, Owner, Hot, np.ndarray, RECORD.dtype
