"""A torture of half a minute, as part of every test run; `make torture` is the long one."""

import os

from tests.torture.harness import Torture


def test_half_a_minute_of_torture_breaks_no_promise():
    report = Torture(f"t-{os.getpid()}-torture", seconds=30.0, count=5, seed=os.getpid()).run()
    assert report.good, report.table()
    assert report.deaths > 100  # however busy the machine is
    assert report.deaths_at_failpoints > 10
    assert report.stops > 5
    assert report.records > 10_000
    assert report.stale * 10 < report.reads
