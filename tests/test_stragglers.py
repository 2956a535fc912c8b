"""Stragglers: found where there are some, and in homogeneous fleets at most once in a hundred looks."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from shmetrics import stragglers
from shmetrics.board import Busy
from shmetrics.evidence import Evidence
from shmetrics.findings import find
from shmetrics.snapshot import Usage
from shmetrics.stragglers import GROWTH, OUTLIER, SLOWER, modified_z
from tests.forge import NOW, fleet, records, worker

LATENCIES = {
    "narrow": lambda draw, count: draw.lognormal(-3.0, 0.3, count),
    "wide": lambda draw, count: draw.lognormal(-3.0, 1.0, count),
    "exponential": lambda draw, count: draw.exponential(0.05, count),
    "hits and misses of a cache": lambda draw, count: np.where(
        draw.random(count) < 0.5, draw.uniform(0.0009, 0.0011, count), draw.uniform(0.08, 0.12, count)
    ),
    "heavy tail": lambda draw, count: 0.01 * (1.0 + draw.pareto(1.1, count)),
    "constant": lambda _draw, count: np.full(count, 0.02),
}
MIB = 2**20


def serving(draw, slot, count, *, latency="wide", slower=1.0, errors=0.02, **fields):
    """A worker that served `count` requests in the last minute."""
    rows = records(
        np.sort(draw.uniform(NOW - 58.0, NOW, count)),
        inference_time=slower * LATENCIES[latency](draw, count),
        errors=np.cumsum(draw.random(count) < errors),
    )
    return worker(rows, slot=slot, pid=100 + slot, claimed_at=NOW - 1000.0, **fields)


def kinds(*workers, usages=None):
    return {(each.kind, each.worker) for each in find(Evidence(fleet(*workers), usages or {}))}


def alarms(looks, make):
    """In how many of so many looks at a fleet that `make` makes there was a finding."""
    return sum(bool(kinds(*make())) for _ in range(looks))


# The score ------------------------------------------------------------------------------------------------------------


def test_the_modified_z_score_is_that_of_iglewicz_and_hoaglin():
    """Median 10, MAD 2."""
    scores = modified_z([8.0, 10.0, 12.0, 13.0, 9.0, 10.0, 20.0, 5.0], [0.0] * 8)
    assert scores[6] == pytest.approx(0.6745 * 10.0 / 2.0)
    assert scores[1] == 0.0


def test_the_spread_is_never_taken_for_smaller_than_chance_makes_it():
    assert modified_z([1.0] * 9 + [2.0], [0.5] * 10)[-1] == pytest.approx(2.0)


def test_of_few_workers_only_chance_counts():
    assert modified_z([1.0, 5.0, 9.0], [1.0] * 3) == [-4.0, 0.0, 4.0]


# No false alarms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "looks"), [(2, 5), (3, 80), (5, 50), (16, 17)])
def test_a_homogeneous_fleet_gives_an_alarm_in_one_of_a_hundred_looks_at_most(workers, looks):
    """Whatever its latencies are like, and however much there is to go by."""
    draw, found = np.random.default_rng(workers), 0
    for latency, count in itertools.product(LATENCIES, (40, 100)):
        found += alarms(looks, lambda: [serving(draw, at, count, latency=latency) for at in range(workers)])  # noqa: B023
    assert found <= looks * len(LATENCIES) * 2 / 100


def test_a_fleet_that_is_not_homogeneous_by_nature_has_no_stragglers():
    """Half of the machine's cores are slower, say."""
    draw = np.random.default_rng(2)
    speeds = (1.0, 1.0, 1.3, 1.5, 1.7, 1.9, 2.1, 2.1)
    assert alarms(20, lambda: [serving(draw, slot, 100, slower=speed) for slot, speed in enumerate(speeds)]) == 0


def test_an_idle_fleet_a_fleet_of_two_and_workers_with_little_to_go_by_are_not_compared():
    draw = np.random.default_rng(3)
    assert kinds(*(worker(slot=slot) for slot in range(8))) == set()
    assert kinds(serving(draw, 0, 100, slower=10.0, errors=0.9), serving(draw, 1, 100, errors=0.0)) == set()
    few = [
        serving(draw, slot, 39, slower=10.0 if slot == 0 else 1.0, errors=0.9 if slot == 0 else 0.0)
        for slot in range(8)
    ]
    assert kinds(*few) == set()


def test_records_that_cannot_be_are_not_compared():
    draw = np.random.default_rng(12)
    odd = serving(draw, 0, 100)
    window = odd.window.copy()
    window["inference_time"][:30] = [np.nan, np.inf, -np.inf, 1e308, -1.0, 0.0] * 5
    window["preprocessing_time"][:30] = 1e308
    window["time"][30:40] = np.nan
    assert kinds(replace(odd, window=window), *(serving(draw, slot, 100) for slot in range(1, 8))) == set()


def test_what_is_long_ago_is_not_compared():
    draw = np.random.default_rng(4)
    slow = serving(draw, 0, 100, slower=10.0)
    slow = replace(slow, window=_shifted(slow.window, -300.0))
    assert kinds(slow, *(serving(draw, slot, 100) for slot in range(1, 8))) == set()


def _shifted(rows, seconds):
    rows = rows.copy()
    rows["time"] += seconds
    return rows


# Stragglers are found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latency", "least"), [("narrow", 20), ("wide", 13), ("exponential", 8), ("constant", 20)])
@pytest.mark.parametrize("workers", [3, 8, 16])
def test_a_worker_twice_as_slow_is_found(latency, least, workers):
    """Of 20 looks; with a window of 100 records and latencies that spread far, not in every look."""
    draw = np.random.default_rng(5)
    found = 0
    for _ in range(20):
        others = [serving(draw, slot, 100, latency=latency) for slot in range(1, workers)]
        found += ("slow_worker", 0) in kinds(serving(draw, 0, 100, latency=latency, slower=2.0), *others)
    assert found >= least


def test_two_slow_workers_of_eight_are_both_found():
    draw = np.random.default_rng(6)
    workers = [serving(draw, slot, 100, latency="narrow", slower=2.0 if slot < 2 else 1.0) for slot in range(8)]
    assert kinds(*workers) == {("slow_worker", 0), ("slow_worker", 1)}


@pytest.mark.parametrize("workers", [3, 8, 16])
def test_a_worker_with_five_times_the_errors_is_found(workers):
    draw = np.random.default_rng(7)
    found = 0
    for _ in range(20):
        others = [serving(draw, slot, 500, errors=0.02) for slot in range(1, workers)]
        found += ("failing_worker", 0) in kinds(serving(draw, 0, 500, errors=0.10), *others)
    assert found >= 18


def test_a_worker_that_fails_where_nobody_else_does_is_found():
    draw = np.random.default_rng(8)
    others = [serving(draw, slot, 100, errors=0.0) for slot in range(1, 4)]
    assert kinds(serving(draw, 0, 100, errors=0.5), *others) == {("failing_worker", 0)}


@pytest.mark.parametrize(("count", "expected"), [(5, 0.3), (5, 0.5), (20, 8.0), (60, 20.0), (1000, 800.0)])
def test_the_chance_of_so_many_errors_is_poissons(count, expected):
    logarithms = [number * math.log(expected) - expected - math.lgamma(number + 1) for number in range(count)]
    chance = 1.0 - math.fsum(map(math.exp, logarithms))
    assert chance - 1e-10 <= stragglers._at_least(count, expected) <= 1.1 * chance + 1e-10


@pytest.mark.parametrize("count", [10**6, 2**53, 2**64 - 1])
@pytest.mark.parametrize("part", [1e-9, 0.3, 1.0, 3.0])
def test_the_chance_of_any_count_is_there_at_once(count, part):
    """A count of errors is what shared memory says."""
    assert 0.0 <= stragglers._at_least(count, part * count) <= 1.0


def test_a_worker_that_fails_is_found_where_thousands_of_errors_are_expected():
    draw = np.random.default_rng(5)
    others = [serving(draw, slot, 20_000, errors=0.05) for slot in range(1, 5)]
    assert kinds(serving(draw, 0, 20_000, errors=0.5), *others) == {("failing_worker", 0)}


def test_a_straggler_is_named_with_how_much_against_what_and_what_to_do():
    draw = np.random.default_rng(9)
    workers = [serving(draw, slot, 100, latency="constant", slower=3.0 if slot == 2 else 1.0) for slot in range(4)]
    (finding,) = find(Evidence(fleet(*workers)))
    assert (finding.kind, finding.level, finding.worker, finding.pid) == ("slow_worker", "warning", 2, 102)
    assert (finding.value, finding.threshold) == (pytest.approx(3.0), SLOWER)
    assert finding.text == (
        "worker 102 in slot 2 is 3.0 times slower than the fleet: its last requests take 60 ms "
        "(geometric mean), where half of all workers need 20 ms at most; look at what it does (py-spy dump --pid 102)"
    )


# Traffic --------------------------------------------------------------------------------------------------------------


def sharing(*shares, busy, seed=10):
    """Workers that got so many requests and were busy for that part of the time."""
    draw = np.random.default_rng(seed)
    return [
        serving(draw, slot, count, latency="constant", busy=Busy(60.0 * part, {941: 0.0}))
        for slot, (count, part) in enumerate(zip(shares, busy, strict=True))
    ]


def test_a_worker_that_gets_far_more_than_its_share_and_is_busy_with_it_is_found():
    assert kinds(*sharing(900, 100, 110, 90, 105, busy=(0.9, 0.1, 0.1, 0.1, 0.1))) == {("overloaded_worker", 0)}


def test_a_skew_that_hurts_nobody_is_no_finding():
    """Where load is low the kernel wakes the same worker again and again."""
    assert kinds(*sharing(900, 100, 110, 90, 105, busy=(0.3, 0.1, 0.1, 0.1, 0.1))) == set()


def test_a_worker_that_gets_nothing_while_the_others_are_busy_is_found():
    assert kinds(*sharing(0, 200, 190, 210, 205, busy=(0.0, 0.8, 0.9, 0.8, 0.8))) == {("idle_worker", 0)}
    assert kinds(*sharing(0, 200, 190, 210, 205, busy=(0.9, 0.8, 0.9, 0.8, 0.8))) == set(), "one long request"
    assert kinds(*sharing(0, 200, 190, 210, 205, busy=(0.0, 0.2, 0.2, 0.2, 0.2))) == set(), "nobody is missed"


def test_a_worker_that_has_just_come_has_no_share_yet():
    newcomer, *others = sharing(0, 200, 190, 210, 205, busy=(0.0, 0.8, 0.9, 0.8, 0.8))
    assert kinds(replace(newcomer, claimed_at=NOW - 20.0), *others) == set()


def test_shares_that_are_fair_but_for_chance_are_no_finding():
    draw = np.random.default_rng(11)

    def fair():
        shares = draw.multinomial(1600, [1 / 16] * 16)
        return sharing(*shares, busy=[0.9] * 16, seed=int(draw.integers(2**32)))

    assert alarms(40, fair) == 0


# Memory ---------------------------------------------------------------------------------------------------------------


def growing(*growths, age=1000.0):
    """Findings about workers whose memory grows by so many MiB a minute."""
    workers = [worker(slot=slot, claimed_at=NOW - age) for slot in range(len(growths))]
    usages = {
        slot: Usage(rss_growth=None if growth is None else growth * MIB / 60) for slot, growth in enumerate(growths)
    }
    return kinds(*workers, usages=usages)


@pytest.mark.parametrize(
    ("growths", "found"),
    [
        ((0.0, 0.0, 0.0, 0.0), set()),
        ((5.0, 0.0, 0.1, 0.0), {("growing_worker", 0)}),
        ((0.9, 0.0, 0.0, 0.0), set()),
        ((3.0, 3.1, 2.9, 3.0), {("growing_fleet", None)}),
        ((3.0, 3.1, 30.0, 3.0), {("growing_fleet", None), ("growing_worker", 2)}),
        ((5.0, 0.0), {("growing_fleet", None)}),
        ((5.0, None, None), {("growing_fleet", None)}),
        ((None, None), set()),
    ],
)
def test_a_worker_that_grows_where_the_others_do_not_is_found_and_so_is_a_fleet_that_does(growths, found):
    assert growing(*growths) == found


def test_workers_that_are_young_grow_with_good_reason():
    assert growing(50.0, 50.0, 50.0, 5.0, age=200.0) == set()


def test_bounds_are_those_of_the_documents():
    assert (OUTLIER, SLOWER, stragglers.MORE_ERRORS, stragglers.SKEW, GROWTH) == (3.5, 1.5, 3.0, 3.0, MIB / 60)
