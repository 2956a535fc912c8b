"""The in-flight board: the requests that a process is serving now, each with its start and a label.

A row of places in the slot, taken and given back without a lock: the free ones are a list, whose ``pop`` and ``append``
are atomic. A place whose start is 0 is empty.
"""

from collections.abc import Callable

from shmetrics.layout import BOARD_SIZE


class Board:
    """One process's board. Any thread, greenlet or signal handler may call `enter` and `leave`; they never wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._epoch = 0

    def enter(self, label: int = 0) -> int:
        """Show a request on the board; returns its ticket, -1 when the board is full."""
        try:
            place = self._free.pop()
        except IndexError:
            return -1
        self._labels[2 * place + 1] = label
        self._starts[2 * place] = self._clock()
        return self._epoch + place

    def leave(self, ticket: int) -> None:
        """Take a request off the board; harmless for -1, a second time, and for a ticket from before `begin`."""
        place = ticket - self._epoch
        if 0 <= place < BOARD_SIZE and self._starts[2 * place]:
            self._starts[2 * place] = 0.0
            self._free.append(place)

    def begin(self, memory: memoryview) -> None:
        """Show requests in these bytes, starting with none; tickets given out before mean nothing any more."""
        self._epoch += BOARD_SIZE
        self._free = list(range(BOARD_SIZE))
        self._use(memory)

    def move_to(self, memory: memoryview) -> None:
        """Show the same requests in other bytes."""
        memory[:] = self._memory
        self._use(memory)

    def _use(self, memory: memoryview) -> None:
        self._memory = memory
        self._starts, self._labels = memory.cast("d"), memory.cast("Q")
