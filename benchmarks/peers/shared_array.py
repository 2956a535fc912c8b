"""What one writes by hand: a `multiprocessing.Array` that all workers share, under its lock.

A distribution is a sum and a count for each bucket, and percentiles come from the bounds of these.
"""

import multiprocessing
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final

from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.peers import (
    COUNTER,
    ERROR,
    GAUGE,
    HISTOGRAM,
    IN_FLIGHT,
    MEASUREMENT,
    REQUEST,
    STAGE,
    VALUE,
    Peer,
)

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PLACES: Final = 5
_HEAD, _ERRORS, _THINGS, _QUEUE, _FLYING = range(_PLACES)
_SIZE: Final = len(BOUNDS) + 2
"""Of a distribution: its sum, and its buckets."""


def _observe(number: int, value: object) -> str:
    """Code that adds to one of the distributions; the lock is held."""
    at = _PLACES + number * _SIZE
    return f"    values[{at}] += {value}\n    values[{at + 1} + bucket(bounds, {value})] += 1\n"


class _Timer:
    """A block that is timed."""

    def __init__(self, array: Any) -> None:
        self._lock, self._values = array.get_lock(), array.get_obj()

    def __enter__(self) -> None:
        self._begun = perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = perf_counter() - self._begun
        with self._lock:
            self._values[_PLACES] += seconds
            self._values[_PLACES + 1 + bisect_left(BOUNDS, seconds)] += 1


@contextmanager
def _open(_directory: str) -> Iterator[Any]:
    yield multiprocessing.Array("d", _PLACES + len(MEASUREMENT) * _SIZE)


def _calls(array: Any) -> Mapping[str, Work]:
    of: dict[str, Any] = {"lock": array.get_lock(), "values": array.get_obj()}
    observe: dict[str, Any] = {**of, "bounds": BOUNDS, "bucket": bisect_left}
    request = "".join(_observe(number, value) for number, value in enumerate(MEASUREMENT))
    return {
        REQUEST: Call(f"with lock:\n    values[{_HEAD}] += 1\n{request}", **observe),
        ERROR: Call(f"with lock:\n    values[{_ERRORS}] += 1", **of),
        COUNTER: Call(f"with lock:\n    values[{_THINGS}] += 1", **of),
        GAUGE: Call(f"with lock:\n    values[{_QUEUE}] = {VALUE}", **of),
        HISTOGRAM: Call(f"with lock:\n{_observe(0, VALUE)}", **observe),
        STAGE: Call("with timer(array):\n    pass", timer=_Timer, array=array),
        IN_FLIGHT: Call(f"with lock:\n    values[{_FLYING}] += 1\nwith lock:\n    values[{_FLYING}] -= 1", **of),
    }


PEERS = (Peer("multiprocessing.Array with its lock", _open, _calls, lacking=lambda: "", shared=True),)
