"""The custom metrics that profiled functions are kept in, and how many of their cells one function takes. Pure.

A function takes a series of each of the first two, 86 cells and 2 blocks of the catalog, and 2 cells and a block for
each of its parts. So fifty functions with five parts each take 4,800 of the 8,192 cells and 350 of the 1,024 blocks
that a hub has by default.
"""

from typing import Final, TypeAlias

from shmetrics.families import Definition

_TEN: Final = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)
"""The preferred numbers of ISO 3, ten to a decade: two neighbours are a factor of 1.28 apart at most."""
_DECADES: Final = range(-6, 2)

BOUNDS: Final = (*(float(f"{number:g}e{decade}") for decade in _DECADES for number in _TEN), 100.0)
"""Seconds: a microsecond to a hundred seconds. A time is known to 14 % by the bucket that it is in."""

DURATION: Final = Definition(
    "profiled_function_duration_seconds",
    "histogram",
    "Calls of profiled functions by how long they took; in the sum recursive calls count once",
    "seconds",
    ("function",),
    BOUNDS,
)
ERRORS: Final = Definition(
    "profiled_function_errors_total",
    "counter",
    "Calls of profiled functions that raised an exception",
    labels=("function",),
)
PARTS: Final = Definition(
    "profiled_function_part_seconds_total",
    "counter",
    "Time of profiled functions in their parts, by the means by which they were found",
    "seconds",
    ("function", "means", "part"),
)
SAMPLED: Final = Definition(
    "profiled_function_sampled_calls_total",
    "counter",
    "Calls of profiled functions that were chosen for cProfile, by whether they could be profiled",
    labels=("function", "outcome"),
)
PROFILED: Final = "profiled"
SKIPPED: Final = "skipped"
"""Outcomes of those."""

Key: TypeAlias = tuple[str, str]
"""Of a part of a function: its means and its name."""

CALL: Final = "call"
"""Means of a part that is another profiled function, called outside of any stage."""
STAGE: Final = "stage"
NESTED: Final[Key] = ("nested", "")
"""The time in profiled functions that were called within stages, of which it is part."""
EXACT: Final = (CALL, STAGE)
"""Means that tell of every moment of every call; what others find is a sample."""
CPROFILE: Final = "cprofile"
SAMPLING: Final = "sampling"
AWAITED: Final = "sampling_awaited"
"""Sampling of what is not on any stack while it waits: a coroutine."""

OWN: Final = "(own code)"
"""What a function does itself."""
