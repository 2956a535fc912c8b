"""The flight recorder: the obituaries of a hub, a ring of entries in shared memory that outlives every process.

Whoever reaps a worker writes its obituary before anything of its slot is folded or freed. An entry's serial number is
stored last, so an entry is whole or is not there; and it names slot and generation, so when the reaper is killed in the
middle, whoever reaps again writes what is missing and nothing twice. A worker that gave its slot up is no news: it gets
none. Nor does one that had said it was about to end, and that neither crashed nor left a request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from shmetrics import oom, process
from shmetrics.board import crowd_of, requests_on
from shmetrics.folded import Rows
from shmetrics.layout import OBITUARIES, OBITUARY, offset_of
from shmetrics.obituary import ORDERLY, Obituary, ending_word, exit_code_of, parse, payload_of
from shmetrics.segment import Segment
from shmetrics.structs import Fields
from shmetrics.texts import printable

_FIELDS: Final = ("serial", "slot", "generation", "pid", "ending", "length")
_SERIAL, _SLOT, _GENERATION, _PID, _ENDING, _LENGTH = (offset_of(OBITUARY, name) // 8 for name in _FIELDS)
_PAYLOAD: Final = offset_of(OBITUARY, "payload")
_WORDS: Final = OBITUARY.itemsize // 8
_MOST_SERIAL: Final = 1 << 53
_MOST_BYTES: Final = 1 << 50
_KILLED: Final = -9
"""The exit code of a process that the kernel killed for want of memory."""
AMENDABLE: Final = 60.0
"""Seconds after its death was noticed in which it may still be said how a worker ended: pids are used again."""


class Obituaries:
    """The obituaries of a mapped hub. Any thread of any process may `read`; whoever changes them holds REGISTRY."""

    def __init__(self, segment: Segment) -> None:
        dims = segment.layout
        first, size = dims.obituaries_offset + offset_of(dims.obituaries, "entries"), OBITUARY.itemsize
        memory = memoryview(segment.memory)
        self._fence = segment.fence
        self._all_words = memory[first : first + OBITUARIES * size].cast("Q")
        self._oom_word = _oom_word(segment)
        self._bytes = [memory[first + place * size :][:size] for place in range(OBITUARIES)]
        self._words = [entry.cast("Q") for entry in self._bytes]
        self._known: dict[int, tuple[int, int, Obituary | None]] = {}
        self._all: tuple[Obituary, ...] = ()
        self._seen = b""

    def read(self) -> tuple[Obituary, ...]:
        """All there are, the oldest first; what cannot be believed, or is just being written, is left out."""
        state = self._state()
        if state != self._seen:
            found = [self._entry(place) for place, words in enumerate(self._words) if words[_SERIAL]]
            self._all = tuple(sorted((each for each in found if each is not None), key=lambda each: each.serial))
            self._seen = state if self._state() == state else b""
        return self._all

    def _state(self) -> bytes:
        """What changes with every obituary that is written or amended."""
        return self._all_words[_SERIAL::_WORDS].tobytes() + self._all_words[_ENDING::_WORDS].tobytes()

    def _entry(self, place: int) -> Obituary | None:
        """The obituary in a place, which is looked at anew only when it is another or was amended."""
        words = self._words[place]
        serial, ending = words[_SERIAL], words[_ENDING]
        known = self._known.get(place)
        if known is not None and known[:2] == (serial, ending):
            return known[2]
        self._fence()
        copy = Fields(OBITUARY, bytes(self._bytes[place]))
        self._fence()
        if words[_SERIAL] != serial or copy["serial"] != serial:
            return None  # somebody is writing it
        obituary = parse(copy) if serial % OBITUARIES == place else None
        self._known[place] = (serial, int(copy["ending"]), obituary)  # amended since, perhaps: it is one word
        return obituary

    def has(self, slot: int, generation: int) -> bool:
        """Whether there is one of this incarnation."""
        return any(
            words[_SLOT] == slot and words[_GENERATION] == generation and words[_SERIAL] for words in self._words
        )

    def add(self, slot: int, generation: int, pid: int, exit_code: int | None, payload: bytes) -> None:
        """Write an entry over the oldest."""
        serials = self._all_words[_SERIAL::_WORDS].tolist()
        serial = max((serial for serial in serials if serial < _MOST_SERIAL - 1), default=0) + 1
        words, entry = self._words[serial % OBITUARIES], self._bytes[serial % OBITUARIES]
        words[_SERIAL] = 0
        self._fence()
        words[_SLOT] = slot
        words[_GENERATION] = generation
        words[_PID] = pid
        words[_ENDING] = 0 if exit_code is None else ending_word(exit_code)
        words[_LENGTH] = len(payload)
        entry[_PAYLOAD : _PAYLOAD + len(payload)] = payload
        self._fence()
        words[_SERIAL] = serial
        self._fence()

    def amend(self, pid: int, exit_code: int, now: float) -> bool:
        """Say how the process of a recent obituary ended, where it does not say so itself; whether there is one."""
        for obituary in reversed(self.read()):
            if obituary.pid == pid and 0.0 <= now - obituary.noticed <= AMENDABLE:
                words = self._words[obituary.serial % OBITUARIES]
                if obituary.exit_code is None and words[_SERIAL] == obituary.serial:
                    words[_ENDING] = ending_word(exit_code)
                return True
        return False

    # What the kernel counts -------------------------------------------------------------------------------------------

    def watch_oom_kills(self, reading: int) -> None:
        """Keep a reading of the kernel's counter (`oom`), which says from where on kills are news."""
        if reading:
            self._oom_word[0] = oom.latest(self._oom_word[0], reading)

    def claim_oom_kill(self, exit_code: int | None) -> int:
        """How many kills were counted that no obituary has told of; from now on one fewer.

        0 for a process that did not end as one that is killed for want of memory does.
        """
        if exit_code not in (None, _KILLED):
            return 0
        reading = oom.reading()
        kills = oom.kills_between(self._oom_word[0], reading)
        self._oom_word[0] = self._oom_word[0] + 1 if kills else reading
        return kills


class Work(NamedTuple):
    """What a worker did: its counts, and its last records, oldest first."""

    requests: int = 0
    errors: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    records: Sequence[Any] | Rows = ()


def write(segment: Segment, slot: int, generation: int, work: Work | None, now: float) -> None:
    """Write the obituary of the dead worker in a slot, if it is due one and has none yet. Never raises.

    The caller holds REGISTRY. ``work``: None when the slot cannot be believed. ``now``: monotonic seconds.
    """
    part: Any = segment.slots[slot]
    owner, notes, board = part["owner"], part["notes"], part["board"]
    if owner["ended_at"] > 0.0:
        return  # it closed
    obituaries = Obituaries(segment)
    if obituaries.has(slot, generation):
        return
    pid, noticed = int(owner["pid"]), now
    exit_code = exit_code_of(int(notes["ending"]))
    if exit_code is not None:
        noticed = _time(notes["ended_at"], now) or now
    else:
        fate = process.fate_of(pid, int(owner["start_ticks"]))
        if fate.is_running:
            return  # it lost this slot, and lives on in another
        exit_code = fate.exit_code
    done, requests = work or Work(), requests_on(board, noticed)
    in_flight = len(requests) + crowd_of(board)
    if owner["ended_at"] < 0.0 and exit_code in ORDERLY and not in_flight:
        return  # it was about to end
    recorded = _time(done.records[-1]["time"], noticed) if len(done.records) else 0.0
    facts = {
        "role": printable(bytes(owner["role"])),
        "oom_kills": obituaries.claim_oom_kill(exit_code),
        "noticed": noticed,
        "noticed_at": max(0.0, time.time() - (now - noticed)),
        "age": noticed - _time(owner["claimed_at"], noticed),
        "silent": noticed - max(recorded, _time(owner["heartbeat"], noticed), *(each.started_at for each in requests)),
        "believed": work is not None,
        **{name: getattr(done, name) for name in ("requests", "errors", "cache_hits", "cache_misses")},
        "rss_bytes": int(notes["rss_bytes"]) % _MOST_BYTES or None,
        "in_flight": in_flight,
    }
    obituaries.add(slot, generation, pid, exit_code, payload_of(facts, requests, done.records, noticed))


def begin_to_watch_oom_kills(segment: Segment) -> None:
    """Read the kernel's counter if nobody ever did, so that kills from now on are news. The caller holds REGISTRY."""
    word = _oom_word(segment)
    if not word[0]:
        word[0] = oom.reading()


def _oom_word(segment: Segment) -> memoryview:
    start = segment.layout.obituaries_offset + offset_of(segment.layout.obituaries, "oom_kills")
    return memoryview(segment.memory)[start : start + 8].cast("Q")


def _time(value: Any, now: float) -> float:
    """A time read from shared memory, made plausible: from 0 to now."""
    number = float(value)
    return min(number, now) if number > 0.0 else 0.0
