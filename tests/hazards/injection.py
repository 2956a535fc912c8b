"""Making something happen at every single moment of a piece of code, one moment per run, without the code knowing.

There are two kinds of moments. "calls" are those at which CPython since 3.11 runs signal handlers: on entering a Python
function and after returning from a C function. "lines" are the starts of lines: no handler runs there unless the line
before ended in a call, so they are stricter, and they cover the calls of types and slots, which the first kind misses.
"""

import os
import sys
from dataclasses import dataclass

import shmetrics

KINDS = ("lines", "calls")
_PACKAGE = os.path.dirname(os.path.abspath(shmetrics.__file__)) + os.sep
_EVENTS = {"lines": {"line"}, "calls": {"call", "c_return"}}


class Interrupt(Exception):
    """What a raising signal handler raises."""


@dataclass(frozen=True)
class Moment:
    """Where something happened."""

    number: int
    place: str
    opened: bool
    """Whether the kernel had just given a descriptor out, that no variable holds yet."""


def happen(kind, number, act, function):
    """Call `function`, and `act` at the `number`-th moment (from 0) that it spends in shmetrics; return that Moment.

    None when `function` has fewer moments. What `act` raises comes out of the interrupted code; an Interrupt that comes
    all the way out of `function` is caught.
    """
    left, moment = number, None

    def pass_moment(frame, event, argument):
        nonlocal left, moment
        file = frame.f_code.co_filename
        if moment is not None or not file.startswith(_PACKAGE):
            return None
        if event in _EVENTS[kind]:
            left -= 1
            if left < 0:
                place = f"{os.path.basename(file)}:{frame.f_lineno} {frame.f_code.co_name} ({event})"
                moment = Moment(number, place, event == "c_return" and argument is os.open)
                act()
        return pass_moment

    start = sys.settrace if kind == "lines" else sys.setprofile
    run = _apart(function)
    start(pass_moment)
    try:
        next(run, None)
    except Interrupt:
        pass
    finally:
        start(None)
    return moment


def _apart(function):
    """Call a function in a generator, which has a current exception of its own (what ``sys.exc_info`` says).

    A trace function that raises at the last line of an ``except`` keeps CPython 3.11 from popping that block's
    exception, which would be the current one of the whole test run from then on: the context of whatever is raised
    later, with all that its frames hold. No signal handler runs there.
    """
    function()
    yield
