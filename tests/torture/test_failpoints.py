"""Failpoints: every step has some, every function on its way is listed, and a process dies at the line wanted."""

import contextlib
import inspect
import mmap
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import shmetrics
from shmetrics import doorbell, endings, guards, naming, segment, slots
from shmetrics import writer as writers
from shmetrics.catalog import Catalog
from shmetrics.errors import ShmetricsError
from shmetrics.instruments import Counter, Histogram
from shmetrics.layout import Layout
from tests.insisting import in_python, insisting_view
from tests.processes import in_forked_child
from tests.torture import failpoints, workers
from tests.torture.failpoints import STEPS, Fate, code_of, draw_fate, line_of, points_of, strike_at
from tests.torture.harness import STEPS_OF

NO_STEPS = {
    "writer.Writer.__init__": "before the first record",
    "writer.Writer._renew_token": "before the first record",
    "writer.Writer.slot": "asks only",
    "writer.Writer._progress": "asks only",
    "locks.slot_byte": "computes only",
    "locks._request": "computes only",
    "locks.ByteLock.__del__": "where nobody released",
    "slots.Hot.folded": "computes only",
    "slots.Hot.active": "computes only",
    "slots.Hot.requests": "computes only",
    "reader.Reader.__init__": "before the first read",
    "copies.Copier.__init__": "before the first read",
    "segment.Segment.__del__": "where nobody closed",
    "segment.flags_for": "words a message only",
    "catalog.Catalog.__init__": "before the first look",
    "board.Board.__init__": "before the first record",
    "board.requests_on": "looks at a copy",
    "board.busy_of": "looks at a copy",
    "board.crowd_of": "looks at a copy",
    "board.Busy.is_known": "computes only",
    "obituaries.begin_to_watch_oom_kills": "once a hub",
    "catalog.Catalog.refused": "asks only",
    "guards.template": "once a process, and here before any fork",
    "guards.Semaphore.__enter__": "does nothing",
    "guards.Semaphore.__exit__": "closes only",
}
MODULES = (
    *("writer", "slots", "locks", "guards", "segment", "reader", "copies", "doorbell", "catalog", "instruments"),
    *("board", "obituaries", "endings"),
)


def _walk_every_way(name):
    """Do everything that the tortured processes do, in this process."""
    target = segment.create_or_attach(name, Layout(max_workers=2, max_series=8))
    view = in_python(insisting_view(target))
    slots.GUARD_PATIENCE = 0.0
    writer = writers.Writer(target)
    writer.add(slots.ERRORS, 1)
    writer.leave(writer.enter("GET /"))
    catalog = Catalog(target)
    events = Counter(writer, catalog, workers.EVENTS, (), waiting=set())
    events.inc()
    sizes = Histogram(writer, catalog, workers.SIZES, (), waiting=set())
    sizes.observe(1.0)
    sizes.add_with(1.0, 2, events, 1.0)
    catalog.remove(catalog.place(catalog.define(workers.CHURN, patience=0.0), ("x",), patience=0.0), patience=0.0)
    holder = guards.open_existing(guards.guard_name(naming.semaphore_prefix(name, target.instance), 0, 1))
    assert holder is not None
    assert holder.try_acquire()
    for _ in range(2000):
        writer.record(0.1)
    view.snapshot()
    current = guards.open_existing(
        guards.guard_name(naming.semaphore_prefix(name, target.instance), 0, slots.words_of(target, 0)[slots.GUARD])
    )
    assert current is not None
    assert current.try_acquire()
    view.snapshot()
    writer.close()
    view.snapshot()
    slots.reap(target)
    killed = writers.Writer(target)
    killed.record(0.1)
    pid = os.getpid()
    target.slots["owner"]["pid"] = 2**31  # a stranger, since this process lives
    killed._folding.claim.alive.release()
    slots.reap(target)
    endings.report_end(target, 2**31, -9)
    target.slots["owner"]["pid"] = pid
    bell = doorbell.Doorbell(target)
    doorbell.ring(target)
    bell.wait(0.1)
    bell.close()
    segment.attach(name)
    with contextlib.suppress(ShmetricsError):
        segment.create_or_attach(name, Layout(max_workers=3))
    segment.unlink(name, target.instance)


def _functions_entered(action):
    """The names, as in STEPS, of all functions of MODULES that `action()` runs."""
    folder, entered = Path(shmetrics.__file__).parent, set()

    def note(frame, event, _argument):
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.parent == folder and file.stem in MODULES and "<" not in frame.f_code.co_name:
            entered.add(f"{file.stem}.{_qualified_name(frame)}")

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return entered


def _qualified_name(frame):
    """``Class.method``: Python 3.10 has no co_qualname."""
    owner = frame.f_locals.get("self")
    name = frame.f_code.co_name
    for kind in type(owner).__mro__ if owner is not None else ():
        if name in vars(kind):
            return f"{kind.__name__}.{name}"
    return name


def test_steps_list_every_function_on_their_ways_and_no_other(hub_name):
    def walk():
        entered = _functions_entered(lambda: _walk_every_way(hub_name))
        listed = {name for names in STEPS.values() for name in names if name.partition(".")[0] in MODULES}
        assert entered - listed - set(NO_STEPS) == set(), "on the way of a step, and not in failpoints.STEPS"
        assert listed - entered == set(), "in failpoints.STEPS, and on nobody's way"

    in_forked_child(walk)


@pytest.mark.parametrize("step", STEPS)
def test_every_function_of_a_step_has_failpoints(step):
    assert {name for name, _ in points_of(step)} == set(STEPS[step])


def test_every_step_is_some_roles():
    assert {step for steps in STEPS_OF.values() for step in steps} == set(STEPS)


def test_a_fate_is_of_the_steps_asked_for():
    draw = random.Random(1)
    fates = [draw_fate(draw, ("reap", "bell")) for _ in range(300)]
    functions = {fate.function for fate in fates}
    assert None in functions
    assert functions - {None} <= {*STEPS["reap"], *STEPS["bell"]}
    assert functions & set(STEPS["reap"])
    assert functions & set(STEPS["bell"])


def _victim(marks):
    for round_ in range(4):
        marks[0] = round_ + 1
        marks[1] = round_ + 1
        marks[2] = round_ + 1


@pytest.mark.parametrize("visit", [1, 3])
@pytest.mark.parametrize("mark", [0, 1, 2])
def test_a_process_dies_before_the_line_and_at_the_visit_wanted(mark, visit):
    marks = np.frombuffer(bytearray(24), np.uint64)
    lines, first = inspect.getsourcelines(_victim)
    line = first + next(at for at, text in enumerate(lines) if f"marks[{mark}] =" in text)
    shared = _shared_words(3)
    status = _status_of(lambda: (strike_at(_victim.__code__, line, (visit,)), _victim(shared)))
    assert os.WTERMSIG(status) == signal.SIGKILL
    marks = list(shared)
    assert marks == [visit if at < mark else visit - 1 for at in range(3)]


def test_a_process_stops_at_each_visit_and_goes_on():
    shared = _shared_words(3)
    lines, first = inspect.getsourcelines(_victim)
    line = first + next(at for at, text in enumerate(lines) if "marks[1] =" in text)
    pid = _child(lambda: (strike_at(_victim.__code__, line, (2, 3), signal.SIGSTOP), _victim(shared)))
    for seen in ([2, 1, 1], [3, 2, 2]):
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        assert list(shared) == seen
        os.kill(pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(shared) == [4, 4, 4]


def test_a_writer_killed_at_its_commit_leaves_what_it_committed_before(make_segment):
    target = make_segment()
    fate = Fate("writer.Writer.record", line_of("writer.Writer.record", "words[HEAD] = head + 1"), (7,))

    def record():
        fate.seal()
        writer = writers.Writer(target)
        while True:
            writer.record(0.1)

    assert os.WTERMSIG(_status_of(record)) == signal.SIGKILL
    assert slots.words_of(target, 0)[slots.HEAD] == 6


def test_a_scenario_whose_line_is_gone_says_so():
    with pytest.raises(AssertionError, match="needs one"):
        line_of("writer.Writer.record", "no such text")


def test_a_function_that_was_replaced_is_traced_in_its_new_form(monkeypatch):
    before = code_of("slots.reap")
    monkeypatch.setattr(slots, "reap", lambda *_: None)
    failpoints.forget()
    assert code_of("slots.reap") is not before
    monkeypatch.undo()
    failpoints.forget()
    assert code_of("slots.reap") is before


def _shared_words(count):
    return memoryview(mmap.mmap(-1, 8 * count)).cast("Q")


def _child(action):
    pid = os.fork()
    if not pid:
        try:
            action()
        finally:
            os._exit(0)
    return pid


def _status_of(action):
    """The wait status of a child that does `action`; it must end within a minute."""
    pid, deadline = _child(action), time.monotonic() + 60.0
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child did not end")
