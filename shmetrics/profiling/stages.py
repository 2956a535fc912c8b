"""Stages of profiled functions: ``with profiler.stage("inference"):``, or ``@profiler.stage("inference")``.

A stage is part of the innermost profiled function that is under way in its thread or task. Its time is without that of
stages within it, and with that of functions that it calls, profiled or not.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, TypeVar

from shmetrics.decorated import decorated
from shmetrics.profiling import calls

_LONGEST: Final = 100

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Stage:
    """A stage, to be entered by `with`, or to decorate functions, coroutines and generators.

    One object may be entered by any thread and task, any number of times, and in itself. ``mention``: says once what is
    wrong.
    """

    def __init__(self, name: str, clock: Callable[[], float], mention: Callable[[str, str], None]) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST:
            raise ValueError(f"a stage's name must be a text of 1 to {_LONGEST} characters, not {name!r}")
        self.name = name
        self._clock = clock
        self._mention = mention

    def __enter__(self) -> None:
        if calls.begin_span(self, self._clock) is None:
            self._mention(
                "profiled stage",
                f"stage {self.name!r} outside of any profiled function is not recorded; decorate the function that it "
                f"is in with @profiler.profile_function",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        calls.end_span(self, self._clock)

    def finish(self, error: BaseException | None) -> None:
        """A decorated call is over: nothing more is to be done. See `decorated.Call`."""

    def __call__(self, function: _Function) -> _Function:
        """Decorate a function: each call is in the stage. TypeError for what cannot be called."""
        return decorated(function, lambda args, kwargs: self)
