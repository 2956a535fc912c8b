"""Stages: which part of a request takes how long, without arithmetic in the application.

    with metrics.stage("preprocessing"):
        batch = tokenize(texts)

Every moment of a request counts once, for the innermost stage that it is in. PREPROCESSING, INFERENCE and QUANTIZATION
are measures of the request's record. Further stages are declared, since an unknown name is more often a slip than a
wish, and go to a histogram.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeVar

from shmetrics.book import Book
from shmetrics.decorated import decorated
from shmetrics.families import OVERFLOW, Definition
from shmetrics.instruments import Histogram
from shmetrics.measurement import RequestMeasurement, Span, innermost, innermost_of
from shmetrics.recorder import Recorder

PREPROCESSING: Final = "preprocessing"
INFERENCE: Final = "inference"
QUANTIZATION: Final = "quantization"
RECORDED: Final = (PREPROCESSING, INFERENCE, QUANTIZATION)
"""The stages that the record of a request has room for."""

DURATION: Final = Definition(
    "stage_duration_seconds",
    "histogram",
    "Time in a declared stage, without the stages in it",
    "seconds",
    ("stage",),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_LONGEST_NAME: Final = 100

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _StageSpan(Span):
    """A stage that some code is in."""

    def __init__(self, stage: "Stage", outer: Span | None) -> None:
        self.owner = stage
        self.recorder = stage.recorder
        self.outer = outer if isinstance(outer, _StageSpan) else None
        self.request = request_of(outer)
        self.inner = 0.0
        """Seconds in the stages within."""
        self.clock = clock = time.monotonic if self.request is None else self.request.clock
        self.start = clock()


def request_of(span: Span | None) -> RequestMeasurement | None:
    """The request that a span is, or is in."""
    return span if isinstance(span, RequestMeasurement) else None if span is None else span.request


class Stage:
    """A stage, to be entered by `with`, or to decorate functions, coroutines and generators.

    One object may be entered by any thread and task, any number of times, and in itself.
    """

    def __init__(
        self, name: str, recorder: Recorder, histogram: Histogram | None, batch_size: float | None = None
    ) -> None:
        self.name = name
        self.recorder = recorder
        self._histogram = histogram
        self._batch_size = batch_size
        self._has_told = False

    def with_batch_size(self, batch_size: float) -> "Stage":
        """The same stage, which adds so many samples to its request. TypeError for what is no number."""
        return Stage(self.name, self.recorder, self._histogram, samples(batch_size))

    def __enter__(self) -> None:
        span = _StageSpan(self, innermost(self.recorder))
        span.begin()
        if self._batch_size is not None and span.request is not None:
            span.request.spend("batch_size", self._batch_size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        span = innermost_of(self)
        if not isinstance(span, _StageSpan):  # a generator's, ended by the garbage collector in some other context
            return
        span.leave()
        clock = span.clock
        seconds = clock() - span.start
        if span.outer is not None:
            span.outer.inner += seconds
        request = span.request
        if request is not None:
            request.spend(self.name, seconds - span.inner)
        if self._histogram is not None:
            self._histogram.observe(max(0.0, seconds - span.inner))
        elif request is None and not self._has_told:
            self._has_told = True
            self.recorder.mention(
                "stage",
                f"stage {self.name!r} outside of any request is not recorded; wrap the application in a middleware of "
                f"shmetrics.workers, or use metrics.request() or @metrics.measure",
            )

    def finish(self, error: BaseException | None) -> None:
        """A decorated call is over: nothing more is to be done. See `decorated.Call`."""

    def __call__(self, function: _Function) -> _Function:
        """Decorate a function: each call is in the stage. TypeError for what cannot be called."""
        return decorated(function, lambda args, kwargs: self)


def samples(batch_size: Any) -> float:
    """A batch size as a float. TypeError for what is no number."""
    if isinstance(batch_size, (str, bytes)):
        raise TypeError(f"a batch size must be a number, not {batch_size!r}")
    return float(batch_size)


class Stages(dict[str, Stage]):
    """The stages of a hub, by name, in this process. Any thread may call."""

    def __init__(self, recorder: Recorder, book: Book) -> None:
        super().__init__({name: Stage(name, recorder, None) for name in RECORDED})
        self._recorder = recorder
        self._book = book

    def __missing__(self, name: str) -> Stage:
        """A stage that another process has declared. ValueError for one that nobody has."""
        declared = self._declared()
        if name in declared:
            return self._add(name)
        known = [*RECORDED, *declared]
        import difflib  # noqa: PLC0415  for an error only

        close = difflib.get_close_matches(str(name), known, 1)
        raise ValueError(
            f"there is no stage {name!r}; there are {', '.join(known)}. "
            + (f"Did you mean {close[0]!r}? " if close else "")
            + f"Another one is declared by metrics.add_stages({str(name)!r}), once"
        )

    def declare(self, names: tuple[str, ...]) -> None:
        """Have further stages, in the whole hub. ValueError for names that cannot be."""
        for name in names:
            if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or name == OVERFLOW:
                raise ValueError(f"{name!r} cannot be a stage; wanted a text of 1 to {_LONGEST_NAME} characters")
        for name in names:
            if name not in self:
                self._add(name)

    def _add(self, name: str) -> Stage:
        metric = self._book.agree(DURATION)
        stage = self[name] = Stage(name, self._recorder, None if metric is None else metric.labels(name))
        return stage

    def _declared(self) -> list[str]:
        contents = self._book.contents()
        metric = contents.metric(DURATION.name)
        return sorted(labels[0] for serial, labels in contents.index if serial == metric and labels != (OVERFLOW,))
