"""Folding: what a slot's owner does with its records every FOLD_BATCH of them, so that none has to be kept.

The new records are added to the inactive one of the slot's two folded copies, which `fold`, one word, then makes the
active one: a SIGKILL at any instruction leaves the state before or the state after.
"""

from __future__ import annotations

from collections.abc import Callable

from shmetrics import slots
from shmetrics.arrays import np
from shmetrics.folded import Area
from shmetrics.layout import FOLD_RESERVE, FOLDED, OWNER, RECORD, offset_of
from shmetrics.records import Buffer, between
from shmetrics.segment import Segment
from shmetrics.slots import FOLD, Claim
from shmetrics.strict import Words


class Folding:
    """Folds the records of one slot. Its owner's `Writer` alone calls, with the write token."""

    def __init__(self, segment: Segment, claim: Claim, words: Words, clock: Callable[[], float]) -> None:
        self.owner = slots.owner_of(segment, claim.slot)
        self._segment = segment
        self.claim = claim
        self._words = words
        self._clock = clock
        at = offset_of(OWNER, "heartbeat")
        self._heartbeat = segment.part(claim.slot, "owner")[at : at + 8].cast("d")
        self._ring = segment.part(claim.slot, "ring")
        copies, size = segment.part(claim.slot, "folded"), FOLDED.itemsize
        self._copies = Area(copies[:size]), Area(copies[size : 2 * size])
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
            self._add_rows(target, between(self._ring, folded, head))
            words[FOLD] = (head << 1) | (1 - active)
        finally:
            if held and guard is not None:
                guard.release()
        self._heartbeat[0] = self._clock()  # as `beat`, without the call
        self.invalid = target.invalid_records > 0
        return True

    def beat(self) -> None:
        """Store that the owner goes on, in one instruction. Any thread may call, without the token.

        Where the slot is given up at that very moment, whoever claims it next has just begun, and so loses nothing.
        """
        self._heartbeat[0] = self._clock()

    def _add_rows(self, target: Area, records: Buffer) -> None:
        """Add records to a copy."""
        target.folded.add_rows(np.frombuffer(records, RECORD))
