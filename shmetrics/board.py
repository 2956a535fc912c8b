"""The in-flight board: the requests that a process is serving now, each with its start and label, and its busy time.

Two places know what is in flight. The truth is in the process: a dictionary of tickets, a list of free places and the
crowd of those that found no place, each changed by single operations that are atomic. So nothing here takes a lock or
waits, in whatever thread, greenlet or signal handler it runs, and nothing that somebody puts into shared memory can
make a request count twice or never end. The slot (``layout.BOARD``) shows it to others: a place whose start is 0 is
empty, and the number in flight is that of the places in use and the crowd.

**Busy time** is the time in which at least one request was in flight, so requests that overlap count once, and one that
takes long counts while it runs and not again when it ends. It is one word, so that it is stored whole:

    word >= 0   idle; so many seconds of busy time so far
    word <  0   busy; the busy time at t is t + word

For its history, the first change in each second keeps the word that was good until then. Between two changes busy
time grows as fast as the clock or not at all; so what it was at any earlier time follows exactly, except within a
second that had changes, where it is taken to have grown evenly.

Two threads that enter and leave at the same instant may blur the busy time by as long as one of them was kept from the
CPU. A signal handler that raises in the middle may lose a place, which comes back at the next idle second.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from shmetrics import native
from shmetrics.arrays import np
from shmetrics.layout import BOARD, BOARD_SIZE, BUSY_SECONDS, LABEL_BYTES, offset_of
from shmetrics.texts import cut, printable

_SECOND, _BUSY_AT, _START, _LABEL = (offset_of(BOARD, name) for name in ("second", "busy_at", "start", "label"))
BUSY_WORD, _CROWD = (offset_of(BOARD, name) // 8 for name in ("busy", "crowd"))
_LABELS: Final = tuple(slice(place * LABEL_BYTES, (place + 1) * LABEL_BYTES) for place in range(BOARD_SIZE))
_MOST_TEXTS: Final = 4096
"""Labels that a process remembers in the form in which they are stored."""
_MOST_IN_CROWD: Final = 1 << 32


class Tickets(dict[int, int]):
    """The requests in flight: the place of each by its ticket, or -1 in the crowd. Each operation is atomic."""

    def __init__(self) -> None:
        super().__init__()
        self.draw: Callable[[], int] = itertools.count(1).__next__
        """A ticket that there never was."""


class Board:
    """One process's board. Any thread, greenlet or signal handler may call `enter` and `leave`; they never wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open = native.instead("Tickets", Tickets)()
        self._texts: dict[str, bytes] = {}
        self._busy = self._next_second = 0.0

    def enter(self, label: str = "", now: float | None = None) -> int:
        """Show a request on the board; returns its ticket. ``label``: the route, say; at most 56 bytes are shown.

        Labels should be few: a route's template rather than a path. ``now``: monotonic seconds, where the caller has
        just read the clock.
        """
        if now is None:
            now = self._clock()
        try:
            text = self._texts[label]
        except KeyError:
            text = self._text_of(label)
        try:
            place = self._free.pop()
        except IndexError:
            place = -1
        ticket = self._open.draw()
        if place >= 0:
            if self._shown[place] is not text:
                self._labels[_LABELS[place]] = text
                self._shown[place] = text
            self._starts[place] = now
            self._open[ticket] = place
        else:
            self._join_crowd(ticket, now, text)
        busy = self._busy
        if busy >= 0.0:
            if now >= self._next_second:
                self._turn(now, busy)
            self._busy = self._words[BUSY_WORD] = busy - now
        return ticket

    def leave(self, ticket: int, now: float | None = None) -> None:
        """Take a request off the board; harmless a second time, and for a ticket from before `begin`.

        ``now``: as for `enter`.
        """
        place = self._open.pop(ticket, None)
        if place is None:
            return
        if place < 0 or self._crowd:
            self._leave_crowded(ticket, place)
        else:
            self._starts[place] = 0.0
            self._free.append(place)
        if not self._open:
            if now is None:
                now = self._clock()
            busy = self._busy
            if busy < 0.0:
                if now >= self._next_second:
                    self._turn(now, busy)
                self._busy = self._words[BUSY_WORD] = busy + now
                if self._open and self._busy >= 0.0:  # somebody entered since we looked, and took it for busy
                    self._busy = self._words[BUSY_WORD] = self._busy - now

    def relabel(self, ticket: int, label: str) -> None:
        """Give a request another label, once its route is known, say; harmless for a ticket that has left."""
        place = self._open.get(ticket)
        if place is None:
            return
        text = self._texts.get(label) or self._text_of(label)
        if place < 0:
            place = self._seated.get(ticket, -1)
        if place >= 0:
            self._labels[_LABELS[place]] = text
            self._shown[place] = text
        else:
            waiting = self._crowd.get(ticket)
            if waiting is not None:
                waiting[1] = text

    def begin(self, memory: memoryview) -> None:
        """Show requests in these bytes (of a BOARD, all 0), starting with none; earlier tickets mean nothing now."""
        self._open.clear()
        self._crowd: OrderedDict[int, list[Any]] = OrderedDict()  # ticket: start and label, oldest first
        self._seated: dict[int, int] = {}  # ticket: place, of those that came out of the crowd
        self._free = list(range(BOARD_SIZE - 1, -1, -1))
        self._shown: list[bytes | None] = [None] * BOARD_SIZE  # the label that stands in each place
        self._busy = self._next_second = 0.0
        self._use(memory, memory)

    def move_to(self, memory: memoryview) -> None:
        """Show the same requests in other bytes."""
        self._use(memory, self._memory)

    def _use(self, memory: memoryview, contents: memoryview) -> None:
        """Nothing is called between the copy and the last assignment, so no other thread enters or leaves in between.

        (CPython 3.11 and newer. Before, a place may show a request that has left, until the next idle second.)
        """
        starts, labels = memory[_START:_LABEL].cast("d"), memory[_LABEL : _LABEL + BOARD_SIZE * LABEL_BYTES]
        seconds, busy_at = memory[_SECOND:_BUSY_AT].cast("Q"), memory[_BUSY_AT:_START].cast("d")
        words, counts = memory[:_SECOND].cast("d"), memory[:_SECOND].cast("Q")
        memory[:] = contents
        self._memory = memory
        self._starts = starts
        self._labels = labels
        self._seconds = seconds
        self._busy_at = busy_at
        self._words = words
        self._counts = counts

    def _text_of(self, label: str) -> bytes:
        """A label as it is stored: UTF-8, cut between two characters, filled up with zeros."""
        if len(self._texts) >= _MOST_TEXTS:
            self._texts.clear()
        text = self._texts[label] = cut(str(label or ""), LABEL_BYTES).ljust(LABEL_BYTES, b"\0")
        return text

    def _turn(self, now: float, busy: float) -> None:
        """Keep the busy word for history, at the first change in a second. Once a second there is time to tidy up."""
        second = int(now)
        at = second % BUSY_SECONDS
        self._busy_at[at] = busy
        self._seconds[at] = second
        self._next_second = second + 1.0
        if not self._open and (len(self._free) != BOARD_SIZE or any(self._starts)):
            self._free[:] = range(BOARD_SIZE - 1, -1, -1)
            for place in range(BOARD_SIZE):
                self._starts[place] = 0.0

    # More requests than places ----------------------------------------------------------------------------------------

    def _join_crowd(self, ticket: int, now: float, text: bytes) -> None:
        self._crowd[ticket] = [now, text]
        self._open[ticket] = -1
        self._count_crowd()

    def _leave_crowded(self, ticket: int, place: int) -> None:
        """Leave while there is a crowd, or from it: a place goes to whoever has waited longest, so that it shows.

        ``place``: the request's, -1 when it came without one and may have got one since.
        """
        if place < 0 and self._crowd.pop(ticket, None) is None:
            place = self._seated.pop(ticket, -1)  # -1: somebody is just seating it, and will see that it has left
        if place >= 0:
            self._give(place)
        self._count_crowd()

    def _give(self, place: int) -> None:
        """Give a place to the oldest of the crowd, or free it."""
        while True:
            try:
                ticket, (start, text) = self._crowd.popitem(last=False)  # atomic: nobody else seats this one
            except KeyError:
                self._starts[place] = 0.0
                self._free.append(place)
                return
            self._labels[_LABELS[place]] = text
            self._shown[place] = text
            self._starts[place] = start
            self._seated[ticket] = place
            if ticket in self._open or self._seated.pop(ticket, None) is None:
                return  # it is served still, or has left since and freed the place itself

    def _count_crowd(self) -> None:
        """Whoever stores last has looked afterwards, so the number is right in the end."""
        while True:
            count = self._counts[_CROWD] = len(self._crowd)
            if count == len(self._crowd):
                return


# What a board says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RequestInFlight:
    """A request that a worker is serving."""

    started_at: float
    """Monotonic seconds."""
    label: str = ""


@dataclass(frozen=True)
class Busy:
    """A worker's busy time, as its board has it. All of it is from shared memory, and may be anything."""

    word: float = 0.0
    history: dict[int, float] = field(default_factory=dict)
    """For each second with changes (monotonic, rounded down) the word that was good until the first of them."""

    @property
    def is_known(self) -> bool:
        """Whether the worker ever showed a request."""
        return bool(self.history)

    def fraction(self, now: float, period: float) -> float:
        """Busy time per second over the last `period` seconds, BUSY_SECONDS - 2 at most: from 0 to 1."""
        if not period > 0.0:
            return 0.0
        fraction = (_at(self.word, now) - self._until(now - period, now)) / period
        return 0.0 if math.isnan(fraction) else min(1.0, max(0.0, fraction))

    def _until(self, time: float, now: float) -> float:
        """Busy time up to an earlier time."""
        second, last = math.floor(time), math.floor(now)
        later = next((s for s in range(second + 1, last + 1) if s in self.history), None)
        word = self.word if later is None else self.history[later]
        if second not in self.history:
            return _at(word, time)  # there was no change from `time` until `later`, or until now
        begin, end = _at(self.history[second], second), _at(word, min(second + 1.0, now))
        return begin + (end - begin) * (time - second) / (min(second + 1.0, now) - second)


def _at(word: float, time: float) -> float:
    """The busy time that a word says for a time."""
    return word if word >= 0.0 else time + word


def busy_of(board: Any) -> Busy:
    """The busy time on a private copy of a board (``layout.BOARD``, zero-dimensional)."""
    used = np.flatnonzero(board["second"])
    history = dict(zip(board["second"][used].tolist(), board["busy_at"][used].tolist(), strict=True))
    return Busy(float(board["busy"]), history)


def requests_on(board: Any, now: float) -> tuple[RequestInFlight, ...]:
    """The requests on a private copy of a board, the oldest first, with starts from 0 to `now`."""
    starts, labels = board["start"], board["label"]
    found = [
        RequestInFlight(min(start, now), printable(bytes(labels[place])))
        for place, start in zip(np.flatnonzero(starts > 0.0).tolist(), starts[starts > 0.0].tolist(), strict=True)
    ]
    return tuple(sorted(found, key=lambda request: request.started_at))


def crowd_of(board: Any) -> int:
    """How many requests in flight have no place on a private copy of a board; 0 where it says what cannot be."""
    count = int(board["crowd"])
    return count if count < _MOST_IN_CROWD else 0
