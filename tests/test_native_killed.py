"""The writes in C, killed anywhere: after each instruction others see what they would see if it were the last."""

import time

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics, native
from shmetrics.hub import View
from shmetrics.records import between
from shmetrics.slots import ERRORS
from shmetrics.workers.http_metrics import source_class
from tests.stepping import each_instruction

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here: see tests/test_native.py")

DONE = 3
"""Records, errors and other changes before the one that is looked at."""


OLD, NEW = (0.5, 1.0, 0.0, 0.0), (0.25, 8.0, 0.125, 0.0625)
"""Measurements of all records before, and of one then."""


class Worker:
    """What a child does, and what others see of it."""

    def __init__(self, name):
        self.metrics = PerformanceMetrics(name=name, max_workers=2)
        custom = CustomMetrics(self.metrics)
        self.things = custom.counter("things_total").labels()
        self.depth = custom.gauge("depth", merge="sum").labels()
        self.seconds = custom.histogram("seconds", buckets=(1.0, 2.0)).labels()
        self.now = time.monotonic()
        self.source = source_class()(self.metrics, lambda: self.now, None)
        self.view = View(self.metrics._attachment.segment)
        self.slot = self.metrics._attachment.segment.slots[0]

    def prepare(self, records=DONE):
        """In the child, before."""
        self.writer = writer = self.metrics.recorder
        for _ in range(DONE):
            self.things.inc()
            self.depth.set(4.0)
            self.seconds.observe(1.5)
            writer.add(ERRORS, 1)
        for _ in range(records):
            writer.record(*OLD)
        writer.leave(writer.enter("/", self.now), self.now)  # the second that this is in has begun
        self.ticket = writer.enter("/", self.now)
        self.request = self.source.request("GET", "/a")
        writer.leave(self.request._ticket, self.now)
        self.request._ticket, self.request._start = self.ticket, self.now - NEW[0]
        self.request.code = 200
        assert self.source.kinds["GET", 200, ""] == (None, False)

    def seen(self):
        """Requests, errors, the counter, the gauge, the histogram's sum and count, requests in flight."""
        snapshot = self.view.snapshot()
        series = {family.definition.name: family.series[0] for family in snapshot.families}
        (worker,) = snapshot.workers
        assert not worker.stale
        assert snapshot.health.corrupt == {}
        assert {row[1:5] for row in worker.window.tolist()} <= {OLD, NEW, (NEW[0], 1.0, 0.0, 0.0)}
        assert {request.label for request in worker.in_flight} <= {"/", "/b", "GET /b"}
        assert int(worker.folded.valid) == snapshot.counters.requests
        return (
            snapshot.counters.requests,
            snapshot.counters.errors,
            series["things_total"].value,
            series["depth"].value,
            series["seconds"].sum,
            series["seconds"].buckets[-1],
            len(worker.in_flight),
        )


BEFORE = (3, 3, 3.0, 4.0, 4.5, 3.0, 1)
ACTS = {
    "a record": (lambda self: self.writer.record(*NEW), [(4, 3, 3.0, 4.0, 4.5, 3.0, 1)]),
    "an error": (lambda self: self.writer.add(ERRORS, 1), [(3, 4, 3.0, 4.0, 4.5, 3.0, 1)]),
    "a counter": (lambda self: self.things.inc(2.0), [(3, 3, 5.0, 4.0, 4.5, 3.0, 1)]),
    "a gauge": (lambda self: self.depth.set(7.0), [(3, 3, 3.0, 7.0, 4.5, 3.0, 1)]),
    "a histogram, its sum before its bucket": (
        lambda self: self.seconds.observe(1.75),
        [(3, 3, 3.0, 4.0, 6.25, 3.0, 1), (3, 3, 3.0, 4.0, 6.25, 4.0, 1)],
    ),
    "two instruments, the other one first": (
        lambda self: self.seconds.add_with(1.75, 3, self.things, 2.0),
        [(3, 3, 5.0, 4.0, 4.5, 3.0, 1), (3, 3, 5.0, 4.0, 6.25, 3.0, 1), (3, 3, 5.0, 4.0, 6.25, 4.0, 1)],
    ),
    "a request's begin": (lambda self: self.writer.enter("/b", self.now), [(3, 3, 3.0, 4.0, 4.5, 3.0, 2)]),
    "a server's request begins": (lambda self: self.source.request("GET", "/b"), [(3, 3, 3.0, 4.0, 4.5, 3.0, 2)]),
    "a server's request ends": (
        lambda self: self.request.finish(),
        [(4, 3, 3.0, 4.0, 4.5, 3.0, 1), (4, 3, 3.0, 4.0, 4.5, 3.0, 0)],
    ),
    "a request's leaving": (lambda self: self.writer.leave(self.ticket, self.now), [(3, 3, 3.0, 4.0, 4.5, 3.0, 0)]),
    "a request's end: the record, the duration's sum, its bucket, the board": (
        lambda self: self.writer.complete(self.ticket, self.now, *NEW, self.seconds, 1.75),
        [
            (4, 3, 3.0, 4.0, 4.5, 3.0, 1),
            (4, 3, 3.0, 4.0, 6.25, 3.0, 1),
            (4, 3, 3.0, 4.0, 6.25, 4.0, 1),
            (4, 3, 3.0, 4.0, 6.25, 4.0, 0),
        ],
    ),
}


@pytest.fixture
def worker(hub_name, monkeypatch):
    monkeypatch.setenv(native.VARIABLE, "1")
    worker = Worker(hub_name)
    with worker.metrics:
        yield worker


def states(worker, prepare, act, parts=("hot", "cells", "board")):
    """The different ones that others see, in their order; and how many instructions there were.

    ``parts``: of a slot, those that a change of makes one look.
    """
    views = [worker.slot[part] for part in parts]
    found, last, instructions = [], None, 0
    for _ in each_instruction(prepare, act):
        instructions += 1
        memory = [view.tobytes() for view in views]
        if memory != last:
            last = memory
            state = worker.seen()
            if state not in found:
                found.append(state)
            assert state == found[-1], "it went back"
    return found, instructions


@pytest.mark.parametrize("name", ACTS)
def test_a_process_may_be_killed_at_any_instruction(worker, name):
    act, after = ACTS[name]
    found, instructions = states(worker, worker.prepare, lambda: act(worker))
    assert found == [BEFORE, *after]
    assert instructions > 300


def test_a_batch_that_is_being_folded_is_seen_by_nobody(worker):
    """It goes to the copy that is not in use; that copy becomes the active one by a single store, of Python's."""

    def act():
        folding = worker.writer._folding
        folding._add_rows(folding._copies[1], between(folding._ring, 0, 20))

    found, instructions = states(worker, lambda: worker.prepare(20), act, parts=["hot", "cells", "board", "folded"])
    assert found == [(20, *BEFORE[1:])]
    assert int(worker.slot["folded"][1]["valid"]) == 20
    assert instructions > 1000
