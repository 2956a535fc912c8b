"""Signal handlers for as long as a verb runs: `main` may be called by a program that has its own."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handling(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals by ``handler`` in the block, and as before after it. Main thread only (ValueError elsewhere)."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, disposition in before.items():
            if disposition is not None:  # else it was not set from Python, and Python cannot set it
                signal.signal(number, disposition)


class Ending:
    """A handler for a loop that goes on until a signal comes, which asks it at each turn, and ends in an orderly way.

    It raises nothing. An exception of a handler is lost where the main thread happens to be in a destructor or in a
    callback of weakref or of the garbage collector: CPython says "Exception ignored in", and goes on. It would also
    end a turn of the loop half-way. A second signal raises SystemExit all the same: the loop may not get to look,
    because nobody reads the pipe that it prints to.
    """

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Be the handler of a signal."""
        if self._asked:
            raise SystemExit(0)
        self._asked = True

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked


class Interruption:
    """A handler that interrupts at once, and for long work that calls `check` at every step: what a handler raises may
    be lost (see `Ending`).
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None
        """What was raised."""

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Be the handler of a signal: raises KeyboardInterrupt."""
        self._error = KeyboardInterrupt()
        raise self._error

    def check(self) -> None:
        """Raise it again if a signal came that did not end the work."""
        if self._error is not None:
            raise self._error
