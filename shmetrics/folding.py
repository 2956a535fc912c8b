"""Folding: what a slot's owner does with its records every FOLD_BATCH of them, so that none has to be kept.

The new records are added to the inactive one of the slot's two folded copies, which `fold`, one word, then makes the
active one: a SIGKILL at any instruction leaves the state before or the state after.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from shmetrics import slots
from shmetrics.folded import Folded, Rows
from shmetrics.layout import FOLD_RESERVE
from shmetrics.segment import Segment
from shmetrics.slots import FOLD, Claim
from shmetrics.strict import Words


class Folding:
    """Folds the records of one slot. Its owner's `Writer` alone calls, with the write token."""

    def __init__(self, segment: Segment, claim: Claim, words: Words, clock: Callable[[], float]) -> None:
        part = segment.slots[claim.slot]
        self.owner = part["owner"]
        self._segment = segment
        self.claim = claim
        self._words = words
        self._clock = clock
        self._heartbeat: NDArray[np.float64] = segment.slots["owner"]["heartbeat"][claim.slot : claim.slot + 1]
        self._rows: Rows = part["ring"]
        self._copies = [Folded(part["folded"][copy, ...]) for copy in (0, 1)]
        self._capacity = segment.layout.capacity
        self.invalid = False
        """Whether any measurement was unusable so far."""

    def fold(self, head: int, fold: int) -> bool:
        """Fold the records since the last fold; whether it did, or put it off for a reader that has the guard.

        It puts it off only while the ring has room. ``head``, ``fold``: the two words, checked.
        """
        words, guard = self._words, self.claim.guard
        folded, active = fold >> 1, fold & 1
        held = guard is not None and guard.try_acquire()
        try:
            if guard is not None and not held:
                slots.heed_busy_guard(self._segment, self.claim, words, self._clock())
                if head - folded < self._capacity - FOLD_RESERVE:
                    return False
            else:
                self.claim.guard_busy_since = None
            target = self._copies[1 - active]
            target.copy_from(self._copies[active])
            self._add_rows(target, self._rows_between(folded, head))
            words[FOLD] = (head << 1) | (1 - active)
        finally:
            if held and guard is not None:
                guard.release()
        self._heartbeat[0] = self._clock()
        self.invalid = bool(target.invalid)
        return True

    def _add_rows(self, target: Folded, rows: Rows) -> None:
        """Add records to a copy."""
        target.add_rows(rows)

    def _rows_between(self, first: int, end: int) -> Rows:
        """Rows `first` to `end` of the ring: a view where they do not wrap around, which is nearly always."""
        mask = self._capacity - 1
        start, count = first & mask, end - first
        rows: Rows = self._rows[start : start + count]
        if start + count > self._capacity:
            rows = self._rows[np.arange(first, end) & mask]
        return rows
