"""Requests that no server's wrapper measures: a block, or the calls of a function.

    with metrics.request(batch_size=8):          @metrics.measure(batch_size=len)
        predict(batch)                           def predict(batch): ...

Each is a request of its own, with one record at its end. Within a request that is being measured it is no second one,
but its inference stage: so the same code reports right in a server and out of it.
"""

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from shmetrics.measurement import RequestMeasurement, Source, Steps, innermost, is_failure
from shmetrics.recorder import Recorder
from shmetrics.stages import Stage, request_of, samples

_ELSEWHERE: Final = ""
"""A stage that nobody can declare: the time between the steps of a generator."""

BatchSize = float | Callable[..., float] | None
"""Samples, or a function of the arguments of the measured one that says how many."""


class Measured:
    """One call of a measured function, in steps; see `decorated.Call`. Used by one thread or task."""

    def __init__(self, source: Source, inference: Stage, batch_size: float | None) -> None:
        self._source = source
        self._inference = inference
        self._batch_size = batch_size
        self._request: RequestMeasurement | None = None
        self._steps: Steps | None = None  # of a request of its own
        self._left_at = 0.0

    def __enter__(self) -> Any:
        request = self._request
        if request is None:
            request = self._request = self._begin()
        elif self._steps is not None:
            request.spend(_ELSEWHERE, self._source.clock() - self._left_at)
        (self._inference if self._steps is None else self._steps).__enter__()
        return request

    def _begin(self) -> RequestMeasurement:
        request = request_of(innermost(self._source.recorder))
        if request is None:
            request = RequestMeasurement(self._source)
            self._steps = Steps(request)
        if self._batch_size is not None:
            request.spend("batch_size", self._batch_size)
        return request

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self._inference if self._steps is None else self._steps).__exit__(kind, error, trace)
        self._left_at = self._source.clock()

    def finish(self, error: BaseException | None) -> None:
        """Record the request, if it is its own; what the application raised is an error."""
        if self._steps is not None and self._request is not None:
            if error is not None and is_failure(error):
                self._request.fail()
            self._request.finish()


class MeasuredBlock(Measured):
    """A request that is a block: one step, and the end of it the end. Entering it gives the request."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.finish(error)


def batch_sizes(
    batch_size: BatchSize, function: Callable[..., Any], recorder: Recorder
) -> Callable[[tuple[Any, ...], dict[str, Any]], float | None]:
    """Says of the arguments of each call how many samples it has. TypeError for what is no number and no function.

    What the application's function raises is logged, and never raised into the request.
    """
    if not callable(batch_size):
        size = None if batch_size is None else samples(batch_size)
        return lambda args, kwargs: size

    def size_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
        try:
            if kwargs:  # so that `len` does for a function that is called by the names of its parameters
                bound = inspect.signature(function).bind(*args, **kwargs)
                args, kwargs = bound.args, bound.kwargs
            return samples(batch_size(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  the application's own function may raise anything
            recorder.mention("batch_size", f"the batch size of a measured call cannot be told: {error!r}")
            return None

    return size_of
