"""The writer: how one worker process records, without a system call and without waiting for any other process.

A record goes to ``ring[head & mask]`` and becomes real by storing ``head + 1``, the commit word. Every FOLD_BATCH
records the owner folds what is new into the inactive folded copy and flips ``fold``, one word that says both how many
records are folded and which copy is good. So a SIGKILL at any instruction leaves the state before or the state after.

Until the first write in a process there is no slot: a module-level object made before a fork works in every child. And
when no slot is to be had, the same code writes to a private slot of the same shape, whose records move to the shared
one when it comes. Its path of a request is there once more in C (`native`).
"""

from __future__ import annotations

import mmap
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from shmetrics import forks, slots
from shmetrics.arrays import np
from shmetrics.board import Board
from shmetrics.claimant import Claimant
from shmetrics.exclusion import WriteToken, takes_token, token_was_out
from shmetrics.exemplars import Exemplars
from shmetrics.folded import Rows
from shmetrics.folding import Folding
from shmetrics.forks import ForkedError
from shmetrics.garbage import Garbage
from shmetrics.layout import CLAIMED, FOLD_BATCH, FOLD_RESERVE, RECORD, offset_of
from shmetrics.notices import Notices
from shmetrics.process import Identity, current_identity
from shmetrics.records import SHIFT, between, check_numbers, pack_into
from shmetrics.segment import Segment
from shmetrics.slots import (
    BOARD,
    CACHE_HITS,
    CACHE_MISSES,
    DROPPED,
    ERRORS,
    FOLD,
    GENERATION,
    HEAD,
    RING,
    STATE,
    UNCOUNTED,
    Claim,
)
from shmetrics.strict import Words

_INVALID: Final = "some measurements were NaN, infinite or negative; they are counted as invalid_records"
_SURE_TO_HAVE_IT: Final = sys.version_info >= (3, 11)


def private_memory(size: int) -> memoryview[int]:
    """So many bytes of 0, of this process alone; pages come when they are touched."""
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Writer:
    """Writes one process's slot of a hub. Any thread, greenlet or signal handler of the process may call any method.

    Nothing here raises for want of resources: records that find no room are counted.
    """

    board_class = Board
    """What shows its requests in flight."""
    folding_class = Folding
    """What folds its records."""

    def __init__(
        self,
        segment: Segment,
        *,
        role: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        identity: Callable[[str | None], Identity] = current_identity,
    ) -> None:
        self._segment = segment
        self._clock = clock
        self._capacity = segment.layout.capacity
        self._mask = self._capacity - 1
        self._ring_bytes = RECORD.itemsize * self._capacity
        self._closed = False
        self._advancing = False
        self._cells_at, self._exemplars_at = (offset_of(segment.layout.slot, part) for part in ("cells", "exemplars"))
        self.exemplars = Exemplars(time.time)
        self._garbage = Garbage()
        self._notices = Notices(segment.name)
        self.claimant = Claimant(segment, partial(identity, role), clock, self._notices)
        if self.folding_class is Folding:
            _ = np.ndarray  # numpy is there from now on: Python folds with it, and no request waits for that
        self._folding: Folding | None = None  # of this process's slot
        self._taken: Claim | None = None  # a slot that is being moved into
        self._memory = memoryview(b"")
        self._views: tuple[Words | memoryview[Any], ...] = ()
        self._board = self.board_class(clock)
        self.enter, self.relabel, self.leave = self._board.enter, self._board.relabel, self._board.leave
        self._renew_token()
        self._leave_slot()
        forks.register(self)

    # The path of a request --------------------------------------------------------------------------------------------
    # What is called and is no method of its object is fetched first, into a variable: CPython 3.11 would look for a
    # method of that name in every class, at each call (some 200 instructions of the 10,000 of a record).

    @takes_token
    def record(
        self,
        inference_time: float,
        batch_size: float = 1,
        preprocessing_time: float = 0.0,
        quantization_time: float = 0.0,
    ) -> None:
        """Commit one record. Times in seconds. Raises TypeError for what is not a number, and nothing else.

        NaN, infinite and negative values are stored as they are and filtered when records are folded and read.
        """
        while True:
            take, give, clock = self.take, self.give, self._clock
            try:
                take()
                words = self._words
                head = words[HEAD]
                if head >= self._advance_at:
                    self._advance(give)
                    words = self._words
                    head = words[HEAD]
                pack_into(
                    self._ring,
                    (head & self._mask) << SHIFT,
                    clock(),
                    inference_time,
                    batch_size,
                    preprocessing_time,
                    quantization_time,
                    words[ERRORS],
                    words[CACHE_HITS],
                    words[CACHE_MISSES],
                )
                words[HEAD] = head + 1
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                args = (inference_time, batch_size, preprocessing_time, quantization_time)
                if self.recover(error, give, self.record, args, check=check_numbers):
                    continue
                return
            give(None)
            if self.pending:
                self.perform_pending()
            return

    @takes_token
    def add(self, word: int, amount: int) -> None:
        """Add to a counter: ``word`` is ERRORS, CACHE_HITS, CACHE_MISSES or UNCOUNTED, ``amount`` an int >= 0."""
        while True:
            take, give = self.take, self.give
            try:
                take()
                if self._folding is None:
                    self._advance(give)
                try:
                    self._words[word] += amount
                except ValueError:  # past 64 bits: no counting leads there, the word was overwritten
                    self._lose_slot()
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if self.recover(error, give, self.add, (word, amount)):
                    continue
                return
            give(None)
            if self.pending:
                self.perform_pending()
            return

    @takes_token
    def perform(self, change: Callable[..., object], *args: Any) -> None:
        """Call ``change(*args)`` with a slot, if one is to be had, and with no other write of this process under way.

        ``change`` is short, writes to `cells`, and may be called later: after the write that this one interrupts.
        """
        while True:
            take, give = self.take, self.give
            try:
                take()
                self.seek_slot(give)
                change(*args)
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if self.recover(error, give, self.perform, (change, *args)):
                    continue
                return
            give(None)
            if self.pending:
                self.perform_pending()
            return

    # The rest ---------------------------------------------------------------------------------------------------------

    @property
    def slot(self) -> int | None:
        """The number of this process's slot; None before the first write."""
        return None if self._folding is None else self._folding.claim.slot

    @property
    def committed(self) -> int:
        """Records this process has committed since it claimed its slot."""
        return self._words[HEAD]

    @property
    def total(self) -> int:
        """Requests this process has counted since it claimed its slot."""
        return self._words[HEAD] + self._words[UNCOUNTED]

    def latest(self, count: int) -> Rows:
        """This process's last `count` records at most, oldest first: a copy."""
        return np.frombuffer(self._latest(count), RECORD)

    def _latest(self, count: int) -> bytearray:
        """The same, one after the other."""
        head = self._words[HEAD]
        start = max(0, head - min(count, self._capacity - 1))
        records = bytearray(between(self._ring, start, head))
        overwritten = self._words[HEAD] - self._capacity + 1 - start  # by other threads while we copied
        return records[max(0, overwritten) << SHIFT :]

    def claim(self, patience: float | None = None) -> bool:
        """Take a slot now rather than at the first write; whether there is one.

        ``patience``: seconds to wait at most; CLAIM_PATIENCE the first time, and later none, unless given.
        """
        for _ in self.claimant.tries(patience):
            self.add(UNCOUNTED, 0)
        return self._folding is not None

    def close(self, patience: float = 0.0) -> None:
        """Give the slot up. What waits for one gets a last chance, for so many seconds; what comes later is dropped."""
        if self._folding is None and (any(self._counts()) or any(self.cells)):
            self.claim(patience)
        self._exclusively(self._close)

    def warn_of_invalid(self) -> None:
        """Say once that measurements were unusable."""
        self.mention("invalid", _INVALID)

    def after_fork_in_child(self) -> None:
        """Forget the parent's slot, its liveness lock and its threads. Called by `forks`.

        The views of the parent's slot are released, so that a write which the fork itself interrupted (a signal handler
        that forks and returns) cannot go on in it; it ends quietly, since the parent goes on with the same one.
        """
        views = self._views
        self._garbage.begin()
        self._renew_token()
        self._leave_slot()
        for view in views:
            with suppress(BufferError):  # an array is made of it: the fork interrupted `latest`, which only reads
                view.release()

    @takes_token
    def _exclusively(self, action: Callable[[], None]) -> None:
        """Do something rare with no write of this process under way."""
        while True:
            take, give = self.take, self.give
            try:
                take()
                action()
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                if self.recover(error, give, self._exclusively, (action,)):
                    continue
                return
            give(None)
            if self.pending:
                self.perform_pending()
            return

    def recover(
        self,
        error: BaseException,
        give: Callable[[None], None],
        write: Callable[..., object],
        args: tuple[Any, ...],
        *,
        check: Callable[[tuple[Any, ...]], None] | None = None,
    ) -> bool:
        """What a write does in the ``except`` round its `take` and its stores: whether to begin it again.

        Where it is not, it was queued for the write that it interrupts, or belongs to the parent, which completes it: a
        fork in the middle of it renews ``give``. Anything else raises the error again, and nothing of the write counts.
        ``check``: raises the TypeError for arguments that a packer refuses, and that must not be queued.

        Since CPython 3.11 signal handlers run after a call and never before one, so an exception in a write's ``try``
        means that the token was taken. Before, it may also have come just ahead of the pop: then a lost token, which is
        made anew in half a second, is the lesser evil, save for the errors that only a write under way can raise.
        """
        if token_was_out(error):
            if self.token.wait(self._progress, above=2):
                return True
            if check is not None:
                check(args)
            self.pending.append((write, args))
            return False
        if _SURE_TO_HAVE_IT or isinstance(error, struct.error | OverflowError):
            self._advancing = False  # where a second interrupt kept `_advance` from it
            give(None)
        if self.pending:
            self.perform_pending()
        if give is not self.give and isinstance(error, ForkedError | ValueError | TypeError):
            return False
        if check is not None and isinstance(error, struct.error):
            check(args)
        try:
            raise error
        finally:  # its traceback has this frame: that cycle would keep what the interrupted frames hold, locks say
            del error

    def _renew_token(self) -> None:
        self.token = WriteToken()
        self.take = self.token.take
        self.give = self.token.give
        self._performer = 0
        self.pending: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def _progress(self) -> object:
        """Something that every write changes, and that is never the same during a claim or a fold.

        Changes of custom metrics show in the cells; one that adds 0 shows nowhere, and needs no protection.
        """
        if self._advancing:
            return object()
        return self._counts(), hash(self.cells.tobytes())

    def _counts(self) -> list[int]:
        """What was done since the slot was claimed, or left."""
        return [self._words[word] for word in (HEAD, ERRORS, CACHE_HITS, CACHE_MISSES, UNCOUNTED)]

    def perform_pending(self) -> None:
        """Perform what handlers queued while a write had the token, and what is queued meanwhile, in one loop."""
        if self._performer == threading.get_ident():
            return
        self._performer = threading.get_ident()
        try:
            while True:
                try:
                    write, args = self.pending.popleft()
                except IndexError:
                    return
                write(*args)
        finally:
            self._performer = 0

    # From here on the caller has the token ----------------------------------------------------------------------------

    def seek_slot(self, give: Callable[[None], None]) -> None:
        """Try for a slot where there is none. ForkedError in a child that was forked in the middle of the write.

        ``give``: what the write found in `give` before it took the token.
        """
        if self._folding is None:
            self._advance(give)
        elif give is not self.give:
            raise ForkedError

    def _advance(self, give: Callable[[None], None]) -> None:
        """Before a write that finds no room: claim a slot, or fold. ``give``: the caller's, which a fork renews."""
        try:
            self._advancing = True  # within, or an interrupt in between would leave it so, and a lost token stay lost
            folding = self._folding
            if folding is not None:
                head, fold = self._words[HEAD], self._words[FOLD]
                if self._is_mine(folding.claim, head, fold >> 1):
                    self._fold(folding, head, fold)
                    return
                self._lose_slot()
            if self._taken is None:
                self._try_to_claim()
            if self._taken is not None:
                self._move_in(self._taken)
        finally:
            self._advancing = False
        if give is not self.give:
            raise ForkedError

    def _is_mine(self, claim: Claim, head: int, folded: int) -> bool:
        """Whether the slot holds what this process stored last; memory that others can reach is not trusted."""
        return (
            self._words[GENERATION] == claim.generation
            and self._words[STATE] == CLAIMED
            and head == self._advance_at
            and folded <= head <= folded + self._capacity
        )

    def _lose_slot(self) -> None:
        self.warn("evicted", "lost its slot (was its descriptor closed, or the segment overwritten?); taking another")
        self._leave_slot()

    def _leave_slot(self) -> None:
        """Own no slot: write to a private one, as big as the shared one, until there is."""
        claim = self._taken if self._folding is None else self._folding.claim
        memory = private_memory(self._segment.layout.slot.itemsize)
        self._board.begin(memory[BOARD:RING])
        self.claimant.begin()
        self._use(None, memory[:BOARD].cast("Q"), memory, advance_at=0)  # so every write tries to claim
        if claim is not None:
            claim.release()

    def _use(self, folding: Folding | None, words: Words, memory: memoryview, *, advance_at: int) -> None:
        """Write to this slot from now on: its words, and all its bytes.

        Nothing is called between the assignments, so no signal handler can raise there (CPython 3.11 and newer).
        """
        self.exemplars.use(memory[self._exemplars_at :])
        cells = memory[self._cells_at : self._exemplars_at].cast("d")
        self._ring = memory[RING : RING + self._ring_bytes]
        self.cells = cells
        self.shared_cells = None if folding is None else cells
        self._memory = memory
        self._views = (memory, self._ring, words, self.cells)
        self._words = words
        self._folding = folding
        self._taken = None
        self._advance_at = advance_at

    def _try_to_claim(self) -> None:
        """Take a slot into `_taken`, if there is one to be had now."""
        if self._closed:
            return self.warn("closed", "records after close() are dropped")
        give = self.give
        claim = self.claimant.try_to_claim(self._words, self.warn)
        if give is self.give:
            self._taken = claim
        elif claim is not None:  # this is a child, forked by a signal handler in the middle of its parent's claim
            claim.alive.release()
        return None

    def _move_in(self, claim: Claim) -> None:
        """Start writing to the slot that was taken, with what was recorded so far.

        An exception of a signal handler may end this anywhere; the next write begins it again. Nothing counts before
        the slot's state is CLAIMED, and nothing is moved after.
        """
        start = self._segment.slot_offset(claim.slot)
        memory = memoryview(self._segment.memory)[start : start + self._segment.layout.slot.itemsize]
        words = slots.words_of(self._segment, claim.slot)
        self._views = (*self._views, memory, words)
        if claim.alive.is_left:
            raise ForkedError
        if words[STATE] != CLAIMED:
            private = self._words
            kept = self._latest(self._capacity - FOLD_RESERVE)
            memory[RING : RING + len(kept)] = kept
            for word in (ERRORS, CACHE_HITS, CACHE_MISSES, UNCOUNTED):
                words[word] = private[word]
            memory[self._cells_at :] = self._memory[self._cells_at :]
            words[DROPPED] = private[HEAD] - (len(kept) >> SHIFT)
            words[HEAD] = len(kept) >> SHIFT
            words[STATE] = CLAIMED
        folding = self.folding_class(self._segment, claim, words, self._clock)
        self._board.move_to(memory[BOARD:RING])  # requests under way keep their place
        self._garbage.show(words)
        self._use(folding, words, memory, advance_at=max(FOLD_BATCH, words[HEAD] + 1))

    def freeze_board(self) -> None:
        """Leave on the slot's board what is in flight now, whatever leaves or comes: this process is being ended."""
        self._board.move_to(memoryview(bytearray(RING - BOARD)))

    def _fold(self, folding: Folding, head: int, fold: int) -> None:
        """Make room in the ring, or put that off for a while; ``head``, ``fold``: the two words, checked."""
        if not folding.fold(head, fold):
            self._advance_at = head + FOLD_RESERVE // 8
            return
        self._advance_at = head + FOLD_BATCH
        self._garbage.show(self._words)
        if folding.invalid:
            self.warn("invalid", _INVALID)

    def _close(self) -> None:
        if self._folding is not None:
            self._garbage.show(self._words)
            self._folding.owner["ended_at"] = self._clock()
        elif self._words[HEAD] or any(self.cells):
            self.warn("lost", f"ended without a slot: {self._words[HEAD]} records and what waited with them are lost")
        self._leave_slot()
        self._closed = True

    def mention(self, kind: str, message: str) -> None:
        """Log a warning once per `kind`, from outside a write."""
        self.warn(kind, message)
        self.perform_pending()

    def warn(self, kind: str, message: str) -> None:
        """Log a warning once per `kind`, after the write under way: a logging handler may record in its turn."""
        if self._notices.is_new(kind):
            self.pending.append((self._notices.say, (message,)))
