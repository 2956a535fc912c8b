"""Reading: what is read is what was recorded, and what it comes to."""

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks import pages, peers
from shmetrics.benchmarks.figures import Claim, Curve
from shmetrics.benchmarks.fleets import fleet
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS
from shmetrics.benchmarks.scenarios import read_side
from shmetrics.benchmarks.scenarios.read_side import PAGE, STATISTICS, THEIR_PAGE, Plan, Spot


def read(spot, work, milliseconds):
    return {**vars(spot), "work": work, "processor": [milliseconds / 1e3] * 6, "passed": [0.5] * 6}


def memory(found, formula):
    return {**vars(Spot(1, 100, 0)), "bytes": found, "formula": formula, "slot": 1024, "theirs": 0.0}


def reported(*reads, found=1000, missing=None):
    return read_side.report(
        {
            "rounds": 6,
            "missing": missing or {},
            "bases": [vars(Plan().read), vars(Plan().scraped)],
            "slots": 64,
            "reads": list(reads),
            "readers": {"1": {"processor": [0.1] * 6, "passed": [0.2] * 6}},
            "memory": [memory(found, 1000)],
        }
    )


def verdicts(report):
    return [figure.verdict for figure in report if isinstance(figure, Claim)]


def test_every_process_records_and_feeds_in_the_hubs_that_have_a_slot_for_it():
    large, small = Spot(2, 100, 4), Spot(1, 100, 0)
    with (
        PerformanceMetrics(window_size=100, max_workers=2) as two,
        PerformanceMetrics(window_size=100, max_workers=1) as one,
        fleet(2, "fork", read_side._as_worker, {large: two, small: one}, {}) as workers,
    ):
        before = [hub.get_statistics()["total_requests"] for hub in (two, one)]
        workers.ask("record")
        after = [hub.get_statistics()["total_requests"] for hub in (two, one)]
        page = pages.PAGES[peers.OURS](two)()
    assert before == [400, 200]
    assert after == [400 + 2 * read_side._FRESH, 200 + read_side._FRESH]
    assert b"times_1_count 4" in page
    assert b"things_2_total " in page


def test_both_pages_have_the_same_series():
    draws = pages.random.Random(1), pages.random.Random(1)
    names = []
    for name, draw in zip(pages.PAGES, draws, strict=True):
        peer = peers.peers()[name]
        if peer.lacking():
            pytest.skip(peer.lacking())
        with peers.opened(peer) as state:
            pages.FEEDS[name](state, 4)(draw)
            lines = pages.PAGES[name](state)().decode().splitlines()
        found = {}
        for line in lines:
            if line.startswith(("things_", "times_")) and "_created" not in line:
                series, value = line.rsplit(" ", 1)
                found[series] = float(value)
        names.append(found)
    assert names[0] == pytest.approx(names[1])
    assert len(names[0]) == 2 + 2 * (len(pages.BUCKETS) + 3)


def test_a_plan_has_every_hub_once_and_those_that_claims_are_about():
    spots = Plan().spots()
    assert len(spots) == len(set(spots)) == 12
    assert {read_side.CLAIMED, read_side.CLAIMED_PAGE} <= set(spots)


def test_claims_are_judged_where_they_were_measured():
    claimed, scraped = read_side.CLAIMED, read_side.CLAIMED_PAGE
    good = [read(claimed, STATISTICS, 15.0), read(scraped, PAGE, 10.0), read(scraped, THEIR_PAGE, 500.0)]
    bad = [read(claimed, STATISTICS, 25.0), read(scraped, PAGE, 10.0), read(scraped, THEIR_PAGE, 300.0)]
    assert verdicts(reported(*good)) == ["holds", "holds", "holds"]
    assert verdicts(reported(*bad, found=1100)) == ["does not hold"] * 3
    without = reported(good[0], good[1], missing={MULTIPROCESS: "pip install it"})
    assert [(figure.verdict, figure.why) for figure in without if isinstance(figure, Claim)][1] == (
        "not measured",
        "pip install it",
    )


def test_a_curve_is_over_one_thing_and_the_others_are_those_of_its_base():
    base = Plan().read
    report = reported(
        read(Spot(64, base.window, 0), STATISTICS, 3.0),
        read(Spot(4, base.window, 0), STATISTICS, 1.0),
        read(Spot(4, 10_000, 0), STATISTICS, 2.0),
        read(Spot(base.slots, 10_000, 0), STATISTICS, 4.0),
        read(Spot(64, base.window, 200), PAGE, 5.0),
    )
    curves = [figure for figure in report if isinstance(figure, Curve)]
    assert [[(point.x, point.y) for line in curve.lines.values() for point in line] for curve in curves[:3]] == [
        [(4, 1.0), (64, 3.0)],
        [(10_000, 4.0)],
        [],
    ]
