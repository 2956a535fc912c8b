"""The writes in C: they store what those in Python store, in the same order, and leave to these what they cannot do."""

import gc
import inspect
import os
import random
import shutil
import signal
import sysconfig
import threading
import weakref

import numpy as np
import pytest

from shmetrics import CustomMetrics, PerformanceMetrics, native, segment
from shmetrics.catalog import Catalog
from shmetrics.completion import RequestWriter, writer_class
from shmetrics.families import Definition
from shmetrics.hub import View
from shmetrics.instruments import KINDS, class_of
from shmetrics.layout import BOARD_SIZE, FOLD_BATCH, FOLDED, Layout
from shmetrics.slots import CACHE_HITS, CACHE_MISSES, ERRORS
from shmetrics.workers.http_metrics import DURATION, HttpMetrics, HttpRequest, source_class
from tests.conftest import FakeClock
from tests.processes import in_forked_child, run_in_threads

DEFINITIONS = [
    Definition("things_total", "counter"),
    Definition("depth", "gauge", merge="sum"),
    Definition("seconds", "histogram", buckets=(0.5, 1.0, 2.0, 4.0)),
    Definition("sizes", "summary"),
    Definition("yield", "ratio"),
    Definition("mode", "enum", states=("on", "off")),
]
SUMS = ("sum", "latency_sum")
compiled = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here: see the test of that")


def test_the_writes_in_c_are_there_where_they_can_be_compiled():
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    can_be = bool(shutil.which("cc") or shutil.which("gcc")) and os.path.exists(header)
    assert native.IS_BUILT or not can_be, "it could be compiled; install this project again (pip install -e .)"


@pytest.mark.parametrize(("setting", "used"), [("0", False), ("1", native.IS_BUILT), ("", native.IS_BUILT)])
def test_the_environment_says_whether_they_are_used(monkeypatch, setting, used):
    monkeypatch.setenv(native.VARIABLE, setting)
    assert native.is_used() is used
    assert (writer_class() is RequestWriter) is not used


def test_a_setting_that_says_neither_is_an_error(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "perhaps")
    with pytest.raises(ValueError, match="SHMETRICS_NATIVE must be 1 or 0, not 'perhaps'"):
        PerformanceMetrics()


# The same as in Python -----------------------------------------------------------------------------------------------


class World:
    """One hub, and all that a process writes to it by."""

    def __init__(self, name, clock, writer_class):
        self.segment = segment.create(name, Layout(max_workers=2, max_series=16))
        self.writer = writer_class(self.segment, clock=clock)
        catalog = Catalog(self.segment)
        self.by_name = {
            each.name: class_of(each.kind)(self.writer, catalog, each, (), waiting=set(), clock=clock)
            for each in DEFINITIONS
        }
        self.tickets = []

    def do(self, name, *args, **kwargs):
        """What an operation returns, or raises."""
        try:
            return getattr(self, name)(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  whatever it is, the other world raises the same
            return type(error), str(error)

    def record(self, *args, **kwargs):
        return self.writer.record(*args, **kwargs)

    def add(self, *args):
        return self.writer.add(*args)

    def enter(self, *args):
        self.tickets.append(self.writer.enter(*args))

    def leave(self, index, *args):
        if self.tickets:
            return self.writer.leave(self.tickets.pop(index % len(self.tickets)), *args)

    def leave_again(self, *args):
        return self.writer.leave(1, *args)

    def complete(self, index, *args):
        if self.tickets:
            now, *measures, with_durations, duration = args
            durations = self.by_name["seconds"] if with_durations else None
            return self.writer.complete(
                self.tickets.pop(index % len(self.tickets)), now, *measures, durations, duration
            )

    def call(self, name, method, *args, **kwargs):
        return getattr(self.by_name[name], method)(*args, **kwargs)

    def add_with(self, *args):
        amount, cell, other = args
        return self.by_name["seconds"].add_with(amount, cell, self.by_name["things_total"], other)

    @property
    def memory(self):
        """All that the writes change, to the last bit."""
        slot = self.segment.slots[0]
        exact = {part: slot[part].tobytes() for part in ("hot", "board", "ring", "cells")}
        return exact | {part: slot["folded"][part].tobytes() for part in FOLDED.names if part not in SUMS}

    @property
    def sums(self):
        """Sums of many numbers, which depend on the order in which they are added."""
        folded = self.segment.slots[0]["folded"]
        return np.concatenate([folded[part].ravel() for part in SUMS])

    def end(self):
        self.writer.close()
        segment.unlink(self.segment.name, self.segment.instance)


@pytest.fixture
def worlds(hub_name, monkeypatch, clock):
    made = []
    for way in ("0", "1"):
        monkeypatch.setenv(native.VARIABLE, way)
        made.append(World(f"{hub_name}-{way}", clock, writer_class()))
    yield made
    for world in made:
        world.end()


NUMBERS = [0.0, 0.25, 1, 3.5, -1.0, 7, float("nan"), float("inf"), True, np.float64(0.75), np.float32(0.5), np.int64(3)]
NO_NUMBERS = ["1.0", None, 10**400, object, [1.0]]


def operations(draw, clock):
    """Endless operations on a world, as names and arguments; most are what servers do."""

    def number():
        return draw.random() if draw.random() < 0.8 else draw.choice(NUMBERS + NO_NUMBERS * (draw.random() < 0.2))

    def one(now):
        return draw.choice(
            [
                lambda: ("record", number(), number(), number(), number()),
                lambda: ("record", number()),
                lambda: ("record", number(), number()),
                lambda: ("add", draw.choice([ERRORS, CACHE_HITS, CACHE_MISSES]), draw.choice([0, 1, 5, 2**40])),
                lambda: ("enter", draw.choice(["", "/a", "/b", "/ä" * 40]), now),
                lambda: ("enter", draw.choice(["", "/a"])),
                lambda: ("enter",),
                lambda: ("leave", draw.randrange(100), now),
                lambda: ("leave", draw.randrange(100)),
                lambda: ("leave_again", now),
                lambda: ("complete", draw.randrange(100), now, number(), number(), 0.0, 0.5, draw.random() < 0.8, 0.7),
                lambda: ("complete", draw.randrange(100), now, 0.1, 1, 0.0, 0.0, True, 10 * draw.random()),
                lambda: ("call", "things_total", "inc"),
                lambda: ("call", "things_total", "inc", number()),
                lambda: ("call", "depth", "set", number()),
                lambda: ("call", "depth", "inc", draw.random()),
                lambda: ("call", "seconds", "observe", number()),
                lambda: ("call", "seconds", "observe", 0.3, {"trace_id": "abc"}),
                lambda: ("call", "sizes", "observe", number()),
                lambda: ("call", "yield", "add", draw.random(), draw.random()),
                lambda: ("call", "mode", "state", draw.choice(["on", "off", "broken"])),
                lambda: ("add_with", draw.random(), draw.choice([2, 3, 6]), draw.random()),
            ]
        )()

    while True:
        yield one(clock.now)


@compiled
@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_both_store_and_say_the_same(worlds, clock, seed):
    draw = random.Random(seed)
    steps = operations(draw, clock)
    for step in range(2 * FOLD_BATCH):
        operation = next(steps)
        first, second = (world.do(*operation) for world in worlds)
        assert repr(first) == repr(second), (step, operation)
        first, second = (world.memory for world in worlds)
        for part, found in first.items():
            assert found == second[part], (step, operation, part)
        np.testing.assert_allclose(worlds[0].sums, worlds[1].sums, rtol=1e-12)
        clock.now += draw.choice([0.0, 0.001, 0.01, 0.4])


@compiled
def test_a_board_that_overflows_stays_the_same_in_both(worlds, clock):
    for count in (BOARD_SIZE + 5, 2 * BOARD_SIZE):
        for world in worlds:
            for _ in range(count):
                world.enter("/", clock.now)
        for world in worlds:
            for _ in range(count):
                world.leave(3, clock.now)
        assert worlds[0].memory == worlds[1].memory


def measurements(kind, draw):
    """Measurements of one kind, endless."""
    while True:
        value = {
            "ordinary": draw.lognormvariate(-3, 2),
            "bounds": 2.0 ** (draw.randrange(-21 * 32, 21 * 32) / 32),
            "extreme": draw.choice([0.0, -0.0, 5e-324, 1e-300, 1e17, 2.5e17, 1e18, 1e300]),
            "broken": draw.choice([0.5, 0.5, 0.5, float("nan"), -1.0, float("inf")]),
        }[kind]
        yield value, draw.randrange(1, 64), draw.choice([0.0, value / 2]), draw.choice([0.0, value / 4])


@compiled
@pytest.mark.parametrize("step", [0.0, 0.001, 0.7])
@pytest.mark.parametrize("kind", ["ordinary", "bounds", "extreme", "broken"])
def test_a_batch_is_folded_into_the_same_buckets(worlds, clock, kind, step):
    draw = random.Random(f"{kind} {step}")
    rows = measurements(kind, draw)
    for number in range(3 * FOLD_BATCH + 7):
        row = next(rows)
        for world in worlds:
            world.record(*row)
            if number % 7 == 0:
                world.add(ERRORS, 1)
        clock.now += step
    assert worlds[0].memory == worlds[1].memory
    np.testing.assert_allclose(worlds[0].sums, worlds[1].sums, rtol=1e-12)
    assert worlds[1].writer.committed == 3 * FOLD_BATCH + 7
    assert View(worlds[1].segment).snapshot().health.corrupt == {}


@compiled
def test_a_request_is_the_same_in_both(monkeypatch):
    said = []
    for way in ("0", "1"):
        monkeypatch.setenv(native.VARIABLE, way)
        clock = FakeClock()
        with PerformanceMetrics() as metrics:
            source = source_class()(metrics, clock, HttpMetrics(metrics, (0.5, 1.0)))
            for method, code, route in [
                ("GET", 200, "/a"), ("GET", "200", "/a"), ("PUT", 503, ""), ("HUH", object(), 3), ("GET", [], "")
            ]:  # fmt: skip
                request = source.request(method, "/a/1")
                assert isinstance(request, HttpRequest)
                clock.now += 0.25
                request.code, request.route = code, route
                request.begin()
                request.finish()
                request.finish()
                said.append((way, request.done, request.is_plain, request.elapsed, request.method, request.status))
            request.fail()
            statistics = metrics.get_statistics()
            said.append((way, *(statistics[key] for key in ("total_requests", "total_errors", "avg_inference_time"))))
            families = {family.definition.name: family.series for family in metrics.snapshot().families}
            said.append((way, [(each.labels, each.sum, each.buckets) for each in families[DURATION]]))
    half = len(said) // 2
    assert [each[1:] for each in said[:half]] == [each[1:] for each in said[half:]]


@compiled
@pytest.mark.parametrize("kind", KINDS)
def test_a_class_is_told_apart_by_nothing_but_what_it_does(monkeypatch, kind):
    monkeypatch.setenv(native.VARIABLE, "1")
    made = class_of(kind)
    python = KINDS[kind]
    assert issubclass(made, python)
    assert (made.__name__, made.__module__, made.__doc__) == (python.__name__, python.__module__, python.__doc__)
    for name in ("inc", "set", "observe"):
        if hasattr(python, name):
            assert [*inspect.signature(getattr(made, name)).parameters] == [
                *inspect.signature(getattr(python, name)).parameters
            ]
            assert getattr(made, name).__doc__


# Where others come in between ----------------------------------------------------------------------------------------


@pytest.fixture
def native_metrics(monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "1")
    with PerformanceMetrics(max_workers=4) as metrics:
        metrics.claim()
        yield metrics


@compiled
def test_what_finds_the_token_out_in_its_own_thread_is_written_by_the_write_that_it_interrupts(native_metrics):
    writer = native_metrics.recorder

    def in_the_middle():
        writer.record(0.5, 1, 0.0, 0.0)
        counter.inc(2)
        assert writer.committed == 0, "queued"

    counter = CustomMetrics(native_metrics).counter("things_total").labels()
    counter.inc()
    writer.perform(in_the_middle)
    assert writer.committed == 1
    assert native_metrics.snapshot().families[0].series[0].value == 3.0


@compiled
def test_another_thread_waits_while_the_token_is_out_and_then_writes(native_metrics):
    writer = native_metrics.recorder
    written = threading.Event()

    def write():
        writer.record(0.5, 1, 0.0, 0.0)
        written.set()

    thread = threading.Thread(target=write)
    writer.take()
    try:
        thread.start()
        assert not written.wait(0.05)
    finally:
        writer.give(None)
    thread.join(10)
    assert written.is_set()
    assert writer.committed == 1


@compiled
def test_threads_that_write_at_once_lose_nothing(native_metrics):
    counter = CustomMetrics(native_metrics).counter("things_total").labels()
    histogram = CustomMetrics(native_metrics).histogram("seconds", buckets=(1.0,)).labels()

    def write(_index):
        for _ in range(3000):
            native_metrics.update_inference(0.5)
            counter.inc()
            histogram.observe(0.5)
            native_metrics.recorder.leave(native_metrics.recorder.enter("/"))

    run_in_threads(8, write)
    snapshot = native_metrics.snapshot()
    values = {family.definition.name: family.series[0] for family in snapshot.families}
    assert snapshot.counters.requests == 24_000
    assert values["things_total"].value == 24_000.0
    assert values["seconds"].buckets[-1] == 24_000.0
    assert not snapshot.workers[0].in_flight


@compiled
def test_signal_handlers_that_write_lose_nothing(native_metrics):
    counter = CustomMetrics(native_metrics).counter("things_total").labels()
    handled, going = [], [True]

    def handle(*_):
        handled.append(1)
        counter.inc()
        native_metrics.update_inference(0.25)
        if going:
            signal.setitimer(signal.ITIMER_REAL, 0.0002)  # once each time, or handlers would interrupt one another

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0002)
    try:
        for _ in range(30_000):
            native_metrics.update_inference(0.5)
            counter.inc()
    finally:
        going.clear()
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert handled
    snapshot = native_metrics.snapshot()
    assert snapshot.counters.requests == 30_000 + len(handled)
    assert snapshot.families[0].series[0].value == 30_000.0 + len(handled)


@compiled
def test_a_child_of_fork_writes_to_a_slot_of_its_own(native_metrics):
    counter = CustomMetrics(native_metrics).counter("things_total").labels()
    native_metrics.update_inference(0.5)
    counter.inc()

    def child():
        native_metrics.update_inference(0.5)
        counter.inc()

    in_forked_child(child)
    counter.inc()
    snapshot = native_metrics.snapshot()
    assert snapshot.counters.requests == 2
    assert snapshot.families[0].series[0].value == 3.0


@compiled
def test_memory_that_was_released_is_never_written_to(native_metrics):
    writer = native_metrics.recorder
    writer.record(0.5, 1, 0.0, 0.0)
    writer._ring.release()
    with pytest.raises((TypeError, ValueError)):  # as the memoryview has it
        writer.record(0.5, 1, 0.0, 0.0)
    assert writer.committed == 1


@compiled
def test_what_is_not_used_any_more_is_collected(hub_name, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "1")
    target = segment.create(hub_name, Layout(max_workers=2, max_series=16))
    writer = writer_class()(target)
    histogram = class_of("histogram")(writer, Catalog(target), DEFINITIONS[2], (), waiting=set())
    histogram.observe(0.5)
    writer.own = writer, histogram  # a cycle, as there are many
    gone = weakref.ref(writer), weakref.ref(histogram)
    writer.close()
    del writer, histogram
    gc.collect()
    assert [each() for each in gone] == [None, None]


@compiled
def test_in_strict_mode_records_are_fenced_and_so_those_of_python(monkeypatch, make_segment):
    monkeypatch.setenv(native.VARIABLE, "1")
    monkeypatch.setenv("SHMETRICS_STRICT", "1")
    writer = writer_class()(make_segment())
    for _ in range(FOLD_BATCH + 1):
        writer.record(0.5)
    assert writer.committed == FOLD_BATCH + 1
    assert View(writer._segment).snapshot().counters.requests == FOLD_BATCH + 1
    writer.close()


@compiled
def test_a_compiled_part_of_another_version_is_told_with_the_remedy():
    with pytest.raises(ImportError, match=r"of another version \(.*no_such_function.*\); install it again: pip "):
        native.tell("no_such_function")
