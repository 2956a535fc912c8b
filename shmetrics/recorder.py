"""The recorder: the contract between what measures and what writes, so that another writer can stand in."""

from typing import Protocol

from shmetrics.instruments import Histogram


class Recorder(Protocol):
    """What records: the few operations on the path of a request."""

    def record(
        self, inference_time: float, batch_size: float, preprocessing_time: float, quantization_time: float, /
    ) -> None:
        """Commit one record."""

    def add(self, word: int, amount: int, /) -> None:
        """Add to one of the slot's counters."""

    def enter(self, label: str = "", now: float | None = None, /) -> int:
        """Show a request on the in-flight board; returns its ticket. ``label``: the route's template, say.

        ``now``: monotonic seconds, where the caller has just read the clock.
        """

    def relabel(self, ticket: int, label: str, /) -> None:
        """Give it another label, once more is known of it."""

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
        /,
    ) -> None:
        """End a request: commit its record, count its duration, and take it off the board, all of it at `now`."""

    def go_on(self) -> None:
        """Say that this worker goes on, in the middle of a request: it sends a part of a long response, say."""

    def leave(self, ticket: int, now: float | None = None, /) -> None:
        """Take it off again. ``now``: as for `enter`."""

    def mention(self, kind: str, message: str, /) -> None:
        """Log a warning, once per kind and process."""
