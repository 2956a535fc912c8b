"""The ledger: what each tortured process got done, in shared memory of its own, which survives any of their deaths."""

import mmap

import numpy as np

(
    ACKNOWLEDGED,  # records whose call returned
    ERRORS,  # errors whose call returned
    BEATS,  # how often the process came around
    STOPS,  # odd while the harness has it stopped, and larger after each time
    SWITCHES,  # voluntary context switches inside record
    CLAIM_NS,  # wall time of the first record, with the claim
    READ_NS,  # worst wall time of a read
    BLOCKED_NS,  # worst time a read was blocked
    GUARDS_NS,  # worst time a read was blocked by guards
    EVENTS,  # changes of custom metrics whose calls returned
    CLOSING,  # 1 once the process has begun to end in good order
) = range(11)
_COLUMNS = 16


class Ledger:
    """One row of 8-byte words for each process; made before the first fork."""

    def __init__(self, most_processes):
        self._memory = mmap.mmap(-1, 8 * _COLUMNS * most_processes)
        self._words = memoryview(self._memory).cast("Q")
        self._table = np.frombuffer(self._memory, np.uint64).reshape(-1, _COLUMNS)

    def row(self, number):
        """The words of one process, each stored and loaded whole."""
        return self._words[_COLUMNS * number : _COLUMNS * (number + 1)]

    def column(self, column, count):
        """A word of the first `count` processes: a copy, int64."""
        return self._table[:count, column].astype(np.int64)


class Calm:
    """Tells whether a stretch of time in a tortured process was free of stops by the harness, whose length is no
    merit or fault of shmetrics.

    The harness makes STOPS odd before it stops a process and even after it let it go on, so a stretch with the same
    even number at both ends has no stop in it.
    """

    def __init__(self, row):
        self._row = row
        self._stops = row[STOPS]

    def begin(self):
        """Begin a stretch."""
        self._stops = self._row[STOPS]

    def lasted(self):
        """Whether nothing stopped this process since."""
        return self._stops % 2 == 0 and self._row[STOPS] == self._stops
