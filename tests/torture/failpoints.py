"""Failpoints: a process kills (or stops) itself when it reaches a chosen line of a chosen function of shmetrics.

The code under test knows nothing of them: they are trace functions (`sys.settrace`), set in a process that is about to
die, so they cost nothing anywhere else and there is nothing to import by accident. Every line of every function listed
in STEPS is one, so a line that is added to the protocol is tortured from then on without anybody thinking of it; and
`test_failpoints` fails when a function on the way of a step is missing here.
"""

import importlib
import inspect
import os
import signal
import sys
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

STEPS = {
    "create": (
        "segment.create_or_attach",
        "segment.create",
        "segment._new_header",
        "segment._check_platform",
        "segment.Segment.__init__",
        "structs.Fields.__init__",
        "structs.Fields.__getitem__",
        "structs.Fields.__setitem__",
        "segment.Segment.close",
        "segment._space_explained",
        "segment._open_nameless",
        "naming.link",
    ),
    "attach": (
        "segment.attach",
        "segment._attach",
        "segment.Segment.descriptor",
        "locks.file_of",
        "locks.try_share",
        "locks.unlock",
        "segment._check",
    ),
    "unlink": ("segment.unlink", "segment._open_instance", "guards.unlink_all"),
    "claim": (
        "writer.Writer._advance",
        "writer.Writer._try_to_claim",
        "claimant.Claimant.try_to_claim",
        "claimant.Claimant.begin",
        "writer.Writer._move_in",
        "folding.Folding.__init__",
        "folded.Area.__init__",
        "writer.Writer._use",
        "writer.Writer._latest",
        "writer.private_memory",
        "slots.claim",
        "slots._lock_free_slot",
        "slots._lingers",
        "slots.column",
        "slots.owner_of",
        "slots._new_owner",
        "slots._take",
        "slots.words_of",
        "locks.ByteLock.__init__",
        "locks.ByteLock.__enter__",
        "locks.ByteLock.__exit__",
        "locks.ByteLock.held",
        "locks.ByteLock.acquire",
        "locks.polls",
        "locks.ByteLock.try_acquire",
        "locks.ByteLock.release",
        "locks.ByteLock._open",
        "locks.ByteLock._close",
        "locks.ByteLock._is_open",
        "locks.ByteLock.is_left",
        "segment.Segment.retired_generation",
        "segment.Segment.part",
        "segment.Segment._retired_offset",
    ),
    "renew": (
        "slots.renew_guard",
        "guards.create",
        "guards.unlink",
        "guards._path",
        "segment.Segment.is_unlinked",
        "slots.heed_busy_guard",
    ),
    "write": ("writer.Writer.record", "writer.Writer.add", "completion.RequestWriter.complete"),
    "serve": (
        "board.Board.enter",
        "board.Board.leave",
        "board.Board._turn",
        "board.Board._text_of",
        "board.Board.begin",
        "board.Board.move_to",
        "board.Board._use",
    ),
    "change": (
        "instruments.Instrument.__init__",
        "writer.Writer.seek_slot",
        "instruments.Instrument._add",
        "instruments.Instrument._add_two",
        "instruments.Instrument.add_with",
        "instruments.Instrument.find",
        "instruments.Instrument._look_up",
        "instruments.Instrument._place",
        "instruments.Instrument._keep_nothing",
        "instruments.Instrument.waits",
        "instruments.Counter.inc",
        "instruments.Histogram.__init__",
        "instruments.Histogram.observe",
    ),
    "define": (
        "catalog.Catalog.define",
        "catalog.Catalog.place",
        "catalog.Catalog.remove",
        "catalog.Catalog.contents",
        "catalog.Catalog._changing",
        "catalog.Catalog._defined",
        "catalog.Catalog._add",
        "catalog.Catalog._remove",
        "catalog.Catalog._is_gone",
        "catalog.Catalog._placed",
        "catalog.Catalog._is_too_large",
        "catalog.Catalog._replace_series",
        "catalog.Catalog._found_or_made",
        "catalog.Catalog._add_metric",
        "catalog.Catalog._add_series",
        "catalog.Catalog._remember",
        "catalog.Catalog._look",
        "catalog._Read.__init__",
        "entries.updated",
        "entries.updated_once",
        "entries.read",
        "entries.in_blocks",
        "entries._differing",
        "entries.Blocks.payload",
    ),
    "fold": (
        "writer.Writer._is_mine",
        "writer.Writer._fold",
        "folding.Folding.fold",
        "records.between",
        "folding.Folding._add_rows",
        "folded.Area.copy_from",
        "folded.Folded.add_rows",
        "folded.Folded._add_measures",
        "folded.Folded._add_seconds",
        "folded.Folded._add_second",
        "folded.Folded._count",
    ),
    "guard": (
        "guards.Semaphore.__init__",
        "guards.Semaphore.try_acquire",
        "guards.Semaphore.acquire",
        "guards.Semaphore.release",
        "guards.Semaphore.close",
        "guards.open_existing",
        "guards.is_sound",
        "guards.guard_name",
    ),
    "read": (
        "reader.Reader.read",
        "reader.Reader._read_slots",
        "reader.Reader._insist",
        "reader.Reader._hold_guard",
        "reader.Reader._copy",
        "reader.Reader._read_retired",
        "reader.Reader._generation_flaws",
        "reader._counters_flaw",
        "segment.Segment.raw",
        "segment.Segment.slots",
        "copies.Copier.used",
        "copies.Copier.attempt",
        "copies.Copier._attempt",
        "copies.Copier._problem",
        "copies.Copier._versions",
        "copies.Copier._copy_hot",
        "copies.Copier._copy_part",
        "copies.Copier._copy_areas",
        "copies.Copier._copy_exemplars",
        "copies.Copier._copy_rows",
        "copies.Copier._copy_ring",
        "copies.owners_of",
        "copies._areas_flaws",
        "copies._rows_flaws",
        "slots.hot_flaw",
        "locks.is_locked",
        "segment.Segment.slot_offset",
    ),
    "release": (
        "writer.Writer.close",
        "writer.Writer._exclusively",
        "writer.Writer._close",
        "writer.Writer._leave_slot",
        "slots.Claim.release",
        "slots.Claim.drop_guard",
    ),
    "reap": (
        "slots.reap",
        "slots._reap_dead",
        "slots._claimed",
        "slots._are_alive",
        "slots._retire",
        "slots._leavings",
        "slots.read_hot",
        "slots.is_alive",
        "slots._write_obituary",
        "obituaries.write",
        "obituaries._time",
        "obituaries._oom_word",
        "obituaries.Obituaries.__init__",
        "obituaries.Obituaries.has",
        "obituaries.Obituaries.add",
        "obituaries.Obituaries.claim_oom_kill",
        "obituary.payload_of",
        "process.fate_of",
        "process.stat_fields",
        "oom.reading",
        "segment.Segment.retired",
        "segment.Segment.retired_index",
        "segment.Segment.flip_retired",
        "cells.retire",
        "cells.Plan.__init__",
        "cells.Plan.merge",
        "cells.Plan.valid",
    ),
    "report": (
        "endings.report_end",
        "endings._note",
        "obituaries.Obituaries.amend",
        "obituaries.Obituaries.read",
        "obituaries.Obituaries._entry",
        "obituaries.Obituaries._state",
    ),
    "bell": (
        "doorbell.ring",
        "doorbell._name",
        "doorbell.Doorbell.__init__",
        "doorbell.Doorbell.wait",
        "doorbell.Doorbell.close",
        "guards.Semaphore.value",
        "guards.bell_name",
    ),
}


@cache
def code_of(name):
    """The code of a function of shmetrics as it is now, mutants included: ``"slots._take"``."""
    module, _, path = name.partition(".")
    found = attrgetter(path)(importlib.import_module(f"shmetrics.{module}"))
    return inspect.unwrap(found.fget if isinstance(found, property) else found).__code__


def _lines(code):
    return sorted({line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno})


@cache
def points_of(step):
    """Every (function, line) of a step's functions at which a process can be made to die."""
    return [(name, line) for name in STEPS[step] for line in _lines(code_of(name))]


def line_with(function, text):
    """The (code, line) of a function's one line that contains a text."""
    source, first = inspect.getsourcelines(inspect.unwrap(function))
    lines = [first + number for number, line in enumerate(source) if text in line]
    assert len(lines) == 1, f"{text!r} is in {len(lines)} lines of {function.__qualname__}"
    return inspect.unwrap(function).__code__, lines[0]


def line_of(name, text):
    """The line of a function, by name, that holds `text`; there must be exactly one."""
    lines, first = inspect.getsourcelines(code_of(name))
    found = [first + at for at, line in enumerate(lines) if text in line]
    assert len(found) == 1, f"{name} has {len(found)} lines with {text!r}, and a directed scenario needs one"
    return found[0]


@dataclass(frozen=True)
class Fate:
    """What a process does to itself: ``signum`` when it is about to run `line` of `function` for the n-th time.

    ``visits``: those n, ascending. Without a function it lives until the harness kills it.
    """

    function: str | None = None
    line: int = 0
    visits: tuple = (1,)
    signum: int = signal.SIGKILL

    def seal(self):
        """Set the failpoint in this process."""
        if self.function is not None:
            strike_at(code_of(self.function), self.line, self.visits, self.signum)


def strike_at(code, line, visits=(1,), signum=signal.SIGKILL):
    """Make this process send itself `signum` whenever a visit to `line` of `code` is one of `visits`."""
    call_at(code, line, lambda: os.kill(os.getpid(), signum), visits)


def die_at(code, line, visit=1):
    """Make this process kill itself when it is about to run `line` of `code` for the n-th time."""
    strike_at(code, line, (visit,))


def call_at(code, line, action, visits=(1,)):
    """Make this thread call `action()` whenever a visit to `line` of `code` is one of `visits`, ascending.

    `sys.settrace(None)` ends it, as does the last of the visits.
    """
    count, last = 0, max(visits)

    def trace_lines(frame, event, _argument):
        nonlocal count
        if event == "line" and frame.f_lineno == line:
            count += 1
            if count in visits:
                action()
            if count == last:
                sys.settrace(None)
                frame.f_trace = None
                return None
        return trace_lines

    def trace_calls(frame, _event, _argument):
        return trace_lines if frame.f_code is code else None

    sys.settrace(trace_calls)


def draw_fate(draw, steps):
    """The fate to die at a step, more often than not."""
    if draw.random() < 0.4:
        return Fate()
    function, line = draw.choice(points_of(draw.choice(steps)))
    return Fate(function, line, (draw.choice((1, 1, 1, 2, 5, 40, 600)),))


def by_step(functions):
    """Counts by function as counts by step."""
    return {step: count for step, names in STEPS.items() if (count := sum(functions[name] for name in names))}


def forget():
    """Look at every function's code anew: one was replaced."""
    code_of.cache_clear()
    points_of.cache_clear()
