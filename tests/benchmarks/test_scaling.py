"""Writers at once: what is counted, and what it comes to."""

import argparse
import time

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks import peers, scenarios
from shmetrics.benchmarks.figures import Claim, Curve, Table
from shmetrics.benchmarks.fleets import fleet
from shmetrics.benchmarks.peers import OURS
from shmetrics.benchmarks.scenarios import scaling


def rounds(**others):
    keys = ("records", "processor", "in_loops", "p50", "p999", "p999_worst", "furthest_processor", "reads")
    known = {**dict.fromkeys((*keys, "read_seconds"), 1.0), "each": [1, 1], **others}
    return {key: [value] * 6 for key, value in known.items()}


def point(start, writers, rate, peer=OURS, **others):
    return {"start": start, "peer": peer, "writers": writers, "rate": rate, "rounds": rounds(**others)}


def judged(*points):
    report = scaling.report({"rounds": 6, "missing": {}, "points": list(points)})
    return {figure.name: figure for figure in report if isinstance(figure, Claim)}


def test_writers_count_what_the_hub_counts():
    with PerformanceMetrics(max_workers=3) as metrics, fleet(3, "fork", scaling._as_writer, {OURS: metrics}) as some:
        before = metrics.get_statistics()["total_requests"]
        found = some.ask("write", OURS, 0.0, 0.0, of=2)
        assert metrics.get_statistics()["total_requests"] - before == sum(one["records"] for one in found)
        assert all(0.0 < one["p50"] <= one["p999"] for one in found)
        assert all(one["seconds"] > 0.0 and one["loop"] > 0.0 for one in found)


def test_a_reader_reads_as_often_as_it_should_and_is_not_late_for_what_it_could_not_do():
    peer = peers.peers()[OURS]
    with peers.opened(peer) as metrics:
        read = scaling._as_reader(0, {OURS: metrics})["read"]
        begin = time.monotonic()
        found = read(OURS, 20, begin, begin + 0.2)
    assert 1 <= found["reads"] <= 4
    assert found["seconds"] > 0.0


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_claims_are_judged_by_processor_time_by_records_and_by_the_tail(start):
    found = judged(
        point(start, 2, 0, in_loops=0.010, p999=1e-4),
        point(start, 2, 10, p999=1.2e-4),
        point(start, 16, 0, in_loops=0.0105, each=[110, 90], p999=1e-4),
        point(start, 16, 10, p999=3e-4),
        point(start, 64, 0, in_loops=0.02, each=[150, 50]),
    )
    verdicts = {name: claim.verdict for name, claim in found.items() if f"({start})" in name}
    assert list(verdicts.values()) == [
        "holds",
        "holds",
        "does not hold",
        "does not hold",
        "holds",
        "does not hold",
        "not measured",
    ]
    assert {claim.verdict for name, claim in found.items() if f"({start})" not in name} == {"not measured"}


def test_contention_is_a_curve_with_a_line_for_each_peer_and_each_reader_of_ours():
    report = scaling.report(
        {
            "rounds": 6,
            "missing": {},
            "points": [point("fork", 2, 0), point("fork", 4, 0), point("fork", 2, 10), point("fork", 2, 10, "other")],
        }
    )
    curves = [figure for figure in report if isinstance(figure, Curve)]
    assert {tuple(curve.lines) for curve in curves} == {("shmetrics, fork", "shmetrics, fork, read at 10 Hz")}
    assert [[row[0] for row in figure.rows] for figure in report if isinstance(figure, Table)] == [
        ["2", "4", "2, read at 10 Hz"],
        ["2, read at 10 Hz"],
    ]


def test_who_was_lucky_in_one_round_and_not_in_another_is_not_far_from_the_mean():
    assert scaling._furthest_over_all([[150, 50], [50, 150]]) == 0.0
    assert scaling._furthest_over_all([[150, 50], [90, 110]]) == pytest.approx(0.2)
    assert scaling._percent({"each": [[150, 50]]}).median == 50.0


@pytest.mark.parametrize("given", ["1,two", "65", "-1", ""])
def test_numbers_that_are_none_or_too_many_are_refused(given, capsys):
    parser = argparse.ArgumentParser()
    scenarios.load("scaling").configure(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--writers", given])
    assert "whole numbers up to 64 with commas between them" in capsys.readouterr().err
