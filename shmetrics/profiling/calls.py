"""Calls: what is under way in this thread or task, and to what each moment of it belongs.

A context variable holds the innermost of the calls and stages under way; each knows what it is in. A call that is over
stays there until the next one begins, and is passed over: setting the variable is the dearest part of a call, so it is
done once and not twice. (To change an object of the thread instead would be cheaper, and wrong: tasks, greenlets, and
threads with a copy of the context would share it.) When a call ends, it tells the call around it how long it took, and
nothing is written before the outermost call of a function has ended. So a function that calls itself counts every call,
and every moment once.

Of the time of a call, its *parts* are its stages, and the profiled functions that it called outside of any stage; what
is left is its own. All that is `spent` in a function goes to its outermost call.
"""

import math
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol

from shmetrics.profiling.families import NESTED, STAGE, Key
from shmetrics.spent import spend as spend_on


class Kept(Protocol):
    """What is kept of one profiled function."""

    called: Key
    """Key of it as a part of another."""


class Named(Protocol):
    """What begins stages."""

    name: str


class Call:
    """One call of a profiled function, or one step of a generator's: while it is under way."""

    __slots__ = ("function", "outer", "spent")

    function: Kept | None
    """None once it is over."""
    outer: "Call | Span | None"
    """What it is in."""
    spent: "list[tuple[Key, float]] | None"
    """Seconds that are not its own; a list once there are any. Any thread may append."""
    first: "Call | None" = None
    """The outermost call of the same function around it; None where it is that itself. See `_first`."""
    up: "Call | None" = None
    """The next call outwards that is the outermost one of its function. See `_sort_out`."""


class NestedCall(Call):
    """A call within another, or within a stage of it. Most calls are not, and are made faster for it."""

    __slots__ = ("first", "up")

    first: Call | None
    up: Call | None


class Span:
    """A stage that some code is in. ``call``: the call that it is part of."""

    __slots__ = ("call", "inner", "is_over", "outer", "owner", "start")

    call: Call

    def __init__(self, owner: Named, outer: "Call | Span") -> None:
        self.owner = owner
        self.outer: Call | Span | None = outer
        self.call = outer.call if isinstance(outer, Span) else outer
        self.is_over = False
        self.inner = 0.0
        """Seconds in the stages within."""
        self.start = math.inf

    @property
    def function(self) -> Kept | None:
        """Of which function it is a stage; None once it is over, or the call that it was left open in."""
        return None if self.is_over else self.call.function


MANY: Final = 50
"""Times that a call may take in before it is looked at whether they should be added up."""

current: Final[ContextVar[Call | Span | None]] = ContextVar("shmetrics_profiled", default=None)


def _forget() -> None:
    """In a forked child: what was under way ends in the parent, which counts it."""
    under_way = current.get()
    while under_way is not None:
        if isinstance(under_way, Call):
            under_way.function = None
            under_way.spent = under_way.spent or []  # so that its end is looked at
        under_way = under_way.outer
    current.set(None)


os.register_at_fork(after_in_child=_forget)


def innermost() -> Call | Span | None:
    """What is under way in this context: a task may outlive the call that it was started in."""
    found = current.get()
    while found is not None and found.function is None:
        found = found.outer
    return found


def begin(function: Kept) -> Call:
    """A call begins; the caller makes it the innermost of the context."""
    outer = current.get()
    while outer is not None and outer.function is None:  # as `innermost` does
        outer = outer.outer
    if outer is not None:
        return begin_within(outer, function)
    call = Call()
    call.function = function
    call.outer = call.spent = None
    return call


def begin_within(outer: Call | Span, function: Kept) -> Call:
    """A call begins in what is `innermost`."""
    call = NestedCall()
    call.function = function
    call.outer = outer
    call.spent = None
    if type(outer) is Call:
        call.up = outer
        call.first = outer if outer.function is function else None
        return call
    around = outer.call if isinstance(outer, Span) else outer
    call.up = each = around if _first(around) is None else around.up
    while each is not None and each.function is not function:
        if each.function is None:
            _sort_out(call)
            return call
        each = each.up
    call.first = each
    return call


def _first(call: Call) -> Call | None:
    """The outermost call of the same function around it, as things are now."""
    first = call.first
    if first is not None and first.function is None:
        _sort_out(call)
        first = call.first
    return first


def _sort_out(innermost: Call) -> None:
    """Find anew what is outermost, from a call outwards: a task has outlived what was."""
    found: list[tuple[Kept, Call]] = []
    each: Call | Span | None = innermost
    while each is not None:
        call = each.call if isinstance(each, Span) else each
        function = call.function
        if function is not None:
            found.append((function, call))
        each = call.outer
    outermost: dict[Kept, Call] = {}
    up = None
    for function, call in reversed(found):
        first = outermost.setdefault(function, call)
        if isinstance(call, NestedCall):
            call.up = up
            call.first = None if first is call else first
        if first is call:
            up = call


def _let_go(inner: Call | Span) -> None:
    """Forget what was over around what is over now: all tasks that ever started one another would hang together."""
    outer = inner.outer
    while outer is not None and outer.function is None:
        outer = outer.outer
    inner.outer = outer


def end(call: Call, seconds: float) -> bool:
    """It is over; whether its time is to be counted, since no call of the same function is around it."""
    function, outer = call.function, call.outer
    if outer is None or function is None:
        call.function = None
        return True
    if type(outer) is Call:  # which is in no other: what follows, without the looks further out
        call.function = None
        caller = outer.function
        if caller is function:
            return False
        if caller is not None:
            spent = outer.spent
            if spent is None:
                outer.spent = [(function.called, seconds)]
            elif len(spent) < MANY:
                spent.append((function.called, seconds))
            else:
                spend_on(spent, function.called, seconds)
        return True
    first = _first(call)
    call.function = None
    if isinstance(call, NestedCall):  # as it is; what is over keeps nothing together
        call.first = call.up = None
    if outer.function is None:
        _let_go(call)
    around = outer.call if isinstance(outer, Span) else outer
    if around.function is not None and (around.function is not function or outer is not around):
        _spend(around, function.called if outer is around else NESTED, seconds)
    if first is None:
        return True
    # The time is part of what was counted as something of a call around: there it is taken out again.
    for key in _keys_around(outer, function):
        _spend(first, key, -seconds)
    return False


def _keys_around(outer: Call | Span | None, function: Kept) -> tuple[Key, ...]:
    """To what of the next call of the same function around it a call's time is going to belong; ``outer``: it is in."""
    inner = function
    while outer is not None:
        around = outer.call if isinstance(outer, Span) else outer
        if around.function is function:
            if isinstance(outer, Span):
                return (STAGE, outer.owner.name), NESTED
            return (inner.called,) if inner is not function else ()
        inner = around.function or inner
        outer = around.outer
    return ()


def begin_span(owner: Named, clock: Callable[[], float]) -> Span | None:
    """A stage begins; None where no profiled function is under way."""
    outer = innermost()
    if outer is None:
        return None
    span = Span(owner, outer)
    current.set(span)
    span.start = clock()
    return span


def end_span(owner: Named, clock: Callable[[], float]) -> None:
    """The innermost stage of this context that ``owner`` began is over."""
    span = current.get()
    while not isinstance(span, Span) or span.owner is not owner or span.is_over:
        if span is None:  # a generator's, ended by the garbage collector in some other context
            return
        span = span.outer
    seconds = clock() - span.start
    span.is_over = True
    outer = span.outer
    if isinstance(outer, Span):
        outer.inner += seconds
    if outer is not None and outer.function is None:
        _let_go(span)
        outer = span.outer
    current.set(outer)
    if span.call.function is not None:
        _spend(span.call, (STAGE, owner.name), seconds - span.inner)


def _spend(call: Call, key: Key, seconds: float) -> None:
    """So many seconds of the function are not its own."""
    call = _first(call) or call
    spent = call.spent
    if spent is None:
        spent = call.spent = []
    spend_on(spent, key, seconds)


def spend(call: Call, means: str, parts: dict[str, float]) -> None:
    """What some other means found in a call."""
    for name, seconds in parts.items():
        _spend(call, (means, name), seconds)
