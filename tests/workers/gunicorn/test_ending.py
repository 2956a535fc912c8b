"""What the arbiter knows of how a worker ended."""

import sys

import pytest

from shmetrics.workers.gunicorn.ending import Reports, status_of


class Worker:
    pid = 17


class Arbiter:
    """Calls a hook from where gunicorn's calls it, with these local variables."""

    def reap_workers(self, wpid, status, hook):
        return hook(self, Worker())

    def reap(self, wpid, status, hook):
        return hook(self, Worker())


def test_it_is_the_status_that_waitpid_gave():
    assert Arbiter().reap_workers(17, 256, status_of) == 256
    assert Arbiter().reap_workers(17, 0, status_of) == 0


def test_hooks_may_be_chained_around_it():
    def chained(server, worker, depth=10):
        return chained(server, worker, depth - 1) if depth else status_of(server, worker)

    assert Arbiter().reap_workers(17, 9, chained) == 9


def test_far_out_nobody_looks():
    def chained(server, worker, depth=100):
        return chained(server, worker, depth - 1) if depth else status_of(server, worker)

    assert Arbiter().reap_workers(17, 9, chained) is None


@pytest.mark.parametrize(("wpid", "status"), [(18, 9), (None, 9), (17, None), (17, "9")])
def test_what_is_not_as_expected_is_not_known(wpid, status):
    assert Arbiter().reap_workers(wpid, status, status_of) is None


def test_a_call_from_elsewhere_is_not_known():
    assert Arbiter().reap(17, 9, status_of) is None
    assert status_of(Arbiter(), Worker()) is None


def test_another_arbiters_status_is_not_this_ones():
    assert Arbiter().reap_workers(17, 9, lambda server, worker: status_of(Arbiter(), worker)) is None


def test_what_interrupts_a_report_is_reported_after_it_and_not_within():
    said, depth = [], 0

    def report(pid, status):
        nonlocal depth
        depth += 1
        assert depth == 1
        if pid < 5:
            reports.add(pid + 1, 0)
        said.append(pid)
        depth -= 1

    reports = Reports(report)
    reports.add(1, 0)
    assert said == [1, 2, 3, 4, 5]


def test_a_report_that_fails_keeps_nobody_from_reporting():
    said = []

    def report(pid):
        if pid == 1:
            raise ZeroDivisionError
        said.append(pid)

    reports = Reports(report)
    with pytest.raises(ZeroDivisionError):
        reports.add(1)
    reports.add(2)
    assert said == [2]


def test_no_report_is_lost_at_whatever_instruction_another_comes():
    """Interrupted before every line of `add` in turn."""
    lines = 0
    for at in range(1000):
        said, left = [], [at]
        reports = Reports(said.append)

        def trace(frame, event, argument, left=left, reports=reports):
            if frame.f_code is Reports.add.__code__ and event == "line":
                if left[0] == 0:
                    sys.settrace(None)
                    frame.f_trace = None
                    reports.add("interrupting")
                left[0] -= 1
            return trace

        sys.settrace(trace)
        reports.add("interrupted")
        sys.settrace(None)
        if left[0] >= 0:
            break
        lines += 1
        assert sorted(said) == ["interrupted", "interrupting"], at
    assert lines > 8
