"""What a report says of the machine."""

import os
import platform
from importlib.metadata import version

from shmetrics.benchmarks.machine import Watch, described


def test_the_machine_is_described_with_versions_processors_governor_and_memory():
    found = described()
    assert platform.python_version() in found["Python"]
    assert found["CPUs"] == f"{len(os.sched_getaffinity(0))} of {os.cpu_count()} may be used"
    assert f"statsd {version('statsd')}, " in found["compared"]
    assert all(found[key] for key in ("shmetrics", "prometheus_client", "system", "processor", "governor", "memory"))


def test_it_is_told_in_what_writes_are_made(written_in):
    assert described()["writes"] == f"in {written_in}"


def test_load_and_noise_are_said_before_and_after():
    found = Watch().conditions()
    assert found["load"].count(".") == 2
    assert "before" in found["noise"]
    assert "after" in found["noise"]
