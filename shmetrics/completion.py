"""The end of a request, in one write: its record, its duration among those of its kind, and its leaving of the board.

Each of the three could be a write of its own. But every request of a server ends, and what a write costs is mostly the
way to it: the token, the frame, the looks at whether everything is where it was (`shmetrics bench end-to-end`).
"""

from __future__ import annotations  # memoryview[float] is one for type checkers only

from bisect import bisect_left
from typing import Any

from shmetrics import native
from shmetrics.board import BUSY_WORD, Board
from shmetrics.exclusion import takes_token
from shmetrics.folding import Folding
from shmetrics.instruments import Histogram
from shmetrics.layout import LABEL_BYTES
from shmetrics.records import SHIFT, check_numbers, pack_into
from shmetrics.slots import CACHE_HITS, CACHE_MISSES, ERRORS, HEAD
from shmetrics.writer import Writer


class RequestWriter(Writer):
    """A writer to which requests come to their end. Any thread, greenlet or signal handler may call any method."""

    def go_on(self) -> None:
        """Say that this worker goes on, in the middle of a request. Nothing where it has no slot."""
        folding = self._folding
        if folding is not None:
            folding.beat()

    @takes_token
    def complete(  # noqa: PLR0917  by position is cheapest
        self,
        ticket: int,
        now: float,
        inference_time: float,
        batch_size: float,
        preprocessing_time: float,
        quantization_time: float,
        durations: Histogram | None,
        duration: float,
    ) -> None:
        """Commit one record as `Writer.record` does, count a duration, and take the request off the board.

        ``now``: monotonic seconds, the time of all three. ``durations``: None where the kind of request has none.
        Raises TypeError for what is not a number, and nothing else; then the request is on the board still.
        """
        while True:
            take, give, leave = self.take, self.give, self.leave
            try:
                take()
                words = self._words
                head = words[HEAD]
                if head >= self._advance_at:
                    self._advance(give)
                    words = self._words
                    head = words[HEAD]
                if durations is not None:
                    if durations.cells is not self.shared_cells or durations.in_catalog[0] != durations.serial:
                        durations.find(give)
                    cells, first = durations.cells, durations.first
                    bucket = first + 2 + bisect_left(durations.bounds, duration)
                pack_into(
                    self._ring,
                    (head & self._mask) << SHIFT,
                    now,
                    inference_time,
                    batch_size,
                    preprocessing_time,
                    quantization_time,
                    words[ERRORS],
                    words[CACHE_HITS],
                    words[CACHE_MISSES],
                )
                words[HEAD] = head + 1  # from here on nothing is called, so that no signal handler comes in between
                if durations is not None:
                    cells[first + 1] += duration
                    cells[bucket] += 1.0
            except BaseException as error:  # noqa: BLE001  `recover` raises it again
                measures = (inference_time, batch_size, preprocessing_time, quantization_time)
                args = (ticket, now, *measures, durations, duration)
                if self.recover(error, give, self.complete, args, check=_check):
                    continue
                return
            give(None)
            leave(ticket, now)
            if self.pending:
                self.perform_pending()
            return


def writer_class() -> type[RequestWriter]:
    """What writes requests: in C, where that could be compiled and is used."""
    board, folding = native.in_front("Board", Board), native.in_front("Folding", Folding)
    return native.in_front("Writer", RequestWriter, board_class=board, folding_class=folding)


native.tell(
    "use_layout",
    head=HEAD,
    errors=ERRORS,
    cache_hits=CACHE_HITS,
    cache_misses=CACHE_MISSES,
    busy=BUSY_WORD,
    label_bytes=LABEL_BYTES,
)


def _check(args: tuple[Any, ...]) -> None:
    """Raise the TypeError for measurements that cannot be stored."""
    check_numbers(args[2:6])
