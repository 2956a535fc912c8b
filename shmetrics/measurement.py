"""One request being measured, from its start to the one record that it becomes; and what is being measured now.

A request knows nothing of where it comes from: the wrappers of servers make one for each of theirs, and
`PerformanceMetrics.request` one for what comes otherwise. Stages (`stages`) add their times to the request they are in,
which they find in the context: a context variable that holds the innermost *span*, a request or a stage of one.
"""

from __future__ import annotations  # a descriptor speaks of the class that it is for

import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Final, Generic, TypeVar, overload

from shmetrics import native
from shmetrics.instruments import Histogram
from shmetrics.recorder import Recorder
from shmetrics.slots import ERRORS
from shmetrics.spent import spend, sums

_Value = TypeVar("_Value")


def is_failure(error: BaseException) -> bool:
    """Whether an exception is the application's failure, and not somebody's way of stopping it.

    CancelledError of asyncio, Cancelled of trio, GreenletExit and GeneratorExit are all no `Exception`.
    """
    return isinstance(error, (Exception, SystemExit, KeyboardInterrupt))


class Source:
    """Where requests are recorded, and by what clock (monotonic seconds): what each needs, looked up once."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.recorder = recorder
        self.enter, self.leave, self.complete = recorder.enter, recorder.leave, recorder.complete


class Span:
    """What takes time: a request, or a stage of one."""

    recorder: Recorder
    """Of which hub it is."""
    before: Span | None = None
    """What was the innermost span when this one began. Always older, so that there are no circles."""
    done: bool = False
    owner: object = None
    """Who ends it, where that has to find it."""
    request: RequestMeasurement | None = None
    """Of which request a stage is; None outside of any, and for a request itself: that would be a circle."""

    def begin(self) -> None:
        """From now on it is the innermost span of this context.

        What ended in another context, as a response does that a task of its own sends, may stand here still. It is left
        out, or all that a connection ever asked for would hang together.
        """
        before = current.get()
        if before is not None:
            while before is not None and before.done:
                before = before.before
            self.before = before
        current.set(self)

    def leave(self) -> None:
        """It is over. Spans end in any order, as generators make them, and in another context than they began in."""
        self.done = True
        if current.get() is self:
            before = self.before
            while before is not None and before.done:
                before = before.before
            current.set(before)


current: Final[ContextVar[Span | None]] = ContextVar("shmetrics_span", default=None)

native.tell("use_context", current)


# A child begins with nothing under way: what was at the fork ends in the parent, which records it.
os.register_at_fork(after_in_child=partial(current.set, None))


def innermost(recorder: Recorder) -> Span | None:
    """The innermost span of a hub that is under way in this context."""
    span = current.get()
    while span is not None and (span.done or span.recorder is not recorder):
        span = span.before
    return span


def innermost_of(owner: object) -> Span | None:
    """The innermost span under way in this context that ``owner`` began."""
    span = current.get()
    while span is not None and (span.done or span.owner is not owner):
        span = span.before
    return span


class Steps:
    """Something that runs in steps, a generator say: within a step its own innermost span counts, between them not."""

    __slots__ = ("_others", "_own")

    def __init__(self, own: Span) -> None:
        self._own: Span | None = own
        self._others: Span | None = None
        own.before = current.get()

    @staticmethod
    def after_first(own: Span) -> Steps:
        """The steps of what has begun already, by `Span.begin` in this context: its first step ends now."""
        steps = Steps.__new__(Steps)
        steps._own, steps._others = current.get(), own.before
        current.set(own.before)
        return steps

    def __enter__(self) -> None:
        self._others = current.get()
        current.set(self._own)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._own = current.get()
        current.set(self._others)


class Said(Generic[_Value]):
    """An attribute of a request that says more of it than its time; most requests have none."""

    def __init__(self, default: _Value) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, request: None, owner: type) -> Said[_Value]: ...
    @overload
    def __get__(self, request: RequestMeasurement, owner: type) -> _Value: ...
    def __get__(self, request: RequestMeasurement | None, owner: type) -> _Value | Said[_Value]:
        if request is None:
            return self
        value: _Value = request.__dict__.get(self._name, self._default)
        return value

    def __set__(self, request: RequestMeasurement, value: _Value) -> None:
        request.__dict__[self._name] = value
        request.is_plain = False


class RequestMeasurement(Span):
    """One request being measured. The application may add what it knows; `finish` records it, once.

    Threads that work on the same request may all run stages in it. The rest is for whoever serves the request.
    """

    batch_size = Said[float | None](None)
    """Samples in this request; None for what stages said, and for 1 where they said nothing."""
    preprocessing_time = Said(0.0)
    """Seconds, to which those of the stages are added."""
    quantization_time = Said(0.0)
    """Seconds, to which those of the stages are added."""
    inference_time = Said[float | None](None)
    """Seconds, to which those of the stages are added. None, and no such stage: all that the others leave."""
    elapsed: float = 0.0
    """Seconds from its start to its end; 0.0 before."""
    _failed = Said(False)
    is_discarded = Said(False)

    def __init__(self, source: Source, label: str = "") -> None:
        self._source = source
        self.recorder = source.recorder
        self.done = False  # an attribute of the object is found faster than one of its class
        self.is_plain = True
        """Whether nothing was said of it but its time, and nothing went wrong."""
        clock, enter = source.clock, source.enter  # and called then: see `Writer`, "The path of a request"
        self._start = now = clock()
        self._ticket = enter(label, now)

    @property
    def clock(self) -> Callable[[], float]:
        """What its times are taken by."""
        return self._source.clock

    def spend(self, measure: str, amount: float) -> None:
        """Add to a measure: a stage's seconds by its name, or samples as "batch_size". Any thread may call."""
        spend(self.__dict__.setdefault("_spent", []), measure, amount)  # the same list, whichever thread comes first
        self.is_plain = False

    def fail(self) -> None:
        """Count this request as an error, once, before or after it was recorded."""
        if self.done and not self._failed and not self.is_discarded:
            self.recorder.add(ERRORS, 1)
        self._failed = True

    def discard(self) -> None:
        """Do not record this request: a health check, say."""
        self.is_discarded = True

    def finish(self) -> None:
        """Record the request, once."""
        if not self.done:
            self._finish(None)

    def _finish(self, durations: Histogram | None) -> None:
        """Record it. ``durations``: where its duration counts beside its record."""
        source = self._source
        clock, complete = source.clock, source.complete
        now = clock()
        if self.done:
            return  # another thread has finished it since, or the clock's own code
        self.elapsed = elapsed = now - self._start
        self.done = True  # it may stay what is innermost in its context: what is done is passed over
        if self.is_plain:
            inference = elapsed if elapsed > 0.0 else 0.0
            complete(self._ticket, now, inference, 1, 0.0, 0.0, durations, elapsed)
        elif self.is_discarded:
            source.leave(self._ticket, now)
        else:
            self._complete(now, durations)

    def _complete(self, now: float, durations: Histogram | None) -> None:
        """End it with what was said of it."""
        complete, elapsed = self._source.complete, self.elapsed
        try:
            inference, batch_size, preprocessing, quantization = self._with_stages(self.__dict__.get("_spent", []))
            batch_size = 1 if batch_size is None else batch_size
            complete(self._ticket, now, inference, batch_size, preprocessing, quantization, durations, elapsed)
        except Exception as error:  # noqa: BLE001  the application's objects do this arithmetic, and may raise anything
            self.recorder.mention("request", f"a request's measurements cannot be recorded, only its time: {error!r}")
            complete(self._ticket, now, elapsed, 1, 0.0, 0.0, durations, elapsed)
        if self._failed:
            self.recorder.add(ERRORS, 1)

    def _with_stages(self, spent: list[tuple[str, float]]) -> tuple[float, float | None, float, float]:
        """The four measures of the record, with what the stages took."""
        said = sums(spent)
        samples = said.pop("batch_size", None)
        took = {stage: max(0.0, seconds) for stage, seconds in said.items()}  # negative where stages overlapped
        preprocessing = self.preprocessing_time + took.pop("preprocessing", 0.0)
        quantization = self.quantization_time + took.pop("quantization", 0.0)
        inference = self.inference_time
        if "inference" in took:
            inference = (inference or 0.0) + took.pop("inference")
        elif inference is None:
            inference = max(0.0, self.elapsed - preprocessing - quantization - sum(took.values()))
        return inference, samples if self.batch_size is None else self.batch_size, preprocessing, quantization
