"""What subclasses of the original PerformanceMetrics rely on: a list of inference times, and a lock around it.

New code has no need of this file; `metrics.PerformanceMetrics` hands it out so that old code goes on working.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from shmetrics.arrays import np
from shmetrics.writer import Writer

if TYPE_CHECKING:
    from numpy.typing import NDArray


class InferenceTimes(Sequence[float]):
    """This process's own window, as if it were a list of seconds: len, indexing, iteration, append, pop(0), numpy.

    The ring behind it forgets by itself, so `pop(0)` only shortens this view of it. Any thread may call; each call sees
    the window of that moment.
    """

    def __init__(self, writer: Writer, window_size: int) -> None:
        self._writer = writer
        self._window_size = window_size
        self._popped_to = 0
        self.unacknowledged = 0
        """Appends whose request has not been added to `total_requests` by hand yet."""

    def _values(self) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self._writer.latest(len(self))["inference_time"]
        return values

    def __len__(self) -> int:
        head = self._writer.committed
        self._popped_to = min(self._popped_to, head)  # a fork starts from nothing
        return min(self._window_size, head - self._popped_to)

    @overload
    def __getitem__(self, index: int) -> float: ...

    @overload
    def __getitem__(self, index: slice) -> list[float]: ...

    def __getitem__(self, index: int | slice) -> float | list[float]:
        values: list[float] = self._values().tolist()
        return values[index]

    def __iter__(self) -> Iterator[float]:
        return iter(self._values().tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self._values().astype(dtype or np.float64)

    def append(self, value: float) -> None:
        """Record one inference of that many seconds."""
        self._writer.record(value)
        self.unacknowledged += 1

    def pop(self, index: int = 0) -> float:
        """Forget the oldest; only ``pop(0)`` is possible in a rolling window."""
        if index != 0:
            raise ValueError(f"only the oldest inference time can be popped, pop(0), not pop({index})")
        length = len(self)
        if not length:
            raise IndexError("pop from an empty window")
        value = self[0]
        self._popped_to = self._writer.committed - length + 1
        return value

    def __repr__(self) -> str:
        return f"InferenceTimes({self._values().tolist()!r})"
