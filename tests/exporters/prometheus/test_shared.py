"""Scrapes that overlap share a snapshot; those that do not never see an old one."""

import threading
from dataclasses import replace

import pytest

from shmetrics.errors import HubClosedError
from shmetrics.exporters.prometheus import shared
from shmetrics.exporters.prometheus.shared import SharedSnapshots
from tests.exporters.prometheus import Still
from tests.forge import fleet
from tests.processes import PATIENCE, in_forked_child, wait_until


def test_the_name_of_a_hub_is_no_source():
    """Else the first to notice would be a scrape."""
    with pytest.raises(TypeError, match="not 'resnet'"):
        SharedSnapshots("resnet")


class Slow:
    """A source whose snapshots take until they are let go, each another."""

    def __init__(self):
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.asked = 0

    def snapshot(self):
        self.asked += 1
        number = self.asked
        self.begun.release()
        assert self.go_on.acquire(timeout=PATIENCE)
        return replace(fleet(), workers_seen=number)


def ask(source, count, answers):
    """Threads that ask; they have all asked when this returns or soon after."""
    threads = [threading.Thread(target=lambda: answers.append(source.snapshot().workers_seen)) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_one_after_another_each_has_a_snapshot_of_its_own():
    still = Still()
    source = SharedSnapshots(still)
    for _ in range(3):
        source.snapshot()
    assert still.asked == 3


def test_those_who_wait_for_anothers_share_the_next(monkeypatch):
    """Never the one that had begun before they asked: it may lack what they were to see."""
    slow, answers, asked = Slow(), [], []

    def clock():
        asked.append(None)
        return float(len(asked))

    source = SharedSnapshots(slow, clock=clock)
    threads = ask(source, 1, answers)
    assert slow.begun.acquire(timeout=PATIENCE)
    threads += ask(source, 9, answers)
    wait_until(lambda: len(asked) == 2 + 9)
    slow.go_on.release()
    assert slow.begun.acquire(timeout=PATIENCE)
    slow.go_on.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(answers) == [1] + [2] * 9
    assert slow.asked == 2


def test_a_failure_is_passed_on_and_forgotten():
    class Failing(Still):
        def snapshot(self):
            if not self.asked:
                self.asked = 1
                raise HubClosedError("closed")
            return super().snapshot()

    source = SharedSnapshots(Failing())
    with pytest.raises(HubClosedError):
        source.snapshot()
    assert source.snapshot().name == "forged"


def test_nobody_waits_for_ever_for_a_snapshot_under_way(monkeypatch):
    """Nor does the very thread that takes one, asked again from a signal handler or a GC callback."""
    monkeypatch.setattr(shared, "_PATIENCE", 0.01)
    inner = []

    class Reentrant(Still):
        def snapshot(self):
            if not inner:
                inner.append(None)
                inner.append(source.snapshot())
            return super().snapshot()

    source = SharedSnapshots(Reentrant())
    assert source.snapshot() is inner[1]


def test_a_child_forked_in_the_middle_of_a_snapshot_takes_its_own(monkeypatch):
    monkeypatch.setattr(shared, "_PATIENCE", 3600.0)
    slow, answers = Slow(), []
    source = SharedSnapshots(slow)
    (thread,) = ask(source, 1, answers)
    assert slow.begun.acquire(timeout=PATIENCE)

    def child():
        slow.go_on.release()
        assert source.snapshot().workers_seen == 2

    in_forked_child(child)
    slow.go_on.release()
    thread.join(PATIENCE)
    assert answers == [1]
