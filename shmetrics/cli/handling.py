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
