"""Creators, reapers, readers and claimants that meet at the worst instruction, or die at it."""

import contextlib
import inspect
import itertools
import linecache
import multiprocessing
import os
import re
import signal
import sys
import time

import pytest

from shmetrics import Hub, PerformanceMetrics, guards, naming, obituaries, segment, slots
from shmetrics.aggregator import Aggregator
from shmetrics.copies import Copier
from shmetrics.errors import HubNotFoundError
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH, Layout
from shmetrics.obituaries import Obituaries
from shmetrics.reader import Reader
from shmetrics.writer import Writer
from tests.insisting import in_python, insisting_view
from tests.processes import PATIENCE, run_in_processes
from tests.test_forks import Child
from tests.torture.failpoints import call_at, die_at

SMALL = {"max_workers": 8, "max_series": 16}
RECORDS = FOLD_BATCH + 44
OBITUARY_STEPS = (slots._write_obituary, obituaries.write, Obituaries.add)


def lines_of(function):
    """Every (code, line) of a function."""
    code = inspect.unwrap(function).__code__
    lines = {line for _, _, line in code.co_lines() if line is not None and line > code.co_firstlineno}
    return [(code, line) for line in sorted(lines)]


def where(code, line):
    """A line of the code, for people."""
    return f"{code.co_name}, line {line}: {linecache.getline(code.co_filename, line).strip()}"


# Starters -------------------------------------------------------------------------------------------------------------

ROUNDS = 25


def start_in_rounds(name, barrier, index):
    """In each round: create or attach, record `index + 1` times; returns the instances."""
    instances = []
    for number in range(ROUNDS):
        barrier.wait(PATIENCE)
        with PerformanceMetrics(name=f"{name}-{number}", **SMALL) as metrics:
            for _ in range(index + 1):
                metrics.update_inference(0.01)
            instances.append(metrics._attachment.segment.instance)
    return instances


@pytest.fixture
def names_of_rounds(hub_name):
    """The name that each round's is made from; the hubs are removed."""
    yield hub_name
    for number in range(ROUNDS):
        target = segment.attach(f"{hub_name}-{number}")
        segment.unlink(target.name, target.instance)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_starters_that_race_for_a_name_all_get_the_same_hub_and_its_totals_are_exact(names_of_rounds, count):
    barrier = multiprocessing.get_context("spawn").Barrier(count)
    answers = run_in_processes("spawn", count, start_in_rounds, names_of_rounds, barrier)
    for number, instances in enumerate(zip(*answers, strict=True)):
        with Hub.attach(f"{names_of_rounds}-{number}") as hub:
            assert len(set(instances)) == 1
            assert hub.snapshot().counters.requests == count * (count + 1) // 2
            assert hub.snapshot().workers_seen == count


# A creator that is killed ---------------------------------------------------------------------------------------------


def leftovers(pid, name):
    """Files that a dead creator left, beside its hub."""
    mine = (f".{pid}.", f".{name}.")
    return [file for file in os.listdir(naming.SHM_DIR) if any(part in file for part in mine)]


def create_and_die_at(name, point):
    """Create a hub in a child that dies at a line; returns its pid and whether it died there."""
    pid = os.fork()
    if pid == 0:
        guards.template.cache_clear()  # as in a process that was not forked from one that had a hub
        die_at(*point)
        segment.create(name, Layout(**SMALL))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), where(*point)
    return pid, status != 0


@pytest.mark.parametrize(
    ("function", "template_may_stay"),
    [
        (segment.create, False),
        (segment._new_header, False),
        (guards.template, True),
        (segment.Segment.__init__, False),
        (naming.link, False),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_creator_killed_at_any_line_leaves_no_hub_or_a_whole_one_and_the_next_starter_succeeds(
    hub_name, function, template_may_stay
):
    deaths, templates = 0, 0
    for point in lines_of(function):
        pid, died = create_and_die_at(hub_name, point)
        deaths += died
        for file in leftovers(pid, hub_name):
            assert re.fullmatch(rf"sem\.{re.escape(naming.segment_file('template'))}\.{pid}\.[0-9a-f]{{16}}", file)
            os.unlink(f"{naming.SHM_DIR}/{file}")
            templates += 1
        with contextlib.suppress(HubNotFoundError):  # a HubRefusedError would be half a hub
            segment.attach(hub_name).close()
        with PerformanceMetrics(name=hub_name, **SMALL) as metrics:
            metrics.update_inference(0.01)
            assert metrics.get_statistics()["total_requests"] == 1, where(*point)
            metrics.unlink()
    assert deaths > 1
    assert bool(templates) is template_may_stay


# A reaper that is killed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "visits"),
    [(slots.reap, 1), *itertools.product([slots._reap_dead, slots._retire, slots._leavings, *OBITUARY_STEPS], [1, 2])],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_aggregator_killed_at_any_line_of_a_reap_is_succeeded_and_each_dead_worker_counts_once(
    make_segment, function, visits
):
    target, dead, deaths = make_segment(), 0, 0
    view = View(target)
    with Aggregator(segment.attach(target.name, writable=True)) as standby:
        for point in lines_of(function):
            for child in [Child(lambda: record(target)) for _ in range(2)]:
                child.kill()
            dead += 2
            deaths += aggregate_and_die_at(target.name, point, visits)
            between = view.snapshot()
            assert (between.counters.requests, between.workers_seen) == (dead * RECORDS, dead), where(*point)
            assert standby.try_lead()
            figures = standby.tick()
            assert (figures["total_requests"], figures["workers_seen"]) == (dead * RECORDS, dead), where(*point)
            assert figures["hub"]["corrupt"] == {}
            assert not any(target.slots["owner"]["state"]), where(*point)
            written = view.snapshot().obituaries
            assert written[-1].serial == dead, where(*point)  # one each: none is missing, and none there twice
            assert {each.exit_code for each in written} == {None}, where(*point)
            assert {each.requests for each in written} == {RECORDS}, where(*point)
            standby._bell.close()
            standby._role.release()
    assert deaths > 1


def record(target, count=RECORDS, **options):
    writer = Writer(target, **options)
    for _ in range(count):
        writer.record(0.01)
    return writer


def aggregate_and_die_at(name, point, visits):
    """Lead and tick in a child that dies at a line; returns whether it did."""
    pid = os.fork()
    if pid == 0:
        aggregator = Aggregator(segment.attach(name, writable=True))
        leads = aggregator.try_lead()
        die_at(*point, visits)
        aggregator.tick()
        aggregator.close()
        os._exit(not leads)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), where(*point)
    return status != 0


COPYING = (Reader.read, Reader._read_slots, Copier._attempt, Copier._copy_rows, Copier._copy_ring, Reader._read_retired)


# A reader that is slow ------------------------------------------------------------------------------------------------


def patterned(target, base, count):
    """Record values that say whose they are, and which; every measure follows from the first."""
    writer = Writer(target)
    for value in range(base + 1, base + count + 1):
        writer.record(value, 2 * value, 3 * value, 4 * value)
    return writer


def assert_of_one_incarnation(worker, bases):
    """Every row is whole, and all are of the one worker whose generation the copy shows."""
    rows, base = worker.window, bases[worker.generation]
    end = base + worker.counters.requests
    assert rows["inference_time"].tolist() == list(range(end - len(rows) + 1, end + 1))
    for measure, factor in (("batch_size", 2), ("preprocessing_time", 3), ("quantization_time", 4)):
        assert (rows[measure] == factor * rows["inference_time"]).all()
    assert int(worker.folded.valid) == worker.counters.requests
    assert float(worker.folded.sum[0]) == sum(range(base + 1, end + 1))


@pytest.mark.parametrize("successors", [20, RECORDS, 1500], ids="the next one wrote {}".format)
@pytest.mark.parametrize(
    ("function", "make_view"),
    [
        *((function, make) for function in COPYING for make in (View, insisting_view)),
        (Reader._insist, insisting_view),
        (Reader._hold_guard, insisting_view),
    ],
    ids=lambda value: value.__name__,
)
def test_a_reader_overtaken_by_death_reap_and_reclaim_shows_one_incarnation_whole_and_totals_never_go_down(
    make_segment, function, make_view, successors
):
    target = make_segment(max_workers=1)
    overtake_at(target, in_python(make_view(target)), lines_of(function), call_at, successors)


@pytest.mark.parametrize("successors", [20, RECORDS, 1500], ids="the next one wrote {}".format)
def test_a_reader_in_c_overtaken_between_its_copy_and_its_check_shows_one_incarnation_whole(make_segment, successors):
    """It asks the clock there; and later again."""
    target, actions = make_segment(max_workers=1), {}

    def clock():
        actions.pop("next", lambda: None)()
        return time.monotonic()

    def call_at_clock(call, _line, action):
        calls = iter(range(call))
        actions["next"] = lambda: action() if next(calls, None) is None else actions.update(next=again)
        again = actions["next"]

    view = View(target, clock=clock)
    overtake_at(target, view, [(call, "the clock") for call in range(3)], call_at_clock, successors)


def overtake_at(target, view, points, call_at, successors):
    """At each of these points of a read the worker dies, is reaped, and another records in its slot."""
    before, generation, overtaken = 0, 0, 0
    for point in points:
        worker = Child(lambda: patterned(target, 0, RECORDS))
        generation += 1
        bases = {generation: 0, generation + 1: 1_000_000}
        before += RECORDS
        assert view.snapshot().counters.requests == before, point
        following = []

        def overtake(worker=worker, following=following):
            worker.kill()
            assert slots.reap(target) == 1
            following.append(patterned(target, 1_000_000, successors))

        call_at(*point, overtake)
        try:
            fleet = view.snapshot()
        finally:
            sys.settrace(None)
        assert fleet.health.corrupt == {}, point
        assert before <= fleet.counters.requests <= before + successors, point
        for shown in fleet.workers:
            assert_of_one_incarnation(shown, bases)
        worker.kill()
        if following:
            overtaken += 1
            generation += 1
            before += successors
            following[0].close()
        fleet = view.snapshot()
        assert (fleet.counters.requests, int(fleet.folded.valid)) == (before, before), point
        slots.reap(target)
        assert view.snapshot().counters.requests == before, point
    assert overtaken > 1
