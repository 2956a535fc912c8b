"""The tripwire: what in a worker's memory causes a look before its time. No write does anything for it."""

import pytest

from shmetrics.alerting.rules import Rule
from shmetrics.alerting.slo import BurnRate, Objective
from shmetrics.alerting.sources import Finding, Statistic, WorkerStatistic
from shmetrics.alerting.tripwire import Tripwire, Wires
from shmetrics.alerting.watch import wires_of
from shmetrics.layout import FOLD_BATCH
from shmetrics.slots import CACHE_HITS, CACHE_MISSES, ERRORS
from shmetrics.writer import Writer
from tests.test_forks import Child


@pytest.fixture
def writer(make_segment):
    """A worker that has its slot."""
    writer = Writer(make_segment())
    writer.record(0.01)
    yield writer
    writer.close()


@pytest.fixture
def make(writer, clock):
    return lambda **wires: Tripwire(writer._segment, Wires(**wires), clock)


def test_an_error_trips_it_until_somebody_looks(make, writer):
    wire = make(errors=True)
    assert not wire.tripped()
    writer.add(ERRORS, 1)
    assert wire.tripped()
    assert wire.tripped()
    wire.arm()
    assert not wire.tripped()


def test_a_miss_trips_it_and_a_hit_does_not(make, writer):
    wire = make(misses=True)
    writer.add(CACHE_HITS, 5)
    assert not wire.tripped()
    writer.add(CACHE_MISSES, 1)
    assert wire.tripped()


def test_a_slow_request_trips_it_and_a_quick_one_does_not(make, writer):
    wire = make(slower_than=0.1)
    for _ in range(100):
        writer.record(0.05)
        assert not wire.tripped()
    writer.record(0.05, 1, 0.04, 0.02)
    assert wire.tripped()
    assert wire.tripped(), "until somebody looks"
    wire.arm()
    assert not wire.tripped()


def test_a_slow_request_is_seen_when_the_ring_has_gone_round(make, writer):
    for _ in range(5 * FOLD_BATCH):
        writer.record(0.01)
    wire = make(slower_than=0.1)
    writer.record(0.5)
    assert wire.tripped()


def test_what_no_rule_asks_for_does_not_trip_it(make, writer):
    wire = make(errors=True)
    writer.record(9.0)
    writer.add(CACHE_MISSES, 1)
    assert not wire.tripped()


def test_the_death_of_a_worker_trips_it(make, writer):
    def record():
        own = Writer(writer._segment)
        own.record(0.01)
        return own  # which keeps its slot

    with Child(record) as child:
        wire = make(deaths=True)
        assert not wire.tripped()
        child.kill()
        assert wire.tripped()
        assert wire.found_death()
    wire.arm()
    assert not wire.tripped(), "one that is known to be dead"


@pytest.mark.parametrize("head", [0, 2**64 - 1, 2**63])
def test_forged_words_harm_nobody(make, writer, head):
    wire = make(errors=True, misses=True, slower_than=0.1, deaths=True)
    segment = writer._segment
    kept = segment.slots["hot"].copy()
    segment.slots["hot"]["head"][:] = head
    segment.slots["hot"]["errors"][:] = 2**64 - 1
    assert wire.tripped()
    wire.arm()
    assert wire.tripped() in (True, False)
    segment.slots["hot"][:] = kept


class TestRest:
    """However often it trips, its looks take a tenth of a CPU at most."""

    def test_after_an_early_look_it_rests_ten_times_as_long(self, make, writer, clock):
        wire = make(errors=True)
        wire.rest(0.03)
        writer.add(ERRORS, 1)
        clock.sleep(0.299)
        assert not wire.tripped()
        clock.sleep(0.002)
        assert wire.tripped()

    def test_it_rests_for_a_moment_at_least(self, make, writer, clock):
        wire = make(errors=True)
        wire.rest(0.0)
        writer.add(ERRORS, 1)
        assert not wire.tripped()
        clock.sleep(0.051)
        assert wire.tripped()


def rule(source, **fields):
    return Rule("R", source, **({"above": 0.05} | fields))


@pytest.mark.parametrize(
    ("rules", "wires"),
    [
        ([rule(Statistic("error_rate", last=50))], Wires(errors=True)),
        ([rule(BurnRate(Objective("A", 0.99), 3600.0, 300.0))], Wires(errors=True)),
        ([rule(Statistic("cache_hit_rate", window=60.0))], Wires(misses=True)),
        ([rule(Statistic("p95_total_time", last=50), above=0.2), rule(Statistic("p99_inference_time"), above=0.1)],
         Wires(slower_than=0.1)),
        ([rule(Finding("died"), above=None)], Wires(deaths=True)),
        ([rule(Statistic("throughput"), above=None, below=9.0), rule(WorkerStatistic("age"))], Wires()),
    ],
)  # fmt: skip
def test_which_wires_are_laid_follows_from_the_rules(rules, wires):
    assert wires_of(rules) == wires
    assert bool(wires) == (wires != Wires())
