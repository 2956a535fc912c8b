"""What interrupts a write in its own thread: signal handlers, collections of garbage, destructors."""

import gc
import os
import signal
import sys
import threading

import pytest

from shmetrics import slots
from shmetrics.folded import Folded
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH
from shmetrics.slots import ERRORS
from shmetrics.writer import Writer
from tests.hazards.injection import KINDS, Interrupt
from tests.hazards.worlds import ENDINGS, SCENES, World, at_every_moment
from tests.processes import alarm_handled_by

BETWEEN_SIGNALS = 2e-5


@pytest.fixture
def segment(make_segment):
    return make_segment()


@pytest.fixture
def writer(segment):
    writer = Writer(segment)
    yield writer
    writer.close()


def fleet(segment):
    return View(segment).snapshot()


def totals(segment):
    """Requests, errors, and the sum of all inference times, which tells who recorded what."""
    snapshot = fleet(segment)
    return snapshot.counters.requests, snapshot.counters.errors, float(snapshot.folded.sum[0])


@pytest.fixture
def descriptors():
    """A function: how many descriptors this process has opened since, once garbage is collected."""

    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = count()
    return lambda: count() - before


# Handlers that record -------------------------------------------------------------------------------------------------


def test_twenty_thousand_signals_whose_handler_records_are_all_counted_once(segment, writer):
    """A timer, set again when its signal was handled, lands its signals at arbitrary instructions of the write."""
    handled = recorded = 0

    def handle(_signal, _frame):
        nonlocal handled
        handled += 1
        writer.record(2.0)
        writer.add(ERRORS, 1)
        signal.setitimer(signal.ITIMER_REAL, BETWEEN_SIGNALS)

    with alarm_handled_by(handle):
        signal.setitimer(signal.ITIMER_REAL, BETWEEN_SIGNALS)
        while handled < 20_000:
            writer.record(1.0)
            recorded += 1
    for _ in range(FOLD_BATCH):  # all that was recorded is folded now, so that the sum has it
        writer.record(0.0)
    requests, errors, seconds = totals(segment)
    assert (requests - FOLD_BATCH, errors, seconds) == (recorded + handled, handled, recorded + 2.0 * handled)


@pytest.mark.parametrize("scene", SCENES)
def test_a_handler_that_records_at_any_moment_of_a_write_is_counted_once_and_so_is_the_write(hub_name, scene):
    def check(world):
        world.check_that_it_goes_on()
        world.check()

    at_every_moment("calls", SCENES[scene], lambda world: (world.record(), world.add()), check, hub_name)


def test_a_handler_that_records_while_its_thread_waits_for_another_is_queued_and_performed(segment, writer):
    """The main thread waits for the token; its handler must neither wait in its turn nor lose its record."""
    writer.record(0.1)
    writer.take()  # another thread is in the middle of a write
    threading.Timer(0.2, writer.give, (None,)).start()

    def handle(_signal, _frame):
        writer.record(2.0)

    with alarm_handled_by(handle):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        writer.record(1.0)
    assert fleet(segment).workers[0].window["inference_time"].tolist() == [0.1, 1.0, 2.0]


# Handlers that raise --------------------------------------------------------------------------------------------------


def interrupt(*_):
    """Be a signal handler that raises."""
    raise Interrupt


@pytest.fixture
def _quiet_destructors(monkeypatch):
    """An exception in a destructor is printed, not raised; ours are meant."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _unraisable: None)


@pytest.mark.usefixtures("_quiet_destructors")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", SCENES)
def test_a_handler_that_raises_at_any_moment_costs_no_record_and_no_slot_and_doubles_nothing(
    hub_name, scene, kind, descriptors
):
    def check(world):
        world.check_that_it_goes_on()
        world.check()

    moments = at_every_moment(kind, SCENES[scene], interrupt, check, hub_name)
    if kind == "calls":  # a descriptor is lost only where the kernel had given it out and Python had not stored it yet
        assert descriptors() <= sum(moment.opened for moment in moments)


@pytest.mark.usefixtures("_quiet_destructors")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", ENDINGS)
def test_a_close_that_a_handler_ended_can_be_repeated_and_loses_nothing(hub_name, scene, kind):
    def check(world):
        world.writer.close()
        assert world.held() == []
        world.check()

    at_every_moment(kind, ENDINGS[scene], interrupt, check, hub_name)


@pytest.mark.usefixtures("_quiet_destructors")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="before CPython 3.11 an interrupt may cost half a second")
def test_a_storm_of_raising_handlers_neither_stalls_nor_loses_what_was_acknowledged(segment, writer):
    writer.claim()
    acknowledged = interrupted = 0
    with alarm_handled_by(interrupt):
        while interrupted < 500:
            try:
                signal.setitimer(signal.ITIMER_REAL, BETWEEN_SIGNALS)
                for _ in range(1000):
                    writer.record(0.1)
                    acknowledged += 1
            except Interrupt:
                interrupted += 1
    assert acknowledged <= fleet(segment).counters.requests <= acknowledged + interrupted


@pytest.mark.usefixtures("_quiet_destructors")
def test_first_records_in_a_storm_of_raising_handlers_end_with_one_slot_each_and_lose_nothing(hub_name):
    storm = False

    def interrupt_in_storm(*_):
        if storm:
            raise Interrupt

    for _ in range(200):
        with World(hub_name) as world, alarm_handled_by(interrupt_in_storm):
            try:
                storm = True
                signal.setitimer(signal.ITIMER_REAL, 1e-4, 3e-4)
                world.record(50)
                storm = False
            except Interrupt:
                storm = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            world.check_that_it_goes_on()
            world.check()


# Garbage --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _eager_collector():
    """Garbage is collected at every other allocation, so in the middle of whatever allocates."""
    threshold = gc.get_threshold()
    gc.freeze()  # what the test run has allocated so far need not be looked at a thousand times
    gc.set_threshold(1)
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


def _collecting_first(function):
    def collect(*args):
        gc.collect(0)
        return function(*args)

    return collect


@pytest.mark.usefixtures("_eager_collector")
def test_a_collection_callback_that_records_is_counted_once_also_amid_a_claim_and_a_fold(segment, writer, monkeypatch):
    """From CPython 3.12 on the interpreter collects between calls only, so the claim and the fold do it themselves."""
    for owner, name in ((slots, "renew_guard"), (Folded, "add_rows")):
        monkeypatch.setattr(owner, name, _collecting_first(getattr(owner, name)))
    calls, amid = 0, set()

    def callback(phase, _info):
        nonlocal calls
        frame = sys._getframe(1)
        while frame is not None:
            amid.add(frame.f_code)
            frame = frame.f_back
        if phase == "stop":
            calls += 1
            writer.record(2.0)

    gc.disable()  # or the first record, which claims, would be the callback's own, and collect nothing
    gc.callbacks.append(callback)
    try:
        writer.record(1.0)
        gc.enable()
        for _ in range(4 * FOLD_BATCH - 1):
            writer.record(1.0)
            _garbage = [[]]
    finally:
        gc.enable()
        gc.callbacks.remove(callback)
    assert {Writer.record.__code__, Writer._fold.__code__, slots.claim.__code__} <= amid
    assert fleet(segment).counters.requests == 4 * FOLD_BATCH + calls


@pytest.mark.usefixtures("_eager_collector")
def test_destructors_that_record_are_counted_once(segment, writer):
    died = 0

    class Recording:
        """Garbage of a cycle, which the collector destroys when it likes."""

        def __init__(self):
            self.itself = self

        def __del__(self):
            nonlocal died
            died += 1
            writer.record(2.0)
            writer.add(ERRORS, 1)

    for _ in range(4 * FOLD_BATCH):
        Recording()
        writer.record(1.0)
    gc.collect()
    counters = fleet(segment).counters
    assert died == 4 * FOLD_BATCH
    assert (counters.requests, counters.errors) == (8 * FOLD_BATCH, 4 * FOLD_BATCH)
