"""Where the time of calls went, by looking: a thread that sees now and then what the functions have called.

It only looks while such a function is under way in this process, and only at the threads where one is. Its components
are the functions that it called itself, and it is found in a stack by its code, so nothing is done at its calls but to
say in which thread they are.
"""

import _thread
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from shmetrics import forks
from shmetrics.profiling.families import AWAITED, OWN, SAMPLING
from shmetrics.profiling.frames import ITSELF, Frame
from shmetrics.profiling.functions import Function, Steps
from shmetrics.profiling.sampler import RATE, Sampler

_LINGER: Final = 0.3
"""Seconds without a function under way, after which nobody looks any more."""
_MOST_KNOWN: Final = 5000
"""Stacks of which it is remembered what they mean."""


class Watch:
    """Looks at functions of this process, from a thread that it starts and ends as needed. Any thread may call.

    ``rate``: looks a second.
    """

    def __init__(self, rate: float = RATE) -> None:
        self._rate = rate
        self._functions: dict[str, Function] = {}
        self.inside: dict[int, int]
        """How many such calls are under way in each thread, by its ident."""
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Nothing is under way, and no thread is there."""
        self.inside = {}
        self._at_work = _thread.allocate_lock()
        """The thread that looks has it."""
        self._runs = False

    def add(self, frame: str, function: Function) -> None:
        """Look at this function from now on. ``frame``: what it is called in stacks."""
        self._functions[frame] = function

    def look(self) -> None:
        """A call has begun: look from now on."""
        if not self._runs:
            self._start()

    def _start(self) -> None:
        """Have a thread look. One too many ends at once: where two calls start one, or this one is interrupted."""
        try:
            self._runs = True
            # Not `threading`, whose `start` waits for the thread: where a signal handler raises in the middle of that,
            # the thread may never begin, or never be forgotten.
            _thread.start_new_thread(self._run, ())
        except BaseException as error:
            self._runs = False
            if not isinstance(error, RuntimeError):  # no more threads can be started here, or the interpreter ends
                raise

    def _run(self) -> None:
        at_work = self._at_work
        if not at_work.acquire(blocking=False):
            return
        try:
            self._look_on()
        finally:
            at_work.release()
            self._runs = False  # after it: whom it kept from work has set this already
        if self.inside:  # a call has begun meanwhile, and found that somebody still looked
            self._start()

    def _look_on(self) -> None:
        sampler = Sampler(self._rate, idle=True, only=self.inside)
        known: dict[tuple[int, ...], list[tuple[Function, str]]] = {}
        idle_since = time.monotonic()

        def wait(seconds: float) -> bool:
            nonlocal idle_since
            counts = sampler.taken()
            for numbers, samples in counts.stacks.items():
                meaning = known.get(numbers)
                if meaning is None:
                    meaning = self._meaning([counts.frames[number] for number in numbers])
                    if len(known) < _MOST_KNOWN:
                        known[numbers] = meaning
                for function, component in meaning:
                    means = SAMPLING if function.runs_at_once else AWAITED
                    function.part((means, component)).inc(samples * sampler.interval)
            now = time.monotonic()
            if self.inside:
                idle_since = now
            time.sleep(seconds)
            return now - idle_since > _LINGER

        sampler.run(wait)

    def _meaning(self, stack: list[Frame]) -> list[tuple[Function, str]]:
        """For each function in a stack, the component that it was in."""
        found = []
        for name in {frame.name for frame in stack} & self._functions.keys():
            at = next(at for at, frame in enumerate(stack) if frame.name == name)
            within = [frame for frame in stack[at:] if frame.name != name and frame.package != ITSELF]
            found.append((self._functions[name], (within[0].package or within[0].name) if within else OWN))
        return found


def watched(target: Callable[..., Any], watch: Watch) -> Callable[..., Any]:
    """The target, which is looked at while it is under way."""

    def call(*args: Any, **kwargs: Any) -> Any:
        inside, ident = watch.inside, threading.get_ident()
        before = inside.get(ident)
        try:
            inside[ident] = (before or 0) + 1
            watch.look()
            return target(*args, **kwargs)
        finally:  # calls nothing of ours, where a signal handler could raise before it is done
            if before is None:
                inside.pop(ident, None)
            else:
                inside[ident] = before

    return call


class WatchedSteps(Steps):
    """One call of a generator or coroutine, whose steps are looked at."""

    __slots__ = ("_ident", "_watch")

    def __init__(self, function: Function, clock: Callable[[], float], watch: Watch) -> None:
        super().__init__(function, clock)
        self._watch = watch
        self._ident: int | None = None
        """Of the thread that a step is under way in."""

    def __enter__(self) -> None:
        inside, ident = self._watch.inside, threading.get_ident()
        now = inside.get(ident, 0) + 1
        inside[ident] = now  # from here to the next line nothing is called, so no signal handler can raise
        self._ident = ident
        self._watch.look()
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._leave()

    def finish(self, error: BaseException | None) -> None:
        """The call is over."""
        self._leave()  # its last step, unless that could end
        super().finish(error)

    def _leave(self) -> None:
        ident = self._ident
        if ident is None:
            return
        inside = self._watch.inside
        left = inside.get(ident, 0) - 1
        self._ident = None  # from here on nothing is called before it is done
        if left > 0:
            inside[ident] = left
        else:
            inside.pop(ident, None)
