"""An outbox: nothing a handler does stops anybody but itself."""

import logging
import sys
import threading
from asyncio import CancelledError

import pytest

from shmetrics.alerting.dispatch import Dispatch
from shmetrics.alerting.outbox import Backoff, Outbox, RefusedError
from tests.cli import until
from tests.exporters.alerts.receivers import alert
from tests.processes import in_forked_child

PATIENCE = 30.0
AT_ONCE = Backoff(first=0.001, most=0.002)


@pytest.fixture
def make():
    """A function that makes outboxes; all are closed afterwards."""
    made = []

    def outbox(send, **options):
        made.append(Outbox("pager", send, **options))
        return made[-1]

    yield outbox
    for each in made:
        each.close(PATIENCE)


def put(outbox, count, start=0):
    for number in range(start, start + count):
        outbox.put({"number": number})


def test_alerts_are_sent_in_order_by_another_thread(make):
    got = []
    outbox = make(lambda alert: got.append((alert["number"], threading.current_thread())))
    put(outbox, 100)
    outbox.close(PATIENCE)
    assert [number for number, _ in got] == list(range(100))
    assert threading.current_thread() not in {thread for _, thread in got}
    assert (outbox.figures.sent, outbox.figures.queued, outbox.figures.lost) == (100, 0, 0)


def test_it_works_on_after_a_close(make):
    got = []
    outbox = make(lambda alert: got.append(alert["number"]))
    put(outbox, 1)
    outbox.close(PATIENCE)
    put(outbox, 1, start=1)
    outbox.close(PATIENCE)
    assert got == [0, 1]


ERRORS = [ValueError("no"), SystemExit(1), RecursionError(), CancelledError(), KeyboardInterrupt()]


@pytest.mark.parametrize("error", ERRORS)
def test_a_handler_that_raises_gets_the_next_alert_all_the_same(make, error, caplog):
    got = []

    def send(alert):
        got.append(alert["number"])
        if alert["number"] == 0:
            raise error

    outbox = make(send)
    put(outbox, 3)
    outbox.close(PATIENCE)
    assert got == [0, 1, 2]
    assert (outbox.figures.sent, outbox.figures.failed, outbox.figures.lost) == (2, 1, 1)
    assert "alerts to pager, pid" in caplog.text
    assert type(error).__name__ in caplog.text


def test_a_handler_may_close_its_own_outbox_and_what_is_queued_is_sent_all_the_same(make):
    got = []

    def send(alert):
        outbox.close(PATIENCE)
        got.append(alert["number"])

    outbox = make(send)
    put(outbox, 3)
    until(lambda: outbox.figures.sent == 3)
    assert (got, outbox.figures.lost) == ([0, 1, 2], 0)


def test_without_a_thread_to_be_had_alerts_wait_for_the_next(make, monkeypatch, caplog):
    got = []
    outbox = make(lambda alert: got.append(alert["number"]))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        put(outbox, 1)
    assert (outbox.figures.queued, "wait until there is a thread" in caplog.text) == (1, True)
    put(outbox, 1, start=1)
    outbox.close(PATIENCE)
    assert got == [0, 1]


def refuse(thread):
    raise RuntimeError("can't start new thread")


class Gate:
    """A handler that hangs until it is let go."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()
        self.got = []

    def __call__(self, alert):
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.got.append(alert["number"])


def test_while_one_hangs_the_newest_wait_and_the_oldest_are_lost_and_counted(make):
    gate = Gate()
    outbox = make(gate, room=3)
    put(outbox, 1)
    assert gate.entered.wait(PATIENCE)
    put(outbox, 5, start=1)
    assert (outbox.figures.queued, outbox.figures.lost) == (4, 2)
    gate.open.set()
    outbox.close(PATIENCE)
    assert gate.got == [0, 3, 4, 5]


def test_closing_waits_no_longer_than_it_is_told_and_counts_what_it_leaves(make, caplog):
    gate = Gate()
    outbox = make(gate)
    put(outbox, 3)
    assert gate.entered.wait(PATIENCE)
    outbox.close(0.01)
    assert outbox.figures.lost == 3
    assert "took too long; 3 alerts are lost" in caplog.text
    gate.open.set()
    until(lambda: not outbox.figures.queued)


class Flaky:
    """Fails so many times, then works."""

    def __init__(self, failures):
        self.failures, self.got = failures, []

    def __call__(self, alert):
        if self.failures:
            self.failures -= 1
            raise OSError("connection refused")
        self.got.append(alert["number"])


def test_what_failed_is_tried_again_until_it_arrives_and_nothing_is_lost(make, caplog):
    caplog.set_level(logging.WARNING)
    flaky = Flaky(10)
    outbox = make(flaky, backoff=AT_ONCE)
    put(outbox, 3)
    until(lambda: outbox.figures.sent == 3)
    figures = outbox.figures
    assert flaky.got == [0, 1, 2]
    assert (figures.failed, figures.lost, figures.failing_since) == (10, 0, None)
    assert caplog.text.count("connection refused") == 1, "of a row of failures the first is told"
    assert caplog.text.count("takes alerts again") == 1


def test_while_it_fails_one_can_see_since_when_and_why(make):
    flaky = Flaky(10**9)
    outbox = make(flaky, backoff=AT_ONCE, clock=lambda: 77.0)
    put(outbox, 2)
    until(lambda: outbox.figures.failed > 3)
    assert outbox.figures.failing_since == 77.0
    assert outbox.figures.last_error == "OSError: connection refused"
    assert outbox.figures.queued == 2
    outbox.close(0.01)


def test_what_is_refused_is_not_tried_again(make):
    tries = []

    def send(alert):
        tries.append(alert["number"])
        if alert["number"] == 0:
            raise RefusedError("404")

    outbox = make(send, backoff=AT_ONCE)
    put(outbox, 2)
    outbox.close(PATIENCE)
    assert tries == [0, 1]
    assert (outbox.figures.sent, outbox.figures.lost) == (1, 1)


def test_a_forked_child_starts_with_an_empty_queue_and_a_thread_of_its_own(make):
    gate = Gate()
    outbox = make(gate)
    put(outbox, 2)
    assert gate.entered.wait(PATIENCE)

    def check():
        outbox.begin()
        assert outbox.figures.queued == 0
        gate.open.set()
        put(outbox, 1, start=7)
        outbox.close(PATIENCE)
        assert gate.got == [7], gate.got
        sys.stdout.flush()

    in_forked_child(check)
    gate.open.set()
    outbox.close(PATIENCE)
    assert gate.got == [0, 1]


@pytest.mark.parametrize(
    ("failures", "least", "most"), [(1, 0.5, 1.0), (2, 1.0, 2.0), (5, 8.0, 16.0), (99, 30.0, 60.0)]
)
def test_the_pause_doubles_up_to_its_bound_and_varies_by_chance(failures, least, most):
    assert [Backoff().delay(failures, chance) for chance in (0.0, 1.0)] == [least, most]


def test_closing_gives_what_waits_one_more_try_and_does_not_wait_for_its_turn(make):
    flaky = Flaky(1)
    outbox = make(flaky, backoff=Backoff(first=3600.0, most=3600.0))
    put(outbox, 2)
    until(lambda: outbox.figures.failed == 1)
    outbox.close(PATIENCE)
    assert flaky.got == [0, 1]
    flaky.failures = 10**9
    put(outbox, 2, start=2)
    until(lambda: outbox.figures.failed == 2)
    outbox.close(PATIENCE)
    assert (outbox.figures.lost, outbox.figures.queued) == (2, 0)


def test_a_handler_that_hangs_does_not_take_the_last_try_of_the_others():
    hanging, tried, dispatch = Gate(), [], Dispatch()

    def fails_once(alert):
        tried.append(alert)
        if len(tried) == 1:
            raise OSError("not yet")

    dispatch.register(hanging, "hangs")
    slow = dispatch.register(fails_once, "fails once", backoff=Backoff(first=3600.0, most=3600.0))
    dispatch.announce([alert()])
    until(lambda: hanging.entered.is_set() and slow.figures.failed == 1)
    dispatch.close(0.5)
    hanging.open.set()
    assert (slow.figures.sent, slow.figures.lost) == (1, 0)
