"""What calls may cost, in figures that are the same on every machine and at every load.

Instructions of the interpreter and calls of C functions are counted, of one call, and not timed: they change only with
the code, ours or CPython's. The limit of a call is what CPython 3.11 does, which does the most: 3.10 does up to 7 %
less, 3.12 and 3.13 up to 15 %. Where it does more, something was added to it; whoever has to add it raises the limit,
and says beside it what for.

What numpy does is no instruction of the interpreter. So the fold and the reads are timed too, by the processor time
that they take beside a fixed piece of work of the same kind, in turns. The least of the turns counts, since nothing
makes one shorter. These limits are twice what was found, which leaves room for other processors, and load does not
reach them.
"""

import gc
import random
import sys
import time
from contextlib import nullcontext, suppress
from contextvars import Context

import numpy as np
import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.benchmarks.fleets import fleet
from shmetrics.benchmarks.pages import FEEDS, room
from shmetrics.benchmarks.peers import OURS
from shmetrics.exporters.prometheus import render
from shmetrics.layout import FOLD_BATCH
from shmetrics.strict import is_strict
from shmetrics.workers import asgi, wsgi

TIMES = 5
"""The least of so many counts: the first call of a second does more, for one."""
FACTOR = 1.0 if (3, 10) <= sys.version_info < (3, 14) else 1.15
"""More for versions that nobody has counted with."""
LEAST = 0.7 if sys.version_info < (3, 12) else 0.6
"""Of what is allowed. Comprehensions are no functions of their own from 3.12 on."""

pytestmark = [
    pytest.mark.skipif(is_strict(), reason="strict mode has a fence around each word"),
    pytest.mark.skipif(sys.implementation.name != "cpython", reason="these are CPython's instructions"),
]


def instructions(call):
    """How many instructions of the interpreter a call does."""
    count = 0

    def traced(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def c_calls(call):
    """How many functions that are not Python's a call calls."""
    count = -1  # the one that ends it

    def profiled(_, event, __):
        nonlocal count
        count += event == "c_call"

    before = sys.getprofile()
    sys.setprofile(profiled)
    try:
        call()
    finally:
        sys.setprofile(before)
    return count


def least(count, call):
    """Of several counts; what is done the first time is not among them."""
    for _ in range(3):
        call()
    count(call)  # CPython 3.12 counts nothing the first time
    return min(count(call) for _ in range(TIMES))


def within(found, allowed, what):
    assert found <= FACTOR * allowed, f"{found} instructions of {what}; {allowed} are allowed"
    assert found >= LEAST * allowed - 5, f"{found} instructions of {what}: {allowed} limit nothing; lower it"


@pytest.fixture(autouse=True)
def _no_collection_in_between():
    gc.disable()  # others' garbage is no part of a call
    yield
    gc.enable()


@pytest.fixture
def metrics(written_in):
    with PerformanceMetrics(window_size=1000, max_workers=4) as made:
        made.add_stages("tokenization")
        made.claim()
        yield made


START, BODY = {"type": "http.response.start", "status": 200, "headers": []}, {"type": "http.response.body"}


async def done(_message):
    """What a server does with a message."""


def calls_of(metrics):
    custom = CustomMetrics(metrics)
    counter = custom.counter("things_total").labels()
    labelled = custom.counter("labelled_total", labels=["model", "route"])
    gauge = custom.gauge("queue", merge="live_sum").labels()
    histogram = custom.histogram("latency").labels()
    enter, leave = metrics.recorder.enter, metrics.recorder.leave

    def timed_block():
        with histogram.time():
            pass

    def request():
        with metrics.request():
            pass

    def stage():
        with metrics.stage("tokenization"):
            pass

    async def application(scope, receive, send):
        await send(START)
        await send(BODY)

    measured = asgi.MetricsMiddleware(application, metrics)

    def asgi_request():
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}, "method": "GET", "path": "/"}
        with suppress(StopIteration):
            measured(scope, None, done).send(None)

    served = wsgi.MetricsMiddleware(lambda environ, start_response: start_response("200 OK", []), metrics)

    def wsgi_request():
        served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: [b"ok"])

    return {
        "ASGI request": asgi_request,
        "WSGI request": wsgi_request,
        "update_inference": lambda: metrics.update_inference(0.0123, 4, 0.001, 0.002),
        "record_error": metrics.record_error,
        "counter": counter.inc,
        "labelled counter": lambda: labelled.labels("a", "b").inc(),
        "gauge": lambda: gauge.set(0.5),
        "histogram": lambda: histogram.observe(0.0123),
        "timed block": timed_block,
        "in flight": lambda: leave(enter("GET /predict")),
        "request": request,
        "stage": stage,
    }


CALLS = {
    # The token, the frame of the write, one pack of the whole record, the commit word, the token. The four in C: pop,
    # clock, pack, append; neither a system call nor anything that grows.
    "update_inference": (97, 4),
    # The token and one word.
    "record_error": (57, 2),
    # The token and one cell, once slot and series are what they were.
    "counter": (71, 2),
    # A look-up in a dictionary more.
    "labelled counter": (89, 2),
    # A value, and the time that it is of.
    "gauge": (85, 3),
    # A bisection in C, and two cells.
    "histogram": (110, 3),
    # The same, an object that keeps a time, and two looks at the clock.
    "timed block": (166, 5),
    # A place on the board, its label, the busy time; all of it twice.
    "in flight": (150, 6),
    # A measurement is made, put into a context variable, taken out and ended in one write: five records' worth.
    "request": (542, 17),
    # Two looks at the clock, and the context variable.
    "stage": (391, 18),
    # A request, with its kind and its duration; two messages are looked at. With a trivial application.
    # (Nineteen more than once: what begins a request is a function, so that one of C's can stand before it.)
    "ASGI request": (711, 17),
    # The same.
    "WSGI request": (626, 20),
}


CALLS_IN_C = {
    # To get there: what is between the caller and one function of C's, which calls nothing that is Python's. What that
    # takes is counted by no tracer, and is told beside the rest by `shmetrics bench write-cost`.
    "update_inference": (22, 1),
    "record_error": (16, 1),
    "counter": (0, 1),
    "labelled counter": (18, 1),
    "gauge": (6, 1),
    "histogram": (6, 1),
    "timed block": (62, 3),
    "in flight": (10, 2),
    # A measurement in Python, whose writes are not.
    "request": (329, 12),
    "stage": (287, 16),
    # What a server awaits is C's; the application, and what sends its messages.
    "ASGI request": (77, 2),
    # The application.
    "WSGI request": (23, 0),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_no_more_than_it_did(metrics, written_in, name):
    allowed, in_c = (CALLS if written_in == "Python" else CALLS_IN_C)[name]
    call = calls_of(metrics)[name]

    def check():
        with metrics.request() if name == "stage" else nullcontext():
            within(least(instructions, call), allowed, name)
            assert least(c_calls, call) <= in_c

    Context().run(check)  # in that of the test runner something may stand, which a request passes over


FOLD = {"Python": 1_280, "C": 660}
"""Instructions of a fold: some calls of numpy for all measures together, as many whatever the records are. In C these
are one function; what is left is the guard, and the record that finds no room.
"""
SERIES = {"Python": 110, "C": 1}
"""Of a page, for each further series, with the mean of counters and histograms: its numbers, one by one or at once."""
READS = {
    "Python": {
        # Copies with their checks, merged as arrays. For each further worker its words, its areas and its rows.
        "snapshot": (11_900, 1_200),
        # A sort for each measure, and a look-up for each key; for each further worker its rate over its seconds.
        "get_statistics": (20_500, 1_550),
    },
    "C": {
        # All slots are one function, and each worker is.
        "snapshot": (4_000, 330),
        "get_statistics": (10_500, 620),
    },
}


def record(metrics, records=1):
    for _ in range(records):
        metrics.update_inference(0.0123, 4, 0.001, 0.002)


def test_a_fold_does_no_more_than_it_did_and_comes_once_in_a_batch(metrics, written_in):
    record(metrics, 3 * FOLD_BATCH)
    counts = [instructions(lambda: record(metrics)) for _ in range(2 * FOLD_BATCH)]
    folds = [count - min(counts) for count in counts if count > min(counts) + FOLD[written_in] / 2]
    assert len(folds) == 2
    within(min(folds), FOLD[written_in], "a fold")


@pytest.mark.parametrize("name", READS["C"])
def test_a_read_does_no_more_than_it_did_for_one_worker_and_for_each_further_one(metrics, written_in, name):
    one, further = READS[written_in][name]
    record(metrics, 1500)
    while not metrics.get_statistics()["peak_throughput"]:
        pass  # until the second is over: from here on there is something to tell how steady the fleet is
    alone = least(instructions, getattr(metrics, name))
    within(alone, one, "one worker")
    with fleet(2, "fork", working, metrics):
        within((least(instructions, getattr(metrics, name)) - alone) / 2, further, "a further worker")


def working(_, metrics):
    record(metrics, 1500)
    return {}


@pytest.mark.parametrize("name", READS["C"])
def test_a_read_does_as_much_whatever_the_number_of_records(metrics, name):
    record(metrics, FOLD_BATCH + 50)
    few = least(instructions, getattr(metrics, name))
    record(metrics, 3000)
    assert least(instructions, getattr(metrics, name)) == pytest.approx(few, rel=0.1)


def test_a_page_does_no_more_than_it_did_for_each_further_series(written_in):
    found = []
    for series in (20, 220):
        with PerformanceMetrics(max_workers=1, max_series=room(series)) as metrics:
            FEEDS[OURS](metrics, series)(random.Random(1))
            found.append(least(instructions, lambda hub=metrics: render(hub)))
    within((found[1] - found[0]) / 200, SERIES[written_in], "a series")


# Beside numpy ---------------------------------------------------------------------------------------------------------

TURNS = 25
RATIOS = {
    # Of a batch: all that its logarithms, buckets and sums take of numpy.
    "fold": 0.8,
    # Of one worker with a full window: what numpy takes to be called, some hundred times, and little else.
    "snapshot": 7.0,
    # And five sorts of a thousand records.
    "get_statistics": 9.0,
    # And the text of it, a line for each bucket that holds something.
    "page": 17.0,
}
"""Twice what was found, with four versions of Python."""
INDICES = np.random.default_rng(1).integers(0, 1283, (5, 256))


def yardstick():
    """What numpy does in a fold and in a merge, by loops that no processor has an instruction for; about half a ms."""
    for _ in range(10):
        for row in INDICES:
            counts = np.bincount(row, minlength=1283)
            np.searchsorted(np.cumsum(counts), row)


def processor_time(work):
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def test_folds_and_reads_take_no_more_of_a_processor_than_they_did_beside_a_fixed_piece_of_work(metrics, written_in):
    record(metrics, 3000)
    while instructions(lambda: record(metrics)) < FOLD[written_in] / 2:
        pass  # until it folds; from here on the last record of each batch does
    works = {
        "fold": lambda: record(metrics),
        "snapshot": metrics.snapshot,
        "get_statistics": metrics.get_statistics,
        "page": lambda: render(metrics),
        "yardstick": yardstick,
    }
    found = {name: [] for name in works}
    for _ in range(TURNS):
        record(metrics, FOLD_BATCH - 1)
        for name, work in works.items():
            found[name].append(processor_time(work))
    shortest = {name: min(times) for name, times in found.items()}
    ratios = {name: round(shortest[name] / shortest["yardstick"], 2) for name in RATIOS}
    assert {name: ratio for name, ratio in ratios.items() if ratio > RATIOS[name]} == {}
    assert ratios["fold"] > RATIOS["fold"] / 40, "this was no fold"
