"""What something takes that is done once: of the processor, by this thread, and of the time that passes."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

_Value = TypeVar("_Value")

Taken = dict[str, float]
"""``processor`` and ``passed``, in seconds."""


def taken(work: Callable[[], object]) -> Taken:
    """Do it."""
    begun, busy = time.perf_counter(), time.thread_time()
    work()
    return {"processor": time.thread_time() - busy, "passed": time.perf_counter() - begun}


def by_key(rounds: Sequence[Mapping[str, _Value]]) -> dict[str, list[_Value]]:
    """Of a mapping for each round a list for each key."""
    return {key: [one[key] for one in rounds] for key in rounds[0]}
