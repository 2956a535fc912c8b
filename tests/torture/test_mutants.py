"""Every deliberate defect of the protocol is caught by the harness, so the harness can be believed otherwise."""

import os

import pytest

from shmetrics import slots
from tests.torture.mutants import MUTANTS, Mutant, hunt

SECONDS = 60.0
"""For each hunt at most; all of them together take less."""
HUNTS = 3
"""Some need luck, of which a busy machine has less."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name):
    for number in range(HUNTS):
        report = hunt(name, f"t-{os.getpid()}-mutant", seconds=SECONDS, count=5, seed=os.getpid() + number)
        if MUTANTS[name].is_caught(report):
            return
    pytest.fail(report.table())


def test_nothing_is_caught_where_nothing_is_wrong():
    report = hunt(None, f"t-{os.getpid()}-control", seconds=6.0, count=5, seed=os.getpid())
    assert report.good, report.table()


def test_a_mutant_whose_text_is_gone_says_so():
    with pytest.raises(AssertionError, match=r"slots\.reap.*no such text"):
        Mutant("a defect", slots, "reap", (("no such text", ""),)).inject()
