"""What is in `in_c`: methods to be put before those of the classes of the same names, as `native` does it.

They take what those take, and are typed where these are.
"""

from contextvars import ContextVar
from typing import Any

from shmetrics.measurement import Span

def use_layout(*, head: int, errors: int, cache_hits: int, cache_misses: int, busy: int) -> None: ...
def use_context(variable: ContextVar[Span | None], /) -> None: ...
def use_fold(
    *,
    valid: int,
    errors: int,
    sum: int,
    min: int,
    max: int,
    sketch: int,
    second: int,
    requests: int,
    second_errors: int,
    latency_sum: int,
    latency_max: int,
    seconds: int,
    buckets: int,
    end: int,
    surely_valid: int,
    latest: float,
    shift: int,
    lowest: memoryview[Any],
    upper: memoryview[Any],
) -> None: ...

class Board: ...
class Writer: ...
class Instrument: ...
class Counter(Instrument): ...
class Gauge(Instrument): ...
class Histogram(Instrument): ...
class Summary(Instrument): ...
class HttpRequest: ...
class Folding: ...
