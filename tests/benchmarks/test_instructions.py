"""Counting instructions."""

import shutil

import pytest

from shmetrics.benchmarks.instructions import counted, lacking
from shmetrics.benchmarks.peers import COUNTER, HISTOGRAM, OURS, REQUEST


def test_without_valgrind_it_is_said_how_to_have_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert lacking() == "apt-get install valgrind"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind counts")
def test_a_call_that_does_more_takes_more_instructions():
    found = counted(OURS)
    assert 500 < found[COUNTER] < found[HISTOGRAM] < found[REQUEST] < 100_000
