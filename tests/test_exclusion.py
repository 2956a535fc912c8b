"""The write token: nobody deadlocks, nobody writes twice at once, and no token is lost for good."""

import signal
import sys
import threading
import time

import pytest

from shmetrics.exclusion import WriteToken, takes_token
from tests.processes import alarm_handled_by, run_in_threads


class Counter:
    """The smallest thing that writes under a token, as `shmetrics.writer` does."""

    def __init__(self):
        self.token = WriteToken()
        self.inside = 0
        self.written = 0
        self.queued = 0

    @takes_token
    def write(self, during=lambda: None):
        while True:
            try:
                self.token.take()
                break
            except IndexError:
                if not self.token.wait(lambda: self.written):
                    self.queued += 1
                    return
        try:
            self.inside += 1
            assert self.inside == 1, "two writes at once"
            during()
            self.written += 1
            self.inside -= 1
        finally:
            self.token.give(None)


def test_threads_write_one_at_a_time_and_every_write_is_done_when_it_returns():
    counter = Counter()

    def write_many(_index):
        for _ in range(2000):
            counter.write()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        run_in_threads(8, write_many)
    finally:
        sys.setswitchinterval(interval)
    assert (counter.written, counter.queued) == (16_000, 0)


def test_a_write_in_the_middle_of_a_write_of_the_same_thread_is_told_so_at_once():
    counter = Counter()
    counter.write(during=counter.write)
    assert (counter.written, counter.queued) == (1, 1)


def test_a_write_to_one_hub_in_the_middle_of_a_write_to_another_just_writes():
    first, second = Counter(), Counter()
    first.write(during=second.write)
    assert (first.written, second.written, second.queued) == (1, 1, 0)


def test_a_thread_waits_for_the_write_of_another_thread():
    counter, entered, leave = Counter(), threading.Event(), threading.Event()

    def slow():
        entered.set()
        leave.wait()

    holder = threading.Thread(target=counter.write, args=(slow,))
    holder.start()
    entered.wait()
    waiter = threading.Thread(target=counter.write)
    waiter.start()
    waiter.join(1.0)  # longer than it takes to believe a token lost
    assert waiter.is_alive(), "it wrote while another write was under way"
    leave.set()
    holder.join()
    waiter.join()
    assert (counter.written, counter.queued) == (2, 0)


def test_a_token_that_goes_from_hand_to_hand_while_somebody_looks_for_its_holder_is_not_taken_for_lost():
    """Writes as long as those of a process that hardly gets the CPU."""
    counter = Counter()

    def write_slowly(_index):
        for _ in range(50):
            counter.write(during=lambda: time.sleep(0.004))

    run_in_threads(6, write_slowly)
    assert counter.written == 300
    assert len(counter.token._token) == 1


@pytest.mark.parametrize("threads", [1, 4])
def test_a_token_that_was_lost_to_a_raising_signal_handler_is_made_anew_once(threads):
    counter = Counter()
    counter.token.take()  # what an interrupt between the pop and the try leaves behind

    def write_many(_index):
        for _ in range(200):
            counter.write()

    run_in_threads(threads, write_many)
    assert counter.written == 200 * threads
    assert len(counter.token._token) == 1


def test_a_waiter_whose_token_another_waiter_made_anew_makes_none():
    """However late it comes to it: the one who made it may be writing by then."""
    token = WriteToken()
    token.take()
    seen = token._mints
    token._mint(seen)
    token.take()
    token._mint(seen)
    with pytest.raises(IndexError):
        token.take()


# It may raise in a callback of weakref, of what a collection takes away meanwhile:
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_handler_that_raises_at_random_points_of_a_write_never_stops_later_writes():
    class Interrupt(Exception):
        pass

    def interrupt(_signal, _frame):
        raise Interrupt

    counter, interrupted = Counter(), 0
    with alarm_handled_by(interrupt):
        while interrupted < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-5)
                for _ in range(1000):
                    counter.inside = 0
                    counter.write()
            except Interrupt:
                interrupted += 1
    counter.inside = 0
    written = counter.written
    counter.write()
    assert counter.written == written + 1
