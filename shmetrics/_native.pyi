"""What is in `in_c`: methods to be put before those of the classes of the same names, as `native` does it.

They take what those take, and are typed where these are.
"""

from collections.abc import Collection
from contextvars import ContextVar
from typing import Any

from shmetrics.measurement import Span
from shmetrics.stacks import Stack

def use_layout(*, head: int, errors: int, cache_hits: int, cache_misses: int, busy: int, label_bytes: int) -> None: ...
def use_context(variable: ContextVar[Span | None], /) -> None: ...
def use_fold(
    *,
    valid: int,
    invalid: int,
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
    most_records: int,
    latest: float,
    largest_sum: float,
    limit: float,
    shift: int,
    cell_before: int,
    lowest: memoryview[Any],
    upper: memoryview[Any],
) -> None: ...
def use_seconds(
    *,
    second: int,
    requests: int,
    latency_sum: int,
    seconds: int,
    recent: int,
    current: float,
    busy: float,
    minute: float,
) -> None: ...
def use_calls(*, variable: ContextVar[Any], call: type, nested: type, most_spent: int) -> None: ...
def use_copies(
    *,
    state: int,
    generation: int,
    head: int,
    fold: int,
    errors: int,
    hits: int,
    misses: int,
    dropped: int,
    uncounted: int,
    owner: int,
    garbage: int,
    board: int,
    board_words: int,
    labels: int,
    ring: int,
    exemplars: int,
    exemplar_words: int,
    area_words: int,
    lock: int,
    free: int,
    claimed: int,
    most_events: int,
) -> None: ...
def doubtful(areas: Any, folded_records: list[int], now: float, /) -> list[int]: ...
def unpack(packed: Any, area: Any, /) -> None: ...
def add_areas(merged: Any, areas: Any, which: list[int], /) -> None: ...
def worker_facts(
    copy: Any, retired: bool, fleet: tuple[float, int, float, int, tuple[int, ...]], /
) -> dict[str, Any]: ...
def use_cells(*, min: int, max: int, newest: int) -> None: ...
def merge_cells(merged: Any, rows: list[Any], live: list[bool], now: float, /, *plan: Any) -> None: ...
def fill_measures(table: Any, parts: list[Any], /) -> int | None: ...
def moments(values: Any, /) -> tuple[float, float, float, float]: ...
def filled(
    text: bytes,
    places: bytes,
    form: str,
    numbers: Any,
    which: bytes | None,
    remembered: dict[float, str],
    most: int,
    /,
) -> bytes: ...
def written(numbers: list[float], remembered: dict[float, str], most: int, /) -> list[str]: ...
def recent_rates(areas: list[Any], lifetimes: list[float], now: float, /) -> list[tuple[float, float, float]]: ...
def process_stat(pid: int, /) -> tuple[str, int, int, int, int, int] | None: ...
def walk(most: int, only: Collection[int] | None, but: Collection[int], /) -> list[Stack]: ...
def bring(
    slots: list[int],
    place: tuple[int, ...],
    clock: Any,
    descriptor: int,
    types: tuple[Any, ...],
    /,
    *memory: Any,
) -> list[Any]: ...
def at_ranks(rows: Any, count: int, ranks: list[int], /) -> bytearray: ...
def add_tails(areas: Any, tails: list[Any], /) -> list[int]: ...

class Tickets: ...
class Board: ...
class Writer: ...
class Instrument: ...
class Counter(Instrument): ...
class Gauge(Instrument): ...
class Histogram(Instrument): ...
class Summary(Instrument): ...
class HttpSource: ...
class HttpRequest: ...
class Middleware: ...
class Bound: ...
class Folding: ...
class Function: ...
