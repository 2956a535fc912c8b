"""The harness sees what it is there to see: who hangs, who crashes, who waits, and what a report makes of it."""

import os
import select
import time

import pytest

from tests.torture import workers
from tests.torture.fleet import Fleet
from tests.torture.harness import Torture
from tests.torture.ledger import Calm, Ledger
from tests.torture.monitor import Monitor
from tests.torture.report import BROKEN, Report
from tests.torture.waiting import BlockedClock

PATIENCE = 60.0


@pytest.fixture
def fleet(make_segment):
    target, ledger = make_segment(), Ledger(10)
    monitor = Monitor(target, ledger, 10)
    fleet = Fleet(target, ledger, monitor, hang_bound=2.0)
    yield fleet
    fleet.end()
    monitor.view.close()


def _hang(_job):
    time.sleep(PATIENCE)


def _go_on(job):
    while True:
        job.beat()
        time.sleep(0.001)


def _crash(_job):
    raise RuntimeError("on purpose")


def test_who_makes_no_progress_is_counted_and_killed_and_who_does_is_not(fleet, capfd):
    good, bad = fleet.start(_go_on), fleet.start(_hang)
    deadline = time.monotonic() + PATIENCE
    while not fleet.hangs and time.monotonic() < deadline:
        fleet.note_hangs()
        time.sleep(0.01)
    assert fleet.wait_for(lambda: bad.pid not in fleet.running)
    assert fleet.hangs == 1
    assert good.pid in fleet.running
    shown = capfd.readouterr().err
    assert "_hang 1" in shown
    assert "in _hang" in shown  # its stack


def test_a_stop_by_the_harness_is_no_hang(fleet):
    process = fleet.start(_go_on)
    fleet.stop(process, 2.5)
    while process.wake_at is not None:
        fleet.note_hangs()
        fleet.wake()
        time.sleep(0.01)
    fleet.note_hangs()
    assert fleet.hangs == 0
    assert fleet.stops == 1
    assert fleet.wait_for(lambda: process.row[2] > 10)  # and it was continued


def test_what_is_stopped_within_a_stretch_is_not_measured(fleet):
    process = fleet.start(_go_on)
    before, during = Calm(process.row), Calm(process.row)
    assert before.lasted()
    fleet.stop(process, 0.0)
    during.begin()
    assert not before.lasted()
    assert not during.lasted()
    fleet.wake()
    assert not before.lasted()
    assert not during.lasted()
    during.begin()
    assert during.lasted()


def test_an_exception_in_a_process_is_a_crash(fleet, capfd):
    process = fleet.start(_crash)
    assert fleet.wait_for(lambda: process.pid not in fleet.running)
    assert fleet.crashes == 1
    assert "on purpose" in capfd.readouterr().err


def test_a_read_by_the_monitor_that_hangs_ends_the_torture(monkeypatch):
    torture = Torture(f"t-{os.getpid()}-hung", seconds=1.0, count=1, seed=1, hang_bound=1.0)
    monkeypatch.setattr(torture.monitor, "look", lambda: time.sleep(PATIENCE))
    report = torture.run()
    assert report.hangs
    assert not report.good


def test_computing_is_not_blocked_and_sleeping_is():
    clock = BlockedClock()
    start = clock()
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
    assert clock() - start < 0.1
    start = clock()
    time.sleep(0.2)
    assert clock() - start > 0.19
    clock.close()


@pytest.mark.parametrize("kind", BROKEN)
def test_any_broken_promise_is_the_verdict(kind):
    report = Report(seed=1)
    assert report.good
    assert "every promise held" in report.table()
    report = Report(seed=1, broken_after=2.5, **{kind: 3})
    assert not report.good
    assert report.verdict == f"BROKEN after 2.5 s: {kind} 3"
    assert report.as_dict()[kind] == 3


def test_no_tortured_process_outlives_the_harness(fleet):
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            fleet.start(workers.reap)
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    assert select.select([reading], [], [], PATIENCE)[0]  # readable: nobody has the other end any more
    assert os.read(reading, 1) == b""
    os.close(reading)
