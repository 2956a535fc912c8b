"""How workers ended: what only the process that waited for one can tell, for the obituary that somebody will write.

The word waits in the notes of the dead worker's slot until it is reaped; and if it was reaped already, it goes into the
obituary, which then did not know. A worker that is being ended may leave it there itself; and one that is about to end
in order, though a signal will end it, says that, so that its end is no news (`obituaries.write`).
"""

import os
import time
from collections.abc import Callable
from typing import Final

from shmetrics import doorbell, slots
from shmetrics.layout import FREE, NOTES, OWNER
from shmetrics.locks import REGISTRY, ByteLock
from shmetrics.obituaries import Obituaries
from shmetrics.obituary import ending_word
from shmetrics.segment import Segment
from shmetrics.structs import Fields

PATIENCE: Final = 0.1
"""Seconds that `report_end` waits for REGISTRY, at most; whoever has it has it for a millisecond."""


def report_end(
    segment: Segment,
    pid: int,
    exit_code: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Say how the worker process `pid` ended, and wake the aggregator; whether a dead worker of that pid was found.

    For whoever has waited for the process: an arbiter, a pool. ``segment``: attached for writing. ``exit_code``: as
    `subprocess` has it, a status from 0 to 255 or minus a signal's number; ``os.waitstatus_to_exitcode`` makes it of
    what ``os.waitpid`` returns. ValueError for one that cannot be, and nothing else is raised.
    """
    word = ending_word(exit_code)
    if not word:
        raise ValueError(
            f"an exit code is from -64 to 255, and {exit_code!r} is not; os.waitstatus_to_exitcode makes one of a wait "
            f"status"
        )
    found = False
    try:
        with ByteLock(segment.descriptor, REGISTRY) as registry:
            if registry.acquire(PATIENCE, clock, sleep):
                found = _note(segment, pid, word, clock()) or Obituaries(segment).amend(pid, exit_code, clock())
    except OSError:  # no descriptors are left to lock with
        found = False
    doorbell.ring(segment)
    return found


def _note(segment: Segment, pid: int, word: int, now: float) -> bool:
    """Leave the word in each slot of a dead worker of that pid. The caller holds REGISTRY, so no slot changes hands."""
    states, pids, found = slots.column(segment, slots.STATE), slots.column(segment, slots.PID), False
    for slot, (state, holder) in enumerate(zip(states, pids, strict=True)):
        if state != FREE and holder == pid and not slots.is_alive(segment, slot):
            _leave_word(segment, slot, word, now)
            found = True
    return found


def _leave_word(segment: Segment, slot: int, word: int, now: float) -> None:
    Fields(NOTES, segment.part(slot, "notes"))["ended_at"] = now
    segment.fence()
    slots.words_of(segment, slot)[slots.ENDING] = word


def note_own(segment: Segment, slot: int, exit_code: int, *, clock: Callable[[], float] = time.monotonic) -> None:
    """In a worker that is being ended: say by what, in its own slot. Whoever waits for it may know better."""
    if _is_own(segment, slot):
        _leave_word(segment, slot, ending_word(exit_code), clock())


def expect_own(segment: Segment, slot: int, expected: bool, *, clock: Callable[[], float] = time.monotonic) -> None:
    """In a worker: say in its own slot that it is about to end in order; or that it goes on after all."""
    if _is_own(segment, slot):
        Fields(OWNER, segment.part(slot, "owner"))["ended_at"] = -clock() if expected else 0.0


def _is_own(segment: Segment, slot: int) -> bool:
    """Whether this process's slot is its own still; it may have lost it, and be about to find out."""
    return int(Fields(OWNER, segment.part(slot, "owner"))["pid"]) == os.getpid()
