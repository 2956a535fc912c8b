"""A short torture, as part of every test run; `python -m tests.torture` makes long ones."""

import dataclasses
import os

from tests.torture.harness import Torture


def test_a_short_torture_breaks_no_promise():
    report = Torture(f"t-{os.getpid()}-torture", seconds=10.0, count=5, seed=os.getpid()).run()
    assert report.good, dataclasses.asdict(report)
    assert report.deaths > 50
    assert report.blocked_writes == 0
