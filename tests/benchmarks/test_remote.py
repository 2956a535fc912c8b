"""Work in a process of another environment."""

import sys

import psutil
import pytest

from shmetrics.benchmarks.remote import RemoteError, child

SETUP = "import collections\ncounts = collections.Counter()"
CODES = {"count": "counts['a'] += 1", "check": "assert counts['a'] == 5", "fail": "counts.nonsense()"}


def children():
    return {process.pid for process in psutil.Process().children()}


def test_a_child_does_what_it_is_told_to_and_times_it_and_is_gone_afterwards():
    before = children()
    with child(sys.executable, SETUP, CODES) as works:
        assert works["count"].many(3) >= 0.0
        assert len(works["count"].each(2)) == 2
        works["check"].many(1)
        assert len(children() - before) == 1
    assert children() == before


def test_a_child_that_cannot_says_why():
    with child(sys.executable, SETUP, CODES) as works, pytest.raises(RemoteError, match="no attribute 'nonsense'"):
        works["fail"].many(1)
    with pytest.raises(RemoteError, match="no_such_module"), child(sys.executable, "import no_such_module", {}):
        pass


def test_a_child_that_ends_is_no_riddle():
    with pytest.raises(RemoteError, match="ended by status 3"), child(sys.executable, "import os; os._exit(3)", {}):
        pass


def test_a_child_is_gone_when_its_parent_is_interrupted():
    before = children()
    with pytest.raises(KeyboardInterrupt), child(sys.executable, SETUP, CODES):
        raise KeyboardInterrupt
    assert children() == before
