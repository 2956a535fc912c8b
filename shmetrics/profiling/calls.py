"""Calls: what is under way in this thread or task, and to what each moment of it belongs.

A context variable holds the innermost of the calls and stages under way; each knows what it is in. When one ends, it
tells the call around it how long it took, and nothing is written before the outermost call of a function has ended. So
a function that calls itself counts every call, and every moment once.

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

    __slots__ = ("function", "spent")

    function: Kept | None
    """None once it is over."""
    spent: "list[tuple[Key, float]] | None"
    """Seconds that are not its own; a list once there are any. Any thread may append."""
    outer: "Call | Span | None" = None
    """What it is in."""
    first: "Call | None" = None
    """The outermost call of the same function around it; None where it is that itself."""
    up: "Call | None" = None
    """The next call outwards that is the outermost one of its function."""


class NestedCall(Call):
    """A call within another, or within a stage of it. Most calls are not, and are made faster for it."""

    __slots__ = ("first", "outer", "up")

    outer: "Call | Span | None"
    first: Call | None
    up: Call | None


class Span:
    """A stage that some code is in. ``call``: the call that it is part of."""

    __slots__ = ("call", "function", "inner", "outer", "owner", "start")

    call: Call

    def __init__(self, owner: Named, outer: "Call | Span") -> None:
        self.owner = owner
        self.outer: Call | Span | None = outer
        self.call = outer.call if isinstance(outer, Span) else outer
        self.function: Kept | None = self.call.function
        """None once it is over."""
        self.inner = 0.0
        """Seconds in the stages within."""
        self.start = math.inf


current: Final[ContextVar[Call | Span | None]] = ContextVar("shmetrics_profiled", default=None)


def _forget() -> None:
    """In a forked child: what was under way ends in the parent, which counts it."""
    under_way = current.get()
    while under_way is not None:
        under_way.function = None
        if isinstance(under_way, Call) and under_way.spent is None:
            under_way.spent = []  # so that its end is looked at
        under_way = under_way.outer
    current.set(None)


os.register_at_fork(after_in_child=_forget)


def _live(found: Call | Span | None) -> Call | Span | None:
    """The innermost that is not over: a task may outlive the call that it was started in."""
    while found is not None and found.function is None:
        found = found.outer
    return found


def innermost() -> Call | Span | None:
    """What is under way in this context."""
    found = current.get()
    if found is not None and found.function is None:
        found = _live(found)
    # What a task outlives is let go of, or all that ever started one another would hang together.
    if found is not None and found.outer is not None and found.outer.function is None:
        found.outer = _live(found.outer)
    return found


def begin(function: Kept) -> Call:
    """A call begins; the caller makes it the innermost of the context."""
    outer = current.get()
    if outer is not None and (outer.function is None or (outer.outer is not None and outer.outer.function is None)):
        outer = innermost()
    if outer is None:
        call = Call()
    else:
        call = NestedCall()
        call.outer = outer
        around = outer.call if isinstance(outer, Span) else outer
        call.up = each = around if around.first is None else around.up
        while each is not None and each.function is not function:
            up = each.up
            while isinstance(each, NestedCall) and up is not None and up.function is None:
                up = each.up = up.up
            each = up
        call.first = each
    call.function = function
    call.spent = None
    return call


def end(call: Call, seconds: float) -> bool:
    """It is over; whether its time is to be counted, since no call of the same function is around it."""
    function, outer = call.function, call.outer
    call.function = None
    left_open = current.get()
    if left_open is call or _is_within(
        left_open, call
    ):  # else it ended in another context, by the garbage collector say
        while left_open is not None and left_open is not call:
            left_open.function = None
            left_open = left_open.outer
        current.set(outer)
    if outer is None or function is None:
        return True
    around = outer.call if isinstance(outer, Span) else outer
    first = call.first
    if around.function is not None and (around.function is not function or outer is not around):
        _spend(around, function.called if outer is around else NESTED, seconds)
    if first is None or first.function is None:
        return True
    # The time is part of what was counted as something of a call around: there it is taken out again.
    for key in _keys_around(call, function):
        _spend(first, key, -seconds)
    return False


def _is_within(inner: Call | Span | None, call: Call) -> bool:
    while inner is not None and inner is not call:
        inner = inner.outer
    return inner is call


def _keys_around(call: Call, function: Kept) -> tuple[Key, ...]:
    """To what of the next call of the same function around it a call's time is going to belong."""
    inner, outer = function, call.outer
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
    while not isinstance(span, Span) or span.owner is not owner or span.function is None:
        if span is None:  # a generator's, ended by the garbage collector in some other context
            return
        span = span.outer
    seconds = clock() - span.start
    span.function = None
    outer = span.outer
    current.set(outer)
    if isinstance(outer, Span):
        outer.inner += seconds
    if span.call.function is not None:
        _spend(span.call, (STAGE, owner.name), seconds - span.inner)


def _spend(call: Call, key: Key, seconds: float) -> None:
    """So many seconds of the function are not its own."""
    first = call.first
    if first is not None and first.function is not None:
        call = first
    spent = call.spent
    if spent is None:
        spent = call.spent = []
    spend_on(spent, key, seconds)


def spend(call: Call, means: str, parts: dict[str, float]) -> None:
    """What some other means found in a call."""
    for name, seconds in parts.items():
        _spend(call, (means, name), seconds)
