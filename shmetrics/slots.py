"""The life of a slot: FREE, CLAIMED by a worker, reaped into the retired area when the worker is dead, FREE again.

Both transitions happen under REGISTRY. Each is a sequence of steps with one deciding store at the end, so a process may
be killed after any of them: what is left is the state before or the state after, and every step may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from shmetrics import arrays, cells, forks, guards, naming, obituaries
from shmetrics.arrays import np
from shmetrics.catalog import Catalog
from shmetrics.folded import Folded, bytes_of, flaw, merge
from shmetrics.forks import ForkedError
from shmetrics.layout import FOLDED, FREE, HOT, NOTES, OWNER, Layout, offset_of
from shmetrics.locks import REGISTRY, ByteLock, RegistryBusyError, is_locked, slot_byte
from shmetrics.obituary import RECORDS
from shmetrics.process import ROLE_BYTES, Identity
from shmetrics.segment import Segment
from shmetrics.strict import FencedWords, Words
from shmetrics.structs import Fields, Struct

LINGER: Final = 60.0
"""Seconds for which the window of a dead worker still counts in the statistics."""

GUARD_PATIENCE: Final = 1.0
"""Seconds after which a guard that was busy at every try is taken for abandoned and replaced."""


def _word(part: str, struct: Struct, field: str) -> int:
    """Index of a field among the 8-byte words of a slot. It does not depend on the dimensions."""
    return (offset_of(Layout().slot, part) + offset_of(struct, field)) // 8


STATE: Final = _word("owner", OWNER, "state")
PID: Final = _word("owner", OWNER, "pid")
ENDED_AT: Final = _word("owner", OWNER, "ended_at")
GENERATION: Final = _word("owner", OWNER, "generation")
GUARD: Final = _word("owner", OWNER, "guard")
HEAD: Final = _word("hot", HOT, "head")
FOLD: Final = _word("hot", HOT, "fold")
ERRORS: Final = _word("hot", HOT, "errors")
CACHE_HITS: Final = _word("hot", HOT, "cache_hits")
CACHE_MISSES: Final = _word("hot", HOT, "cache_misses")
DROPPED: Final = _word("hot", HOT, "dropped")
UNCOUNTED: Final = _word("hot", HOT, "uncounted")
ENDING: Final = _word("notes", NOTES, "ending")
RSS_BYTES: Final = _word("notes", NOTES, "rss_bytes")
BOARD: Final = offset_of(Layout().slot, "board")
"""Byte offset of the in-flight board; the words are all before it."""
RING: Final = offset_of(Layout().slot, "ring")
"""Byte offset of the ring."""

_MAX_COUNT: Final = 1 << 62
MOST_EVENTS: Final = 1 << 50
"""What a counter can reach: a million a second for thirty years."""


def words_of(segment: Segment, slot: int) -> Words:
    """The words of a slot, each stored and loaded whole; fenced in strict mode."""
    start = segment.slot_offset(slot)
    words = memoryview(segment.memory)[start : start + BOARD].cast("Q")
    return FencedWords(words, segment.fence) if segment.strict else words


class Hot(NamedTuple):
    """The hot words of a slot, each loaded once."""

    head: int
    fold: int
    errors: int
    cache_hits: int
    cache_misses: int
    dropped: int
    uncounted: int

    @property
    def folded(self) -> int:
        """Records folded so far."""
        return self.fold >> 1

    @property
    def active(self) -> int:
        """Which folded copy is good."""
        return self.fold & 1

    @property
    def requests(self) -> int:
        """Requests counted by this incarnation."""
        return self.head + self.uncounted


def read_hot(words: Words) -> Hot:
    """Load the hot words of a slot, the commit word first."""
    return Hot(
        head=words[HEAD],
        fold=words[FOLD],
        errors=words[ERRORS],
        cache_hits=words[CACHE_HITS],
        cache_misses=words[CACHE_MISSES],
        dropped=words[DROPPED],
        uncounted=words[UNCOUNTED],
    )


def hot_flaw(hot: Hot, capacity: int) -> str | None:
    """What is impossible about the hot words of a slot, or None."""
    head, fold, *counters = hot
    folded = fold >> 1
    if not folded <= head <= folded + capacity:
        return f"its commit word is {head}, but {folded} records are folded and the ring holds {capacity}"
    return "a counter is out of range" if max(head, *counters) >= MOST_EVENTS else None


@dataclass
class Claim:
    """A slot that this process owns until it releases it or dies."""

    slot: int
    generation: int
    alive: ByteLock
    guard: guards.Semaphore | None
    guard_busy_since: float | None = None
    """When it was first found busy, if it was at every try since."""

    def release(self) -> None:
        """Let the slot go; what is in it waits for a reaper."""
        self.alive.release()
        self.drop_guard()

    def drop_guard(self) -> None:
        """Do without a guard from now on."""
        guard, self.guard = self.guard, None
        if guard is not None:
            guard.close()


class NoFreeSlotError(Exception):
    """Every slot belongs to a live worker."""


def claim(
    segment: Segment,
    identity: Identity,
    *,
    patience: float,
    unplaced: Words | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Claim:
    """Take a FREE slot for this process, reaping the dead if none is free.

    It comes empty and locked, but FREE still: the owner stores CLAIMED once it has moved in, and nothing in it counts
    before. If the owner dies meanwhile, the next claimant clears it.

    ``patience``: seconds to wait for REGISTRY at most. ``unplaced``: the words of the owner's private slot; its records
    are counted as dropped when there is no slot. Raises RegistryBusyError or NoFreeSlotError.
    """
    if FREE not in column(segment, STATE) and not _are_alive(segment, _claimed(segment)):
        arrays.can_be_had()  # which reaping needs: now, and not while others wait for REGISTRY
    with ByteLock(segment.descriptor, REGISTRY) as registry:
        if not registry.acquire(patience, clock, sleep):
            raise RegistryBusyError
        obituaries.begin_to_watch_oom_kills(segment)
        taken = _lock_free_slot(segment, clock())
        if taken is None and _reap_dead(segment, clock()):
            taken = _lock_free_slot(segment, clock())
        if taken is None:
            if unplaced is not None:
                segment.header["dropped"] = (segment.header["dropped"] + unplaced[HEAD]) % 2**64
                unplaced[HEAD] = 0
            raise NoFreeSlotError
    # Nobody else touches a FREE slot that we have locked, so the rest needs no REGISTRY, for which a crowd may wait.
    slot, alive = taken
    try:
        return _take(segment, slot, alive, identity, clock())
    except BaseException:
        alive.release()
        raise


def _lock_free_slot(segment: Segment, now: float) -> tuple[int, ByteLock] | None:
    """Lock a FREE slot: the lowest whose last worker ended long ago, else the one that ended first.

    Low numbers come first so that slot numbers stay few and stable; a recent window is kept readable while others do.
    """
    ended, states = column(segment, ENDED_AT, "d"), column(segment, STATE)
    free = [(_lingers(ended[slot], now), slot) for slot, state in enumerate(states) if state == FREE]
    for _, slot in sorted(free):
        alive = ByteLock(segment.descriptor, slot_byte(slot))
        if alive.try_acquire():
            # Still: its owner may have moved in, recorded and ended since we looked.
            if owner_of(segment, slot)["state"] == FREE:
                return slot, alive
            alive.release()
    return None


def column(segment: Segment, word: int, form: Literal["Q", "d"] = "Q") -> list[Any]:
    """One word of every slot, each loaded whole."""
    start, size = segment.slot_offset(0), segment.layout.slot.itemsize
    words = memoryview(segment.memory)[start : start + segment.layout.max_workers * size].cast(form)
    return words[word :: size // 8].tolist()


def owner_of(segment: Segment, slot: int) -> Fields:
    """Who has a slot, or had it last."""
    return Fields(OWNER, segment.part(slot, "owner"))


def _lingers(ended: float, now: float) -> float:
    """When the last worker of a slot ended, if its window is still read; 0 for long ago, and for what is no time."""
    return ended if ended >= now - LINGER else 0.0


def _claimed(segment: Segment) -> list[int]:
    """The slots that are not FREE."""
    return [slot for slot, state in enumerate(column(segment, STATE)) if state != FREE]


def _take(segment: Segment, slot: int, alive: ByteLock, identity: Identity, now: float) -> Claim:
    """Empty a locked slot; the generation first, so that a reader in the middle of it notices.

    Nothing is called between the look at the lock and the last store, so no signal handler can fork there: a child that
    was forked before finds the lock its parent's, and leaves the slot to it. In strict mode each store of a word is a
    call; there the words are taken away from the child, and the lock is looked at again after them.
    """
    words = words_of(segment, slot)
    if isinstance(words, FencedWords):
        forks.register(words)
    retired = segment.retired_generation(slot)
    generation = max(words[GENERATION] % _MAX_COUNT, retired % _MAX_COUNT) + 1  # never 0: that is a slot never used
    folded, board = segment.part(slot, "folded")[: FOLDED.itemsize], segment.part(slot, "board")
    no_folded, no_board = bytes(FOLDED.itemsize), bytes(len(board))
    owner, new_owner = segment.part(slot, "owner"), _new_owner(identity, now)
    if alive.is_left:
        raise ForkedError
    words[GENERATION] = generation
    for word in (HEAD, FOLD, ERRORS, CACHE_HITS, CACHE_MISSES, DROPPED, UNCOUNTED, ENDING, RSS_BYTES):
        words[word] = 0
    if alive.is_left:
        raise ForkedError
    folded[:] = no_folded
    board[:] = no_board
    owner[_BEFORE_GUARD] = new_owner[_BEFORE_GUARD]
    owner[_AFTER_GUARD] = new_owner[_AFTER_GUARD]
    guard = renew_guard(segment, slot, words)
    return Claim(slot, generation, alive, guard)


_GUARD_AT: Final = offset_of(OWNER, "guard")
_BEFORE_GUARD: Final = slice(offset_of(OWNER, "pid"), _GUARD_AT)
_AFTER_GUARD: Final = slice(_GUARD_AT + 8, None)
"""Bytes of an owner: all but its state, its generation and its guard."""


def _new_owner(identity: Identity, now: float) -> bytes:
    """The bytes of a slot's owner, but for its state, its generation and its guard."""
    data = bytearray(OWNER.itemsize)
    owner = Fields(OWNER, data)
    owner["pid"], owner["start_ticks"] = identity.pid, identity.start_ticks
    owner["claimed_at"] = owner["heartbeat"] = now
    owner["role"] = identity.role.encode("utf-8", "replace")[:ROLE_BYTES]
    return bytes(data)


def renew_guard(segment: Segment, slot: int, words: Words) -> guards.Semaphore | None:
    """Make the next guard of a slot and remove the one before. Only the slot's owner may.

    Returns no guard where the system refuses one, or when the hub was unlinked (nobody would clean it up): the guard
    spares readers a retry, so the slot works without.
    """
    old = words[GUARD]
    number = (old + 1) % _MAX_COUNT
    prefix = naming.semaphore_prefix(segment.name, segment.instance)
    guard = (
        None if segment.is_unlinked else guards.create(guards.guard_name(prefix, slot, number), segment.fresh_semaphore)
    )
    # In this order: the owner may be killed in between, and a number that is stored is the only way to find its name.
    guards.unlink(guards.guard_name(prefix, slot, old))
    words[GUARD] = number
    return guard


def heed_busy_guard(segment: Segment, claim: Claim, words: Words, now: float) -> None:
    """Replace a guard that was busy at every try for GUARD_PATIENCE: its holder died, or might as well have."""
    if claim.guard_busy_since is None:
        claim.guard_busy_since = now
    elif now - claim.guard_busy_since >= GUARD_PATIENCE:
        claim.drop_guard()
        with suppress(OSError):  # without a guard readers copy twice now and then
            claim.guard = renew_guard(segment, claim.slot, words)
        claim.guard_busy_since = None


def is_alive(segment: Segment, slot: int) -> bool:
    """Whether some process holds the slot's liveness lock. For the claimed slots of other descriptions only."""
    return is_locked(segment.descriptor, slot_byte(slot))


def _are_alive(segment: Segment, claimed: list[int]) -> bool:
    return all(is_alive(segment, slot) for slot in claimed)


def reap(
    segment: Segment,
    *,
    patience: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Fold the slots of dead workers into the retired area and free them; returns how many.

    Cheap when nobody died: one system call for each claimed slot. When another process holds REGISTRY for longer than
    `patience`, or no descriptors are left to lock with or to import numpy, the dead wait for the next call.
    """
    if _are_alive(segment, _claimed(segment)) or not arrays.can_be_had():
        return 0
    try:
        with ByteLock(segment.descriptor, REGISTRY) as registry:
            return _reap_dead(segment, clock()) if registry.acquire(patience, clock, sleep) else 0
    except OSError:  # no descriptors are left
        return 0


def _reap_dead(segment: Segment, now: float) -> int:
    """Reap every dead slot. The caller holds REGISTRY."""
    reaped = 0
    for slot in _claimed(segment):
        with ByteLock(segment.descriptor, slot_byte(slot)) as alive:
            # Nobody owns it, and nobody can while we hold this and REGISTRY.
            if alive.try_acquire() and arrays.can_be_had():
                _retire(segment, slot, now)
                reaped += 1
    return reaped


def _retire(segment: Segment, slot: int, now: float) -> None:
    """Write a dead worker's obituary, move its totals to the retired area, then free its slot.

    The flip of `retired_index` is the deciding store; `folded_generation`, flipped with it, makes a repetition after a
    SIGKILL between the flip and the freeing harmless.
    """
    index = segment.retired_index
    active = segment.retired(index)
    believed = True
    part = segment.slots[slot]
    words = words_of(segment, slot)
    generation = words[GENERATION]
    if int(active["folded_generation"][slot]) != generation:
        hot = read_hot(words)
        leavings = _leavings(segment, slot, hot, now)
        believed = leavings is not None
        _write_obituary(segment, slot, generation, hot if believed else None, now)
        if leavings is not None:
            target = segment.retired(index + 1)
            bytes_of(target)[:] = bytes_of(active)
            target["incarnations"] += np.uint64(1)
            for counter in ("requests", "errors", "cache_hits", "cache_misses", "dropped"):
                target[counter] += np.uint64(getattr(hot, counter))
            both = np.stack([active["folded"], leavings.area])
            Folded(target["folded"]).copy_from(merge(both))
            cells.retire(cells.Plan(Catalog(segment).contents()), target["cells"], part["cells"], now)
            target["folded_generation"][slot] = generation
            segment.flip_retired(index + 1)
    part["owner"]["ended_at"] = now
    words[STATE] = FREE
    if not believed:
        segment.header["corrupt"] = (segment.header["corrupt"] + 1) % 2**64


def _write_obituary(segment: Segment, slot: int, generation: int, hot: Hot | None, now: float) -> None:
    """Write the obituary of a worker that did not close; ``hot``: None when its slot cannot be believed."""
    work = None
    if hot is not None:
        last = np.arange(max(0, hot.head - RECORDS), hot.head) & (segment.layout.capacity - 1)
        records = segment.slots["ring"][slot, last]
        work = obituaries.Work(hot.requests, hot.errors, hot.cache_hits, hot.cache_misses, records)
    obituaries.write(segment, slot, generation, work, now)


def _leavings(segment: Segment, slot: int, hot: Hot, now: float) -> Folded | None:
    """Everything a dead worker recorded, folded together; None when its slot cannot be believed."""
    capacity = segment.layout.capacity
    if hot_flaw(hot, capacity) is not None:
        return None
    part = segment.slots[slot]
    total = Folded()
    total.copy_from(Folded(part["folded"][hot.active, ...]))
    if flaw(total.area, hot.folded, now) is not None:
        return None
    total.add_rows(part["ring"][np.arange(hot.folded, hot.head) & (capacity - 1)])
    return total if flaw(total.area, hot.head, now) is None else None
