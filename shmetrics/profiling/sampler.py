"""The sampler: looks at where every thread is, a hundred times a second, and counts.

A look takes the interpreter's own list of frames (`stacks.walker`), so it needs nothing of the code that it looks at,
and costs that code nothing between two looks. It holds the interpreter's lock while it looks, for some ten
microseconds, and has to wait for it first. So a look may come late: code that keeps the lock (an extension that never
releases it) is found when it lets go, and a late look counts for all the looks that were due meanwhile. What it costs
is measured, and when it comes to more than its share the next look is put off; it counts for those left out as well.

To wait for the lock is what can mislead: Python gives it up every 5 ms by itself, and before that when it calls what
works without it (numpy, hashing, a socket). Code that does so every few milliseconds would always be found there, and
never in the Python between. So as long as anything samples, the lock is given up after 0.1 ms (`_Prompt`), when another
thread wants it.

A steady beat is what can mislead as well: work that repeats itself every 20 ms would always be found at the same two
of its places by a hundred looks a second. So time is cut into intervals, and each look comes at random within its own.

A thread *waits* when it is in a function that is known to wait (`WAITS`), or has used no processor time to speak of
since the last look: then it is in a lock, a socket, a timer or a device, whatever code called that.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from types import CodeType, TracebackType
from typing import Any, Final

from shmetrics import forks, stacks
from shmetrics.profiling.counts import Counts
from shmetrics.profiling.frames import Frame, frame

RATE: Final = 100.0
"""Looks a second."""
SHARE: Final = 0.0125
"""Of one processor, what looking may cost: with what the others lose while they wait for a look, under 2 %."""

_GRACE: Final = 0.001
"""Seconds of processor time that may be spent before the share is held to: the first looks name all that they see."""
_PROMPT: Final = 0.0001
"""Seconds after which a thread that has the interpreter's lock gives it to one that wants it."""
_IDLE: Final = 0.02
"""A thread that used less than this share of the time since the last look waited."""
_DEEPEST: Final = 250
"""Frames of a stack; of a deeper one the innermost are kept."""
_MOST_STACKS: Final = 5000
"""Different stacks that are told apart between two collections."""
_MOST_NAMES: Final = 50_000
"""Functions that are told apart; code that is made while it runs is without end."""
_DEEPER: Final = 0
_OTHER: Final = 1
"""Places in every table of frames: what a stack too deep begins with, and all that is past what is told apart."""

WAITS: Final = frozenset(
    {
        ("selectors", "select"),
        ("threading", "wait"),
        ("threading", "join"),
        ("threading", "_wait_for_tstate_lock"),
        ("socket", "accept"),
        ("socketserver", "get_request"),
        ("queue", "get"),
        ("subprocess", "_try_wait"),
        ("concurrent.futures.thread", "_worker"),
        ("multiprocessing.connection", "_recv"),
        ("multiprocessing.connection", "wait"),
        ("multiprocessing.popen_fork", "poll"),
        ("shmetrics.profiling.listener", "_answer_next"),
        ("gunicorn.workers.sync", "wait"),
        ("gunicorn.arbiter", "sleep"),
        ("waitress.wasyncore", "poll"),
    }
)
"""Functions, as module and name, that call what waits: where a thread without work is found."""


class _Prompt:
    """A block in which threads get the interpreter's lock soon; several may be under way at once."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._users = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._guard:
            self._users += 1
            if self._users == 1:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(min(self._before, _PROMPT))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                sys.setswitchinterval(self._before)

    def pause(self) -> None:
        """Let whoever has the lock keep it as long as ever: a look that is interrupted takes twice as long."""
        sys.setswitchinterval(self._before)

    def resume(self) -> None:
        """Be prompt again."""
        sys.setswitchinterval(min(self._before, _PROMPT))

    def after_fork_in_child(self) -> None:
        """Nothing samples here. Called by `forks`."""
        if self._users:
            sys.setswitchinterval(self._before)
        self._guard, self._users = threading.Lock(), 0


_prompt: Final = _Prompt()
forks.register(_prompt)

_looking: Final[set[int]] = set()
"""The threads of this process that sample just now, by their ``ident``: no sampler counts another, which is no work of
the application's, and would be found at work at every look that comes when it is due as well."""
os.register_at_fork(after_in_child=_looking.clear)  # another thread may have such a number there


class Sampler:
    """Samples this process from the thread that calls `run`, and no thread that samples. Used once.

    ``rate``: looks a second, 1 to 1000. ``share``: of one processor, what they may cost. ``idle``: count threads that
    wait as if they ran, so that the profile is of time that passes and not of work. ``only``: these threads, by their
    ``ident``, and no others.
    """

    def __init__(
        self,
        rate: float = RATE,
        *,
        share: float = SHARE,
        idle: bool = False,
        only: Collection[int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        if not 1 <= rate <= 1000:
            raise ValueError(f"rate must be 1 to 1000 looks a second, not {rate!r}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, of one processor, not {share!r}")
        self.interval = 1.0 / rate
        self._share = share
        self._idle = idle
        self._only = only
        self._clock = clock
        self._spent = spent
        self._walk = stacks.walker()
        self._draw = random.Random().random  # its own: the application may have seeded the common one
        self._frames: list[Frame] = [Frame("(deeper)"), Frame("(other)")]
        self._known: dict[int, tuple[int, bool, CodeType]] = {}  # the code too, so that its id stays its own
        self._natives: dict[int, int] = {}  # what the kernel calls each thread
        self._processor: dict[int, float] = {}  # and how much processor time it had used, by that
        self._counts = Counts(self._frames)

    def run(self, wait: Callable[[float], bool]) -> None:
        """Look until ``wait(seconds)``, which waits so long at most, says that it is enough."""
        ident = threading.get_ident()
        _looking.add(ident)
        try:
            with _prompt:
                self._run(wait)
        finally:
            _looking.discard(ident)

    def _run(self, wait: Callable[[float], bool]) -> None:
        interval, share, clock, spent, draw = self.interval, self._share, self._clock, self._spent, self._draw
        spent_before = counted = spent()
        begun = last = clock()
        at = 0  # the interval that is looked at next
        due = begun + draw() * interval
        put_off = 0
        while not wait(max(0.0, due - clock())):
            now = clock()
            if now < due:  # woken early, for something else
                continue
            weight = max(1, int((now - begun) / interval) - at)  # the one that goes on by now has a look of its own
            _prompt.pause()
            self._look(put_off + weight, now - last)
            _prompt.resume()
            counts = self._counts
            counts.seconds += (put_off + weight) * interval
            counts.skipped += put_off
            used = spent()
            cost = used - counted
            counts.cost += cost
            counted, last = used, now
            at += weight
            excess = (used - spent_before - _GRACE) / share - at * interval
            # Paid back little by little: looks that are put off past the end of the sampling count for nothing.
            put_off = int(min(excess, 2 * cost / share) / interval) + 1 if excess > 0 else 0
            at += put_off
            due = begun + (at + draw()) * interval

    def taken(self) -> Counts:
        """What was found since the last call. From the thread that runs, or after it has ended."""
        counts, self._counts = self._counts, Counts(self._frames)
        return counts

    def _look(self, weight: int, elapsed: float) -> None:
        """Count where every thread is, as so many samples. ``elapsed``: seconds since the last look."""
        counts = self._counts
        found = counts.stacks
        for ident, calls in self._walk(_DEEPEST + 1, self._only, _looking):
            numbers, waits = self._numbers(calls)
            if not self._idle and (waits or self._rested(ident, elapsed)):
                counts.idle += weight
                continue
            if numbers not in found and len(found) >= _MOST_STACKS:
                numbers = (_OTHER,)
            found[numbers] = found.get(numbers, 0) + weight

    def _rested(self, ident: int, elapsed: float) -> bool:
        """Whether a thread used next to no processor time since the last look.

        The clock of a thread is numbered by its id (``MAKE_THREAD_CPUCLOCK`` of the kernel). ``pthread_getcpuclockid``
        says the same, and may crash for a thread that has ended; to read the clock of one is an error here.
        """
        native = self._natives.get(ident)
        if native is None:
            self._natives = {each.ident or 0: each.native_id or 0 for each in threading.enumerate()}
            there = self._processor.keys() & self._natives.values()
            self._processor = {each: self._processor[each] for each in there}  # threads come and go without end
            native = self._natives.setdefault(ident, 0)
        if native == 0:  # not started by Python
            return False
        try:
            now = time.clock_gettime((~native << 3) | 6)
        except OSError:
            del self._natives[ident]
            return False
        before = self._processor.get(native)
        self._processor[native] = now
        return before is not None and now - before < _IDLE * elapsed

    def _numbers(self, calls: Sequence[tuple[CodeType, dict[str, Any]]]) -> tuple[tuple[int, ...], bool]:
        """A stack as numbers, outermost first, and whether it is in a function that waits."""
        known = self._known
        found = [known.get(id(code)) or self._learn(code, scope) for code, scope in calls]
        numbers = [number for number, _, _ in found]
        if len(numbers) > _DEEPEST:
            numbers[_DEEPEST] = _DEEPER
        numbers.reverse()
        return tuple(numbers), found[0][1]

    def _learn(self, code: CodeType, scope: dict[str, Any]) -> tuple[int, bool, CodeType]:
        if len(self._known) >= _MOST_NAMES:
            return _OTHER, False, code
        module = str(scope.get("__name__", "?"))
        function: str = getattr(code, "co_qualname", code.co_name)  # from Python 3.11 on with the class
        self._frames.append(frame(code.co_filename, function, module))
        found = len(self._frames) - 1, (module, code.co_name) in WAITS, code
        self._known[id(code)] = found
        return found
