"""A short run of the fuzzer, as part of every test run; `python -m tests.fuzz` makes long ones."""

import os

from tests.fuzz.harness import Fuzz


def test_ten_seconds_of_hostile_bytes_under_live_processes_do_no_harm_but_to_themselves():
    report = Fuzz(f"t-{os.getpid()}-fuzz", seconds=10.0, seed=os.getpid()).run()
    assert report.good, report.examples
    assert report.strikes > 100
    assert min(report.acts[role] for role in ("write", "read", "aggregate")) > 0
    assert report.commands > 0
