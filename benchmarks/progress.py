"""How far a scenario is: a bar on standard error, where there is a terminal to see it."""

import sys
from collections.abc import Callable
from typing import Final

Progress = Callable[[int, int], None]
"""So many of so many are done."""
_WIDTH: Final = 30
_FINE: Final = 10_000


def silent(_done: int, _total: int) -> None:
    """Show nothing."""


def part(progress: Progress, number: int, parts: int) -> Progress:
    """The progress of one of several parts that take about as long as each other; ``number`` counts from 0."""
    return lambda done, total: progress(_FINE * number + _FINE * done // total, _FINE * parts)


class Bar:
    """A `Progress` that is seen, and that is gone after the block. ``check``: called at every step; it may raise."""

    def __init__(self, name: str, check: Callable[[], None]) -> None:
        self._name = name
        self._check = check
        self._shown = sys.stderr.isatty()
        self._last = -1

    def __call__(self, done: int, total: int) -> None:
        """Paint it."""
        self._check()
        percent = 100 * done // total
        if self._shown and percent != self._last:  # else it would be painted as often as something is timed
            self._last = percent
            filled = _WIDTH * percent // 100
            bar = f"[{'#' * filled}{'.' * (_WIDTH - filled)}]"
            print(f"\r{bar} {percent:3} %  {self._name}\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "Bar":
        self(0, 1)  # what must be there first may take a while
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
