"""Counting instructions."""

import shutil

import pytest

from shmetrics.benchmarks.instructions import counted, lacking
from shmetrics.benchmarks.peers import COUNTER, HISTOGRAM, OURS, REQUEST, peers
from shmetrics.benchmarks.peers.native import NAME


def test_without_valgrind_it_is_said_how_to_have_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert lacking() == "apt-get install valgrind"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind counts")
def test_a_call_that_does_more_takes_more_instructions_and_a_loop_in_c_a_few():
    names = [name for name in (OURS, NAME) if not peers()[name].lacking()]
    found = counted(names)
    assert 500 < found[OURS][COUNTER] < found[OURS][HISTOGRAM] < found[OURS][REQUEST] < 100_000
    assert NAME not in found or 10 < found[NAME][COUNTER] < 100
