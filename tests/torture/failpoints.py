"""Failpoints: a process kills or stops itself, or does something else, on reaching a chosen line of shmetrics.

The code under test knows nothing of them: they are trace functions (`sys.settrace`), mostly set in a process that is
about to die, so they cost nothing anywhere else and there is nothing to import by accident. Every line of every
function listed in STEPS is one, so a step that is added to the protocol is tortured from then on without anybody
thinking of it.
"""

import inspect
import os
import signal
import sys

from shmetrics import doorbell, exclusion, guards, locks, naming, reader, segment, slots, writer

STEPS = {
    "create": [segment.create, segment._new_header, naming.link, segment.Segment.__init__],
    "claim": [
        slots.claim,
        slots._lock_free_slot,
        slots._take,
        slots.renew_guard,
        guards.create,
        locks.ByteLock.try_acquire,
        locks.ByteLock._open,
        locks.ByteLock.release,
        writer.Writer._try_to_claim,
        writer.Writer._move_in,
    ],
    "write": [writer.Writer.record, writer.Writer.add, writer.Writer._advance, exclusion.WriteToken.wait],
    "fold": [writer.Writer._fold, writer.Writer._heed_busy_guard],
    "read": [reader.Reader.read, reader.Reader._hold_guard, reader.Reader._try_slot, reader.Reader._read_retired],
    "release": [writer.Writer.close, writer.Writer._close, writer.Writer._leave_slot],
    "reap": [slots.reap, slots._reap_dead, slots._retire, slots._leavings],
    "bell": [doorbell.ring, doorbell.Doorbell.__init__, doorbell.Doorbell.close],
}


def lines_of(step):
    """Every (code, line) of a step's functions at which a process can be made to die."""
    points = []
    for function in STEPS[step]:
        code = inspect.unwrap(function).__code__
        lines = sorted({line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno})
        points += [(code, line) for line in lines]
    return points


def line_with(function, text):
    """The (code, line) of a function's one line that contains a text."""
    source, first = inspect.getsourcelines(inspect.unwrap(function))
    lines = [first + number for number, line in enumerate(source) if text in line]
    assert len(lines) == 1, f"{text!r} is in {len(lines)} lines of {function.__qualname__}"
    return inspect.unwrap(function).__code__, lines[0]


def die_at(code, line, visits=1):
    """Make this process kill itself when it is about to run `line` of `code` for the `visits`-th time."""
    call_at(code, line, lambda: os.kill(os.getpid(), signal.SIGKILL), visits)


def call_at(code, line, action, visits=1):
    """Make this thread call `action()` when it is about to run `line` of `code` for the `visits`-th time, and once.

    `sys.settrace(None)` ends it.
    """
    left = visits

    def trace_lines(frame, event, _argument):
        nonlocal left
        if event == "line" and frame.f_lineno == line:
            left -= 1
            if not left:
                action()
        return trace_lines

    def trace_calls(frame, _event, _argument):
        return trace_lines if frame.f_code is code else None

    sys.settrace(trace_calls)
