"""The in-flight board: what is on it, how busy its worker was, and what threads and handlers do to it."""

import random
import sys
import threading

import numpy as np
import pytest

from shmetrics import native
from shmetrics.board import Board, Busy, RequestInFlight, busy_of, crowd_of, requests_on
from shmetrics.layout import BOARD, BOARD_SIZE, LABEL_BYTES
from tests.forge import NOW, board_of
from tests.processes import run_in_threads
from tests.torture.failpoints import call_at


class Shown:
    """A board of its own, and what others see of it."""

    def __init__(self, clock):
        self.clock = clock
        self.board = native.in_front("Board", Board)(clock)
        self.bytes = bytearray(BOARD.itemsize)
        self.board.begin(memoryview(self.bytes))

    @property
    def copy(self):
        return np.frombuffer(self.bytes, BOARD)[0]

    @property
    def requests(self):
        return [(request.label, self.clock() - request.started_at) for request in requests_on(self.copy, self.clock())]

    @property
    def count(self):
        return len(self.requests) + crowd_of(self.copy)

    def busy(self, period):
        return busy_of(self.copy).fraction(self.clock(), period)

    def serve(self, seconds, then=0.0):
        ticket = self.board.enter()
        self.clock.now += seconds
        self.board.leave(ticket)
        self.clock.now += then


pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def shown(clock):
    return Shown(clock)


# Requests -------------------------------------------------------------------------------------------------------------


def test_requests_are_shown_with_label_and_age_the_oldest_first(shown, clock):
    shown.board.enter("GET /slow")
    clock.now += 2.0
    ticket = shown.board.enter("POST /predict/{model}")
    clock.now += 1.0
    assert shown.requests == [("GET /slow", 3.0), ("POST /predict/{model}", 1.0)]
    shown.board.leave(ticket)
    assert shown.requests == [("GET /slow", 3.0)]


def test_a_place_that_is_used_again_has_the_label_of_its_new_request(shown):
    for label in ("a long label", "b", "", "a long label"):
        ticket = shown.board.enter(label)
        assert [label for label, _ in shown.requests] == [label]
        shown.board.leave(ticket)


def test_a_label_may_be_given_later_when_the_route_is_known(shown, clock):
    ticket = shown.board.enter("GET")
    clock.now += 2.0
    shown.board.relabel(ticket, "GET /predict/{model}")
    assert shown.requests == [("GET /predict/{model}", 2.0)]
    shown.board.leave(ticket)
    shown.board.relabel(ticket, "gone")
    shown.board.enter("GET")
    assert shown.requests == [("GET", 0.0)]


def test_a_request_of_the_crowd_has_the_label_it_was_given_once_it_is_shown(shown):
    first = [shown.board.enter("first") for _ in range(BOARD_SIZE)]
    late = shown.board.enter("GET")
    shown.board.relabel(late, "GET /late")
    shown.board.leave(first.pop())
    assert shown.requests[-1] == ("GET /late", 0.0)
    shown.board.relabel(late, "GET /later")
    assert shown.requests[-1] == ("GET /later", 0.0)


@pytest.mark.parametrize(
    ("label", "seen"),
    [
        ("x" * 100, "x" * LABEL_BYTES),
        ("x" * (LABEL_BYTES - 1) + "ö", "x" * (LABEL_BYTES - 1)),
        ("GET /\x1b[2J\n", "GET /?[2J?"),
        ("half \ud800", "half ?"),
        ("", ""),
        (0, ""),
    ],
    ids=["long", "cut between characters", "escape", "no character", "none", "number"],
)
def test_any_label_comes_out_as_something_harmless(shown, label, seen):
    shown.board.enter(label)
    assert shown.requests == [(seen, 0.0)]


def test_a_ticket_counts_once_and_an_earlier_boards_not_at_all(shown):
    ticket, other = shown.board.enter(), shown.board.enter()
    for _ in range(3):
        shown.board.leave(ticket)
        assert shown.count == 1
    shown.board.begin(memoryview(bytearray(BOARD.itemsize)))
    shown.board.leave(other)
    tickets = {shown.board.enter() for _ in range(BOARD_SIZE)}
    assert len(tickets | {ticket, other}) == BOARD_SIZE + 2


def test_labels_without_end_are_not_remembered_without_end(shown):
    for number in range(20_000):
        shown.board.leave(shown.board.enter(f"/{number}"))
    assert len(shown.board._texts) < 5000


def test_requests_move_with_their_board_and_leave_from_where_it_is(shown, clock):
    ticket = shown.board.enter("early")
    before = shown.bytes
    clock.now += 1.5
    shown.bytes = bytearray(BOARD.itemsize)
    shown.board.move_to(memoryview(shown.bytes))
    assert shown.requests == [("early", 1.5)]
    late = shown.board.enter("late")
    shown.board.leave(ticket)
    assert shown.requests == [("late", 0.0)]
    shown.board.leave(late)
    assert shown.busy(1.0) == 1.0
    assert np.frombuffer(before, BOARD)["start"].any(), "nobody writes to the old bytes any more"


# The crowd ------------------------------------------------------------------------------------------------------------


def test_thousands_of_requests_are_counted_exactly_and_the_oldest_are_shown(shown, clock):
    draw, tickets = random.Random(1), {}
    for number in range(3000):
        tickets[shown.board.enter(str(number))] = number
        clock.now += 0.001
    assert shown.count == 3000
    assert [label for label, _ in shown.requests] == [str(number) for number in range(BOARD_SIZE)]
    order = list(tickets)
    draw.shuffle(order)
    for done, ticket in enumerate(order, 1):
        shown.board.leave(ticket)
        shown.board.leave(ticket)
        del tickets[ticket]
        if done % 100 == 0:
            assert shown.count == 3000 - done
            oldest = sorted(tickets.values())[:BOARD_SIZE]
            assert [int(label) for label, _ in shown.requests] == oldest
    assert shown.count == 0
    assert sorted(shown.board._free) == list(range(BOARD_SIZE))


def test_a_request_of_the_crowd_shows_its_own_age_once_it_has_a_place(shown, clock):
    first = [shown.board.enter("first") for _ in range(BOARD_SIZE)]
    clock.now += 1.0
    shown.board.enter("crowd")
    clock.now += 5.0
    shown.board.leave(first[0])
    assert shown.requests[-1] == ("crowd", 5.0)


# Busy time ------------------------------------------------------------------------------------------------------------


def test_a_worker_that_never_served_is_not_known_to_be_busy_or_idle(shown):
    assert not busy_of(shown.copy).is_known
    shown.board.leave(shown.board.enter())
    assert busy_of(shown.copy).is_known


def test_the_busy_fraction_is_the_part_of_the_time_that_was_spent_serving(shown):
    for _ in range(100):
        shown.serve(0.25, then=0.75)
    assert shown.busy(10.0) == shown.busy(60.0) == pytest.approx(0.25)


def test_a_long_request_counts_while_it_runs_and_not_twice_when_it_ends(shown, clock):
    shown.serve(0.5, then=99.5)
    ticket = shown.board.enter()
    for second in range(1, 31):
        clock.now += 1.0
        assert shown.busy(10.0) == pytest.approx(min(1.0, second / 10))
        assert shown.busy(60.0) == pytest.approx(second / 60)
    shown.board.leave(ticket)
    for second in range(1, 61):
        clock.now += 1.0
        assert shown.busy(10.0) == pytest.approx(max(0.0, 1.0 - second / 10))
        assert shown.busy(60.0) == pytest.approx(min(30, 60 - second) / 60)


def test_requests_that_overlap_count_once(shown, clock):
    first = shown.board.enter()
    clock.now += 1.0
    second = shown.board.enter()
    clock.now += 1.0
    shown.board.leave(first)
    clock.now += 1.0
    shown.board.leave(second)
    clock.now += 7.0
    assert shown.busy(10.0) == pytest.approx(0.3)


@pytest.mark.parametrize("seed", range(8))
def test_the_busy_fraction_is_that_of_all_intervals_laid_over_one_another(shown, clock, seed):
    """At the border of two seconds exactly; in between with what evenly within one second makes of it."""
    draw = random.Random(seed)
    open_tickets, last, marks = [], clock.now, []
    for _ in range(4000):
        marks.append((last, clock.now, bool(open_tickets)))
        last = clock.now
        if open_tickets and draw.random() < 0.6:
            shown.board.leave(open_tickets.pop(draw.randrange(len(open_tickets))))
        else:
            open_tickets.append(shown.board.enter())
        clock.now += draw.expovariate(draw.choice((0.5, 20.0, 20.0, 20.0)))
    marks.append((last, clock.now, bool(open_tickets)))
    for ahead in (0.0, np.ceil(clock.now) - clock.now, 0.3, 5.5):
        clock.now += ahead
        marks.append((marks[-1][1], clock.now, bool(open_tickets)))
        for period in (10.0, 60.0):
            since = clock.now - period
            exact = sum(max(0.0, end - max(start, since)) for start, end, busy in marks if busy) / period
            error = 1e-6 if clock.now == int(clock.now) else 0.5 / period
            assert shown.busy(period) == pytest.approx(exact, abs=error)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300, -0.0], ids=str)
def test_whatever_the_words_of_a_board_say_the_fraction_is_from_0_to_1(value):
    board = board_of([(value, "x")], busy=value, history={1000: value, 995: 3.0, 2**64 - 1: value, 990: value})
    for period in (10.0, 60.0, 0.001, 0.0, -1.0):
        assert 0.0 <= busy_of(board).fraction(NOW, period) <= 1.0
    assert all(0.0 < request.started_at <= NOW for request in requests_on(board, NOW))


def test_a_crowd_that_cannot_be_is_none():
    assert crowd_of(board_of(crowd=2**63)) == 0
    assert crowd_of(board_of(crowd=5000)) == 5000


def test_an_idle_worker_without_history_in_the_period_is_idle_and_a_busy_one_busy():
    assert Busy(12.5, {3: 0.0}).fraction(NOW, 10.0) == 0.0
    assert Busy(-3.0, {3: 0.0}).fraction(NOW, 10.0) == 1.0


def test_requests_are_equal_by_what_they_show():
    assert requests_on(board_of([(5.0, "a")]), NOW) == (RequestInFlight(5.0, "a"),)


# Threads, and handlers in the middle ----------------------------------------------------------------------------------


def assert_at_rest(shown):
    """Nothing is in flight, every place is free, and busy time does not grow."""
    assert shown.count == 0
    assert sorted(shown.board._free) == list(range(BOARD_SIZE))
    assert not shown.board._open
    assert not shown.board._seated
    assert shown.copy["busy"] >= 0.0


@pytest.mark.parametrize("held", [1, 5, 40])
def test_threads_that_enter_and_leave_at_once_leave_nothing_behind(clock, held):
    """Forty each of six threads: there is a crowd all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    shown = Shown(clock)

    def work(index):
        draw, tickets = random.Random(index), []
        for _ in range(3000):
            tickets.append(shown.board.enter(f"thread {index}"))
            clock.now += 1e-5
            while len(tickets) > draw.randrange(held):
                shown.board.leave(tickets.pop(draw.randrange(len(tickets))))
        for ticket in tickets:
            shown.board.leave(ticket)

    try:
        run_in_threads(6, work)
    finally:
        sys.setswitchinterval(interval)
    shown.serve(0.1)
    assert_at_rest(shown)


def _lines_of(function):
    return sorted({line for _, _, line in function.__code__.co_lines() if line} - {function.__code__.co_firstlineno})


@pytest.mark.parametrize("crowd", [0, BOARD_SIZE - 1, BOARD_SIZE, BOARD_SIZE + 1])
@pytest.mark.parametrize("method", [Board.enter, Board.leave, Board._give, Board._leave_crowded, Board._join_crowd])
def test_a_handler_that_enters_and_leaves_at_any_line_disturbs_nothing(clock, method, crowd):
    for line in _lines_of(method):
        shown = Shown(clock)
        others = [shown.board.enter("other") for _ in range(crowd)]
        left = []

        def handle(shown=shown, others=others, left=left):
            ticket = shown.board.enter("handler")
            if others and threading.current_thread() is threading.main_thread():
                shown.board.leave(others.pop())
            left.append(shown.board.enter("stays"))
            shown.board.leave(ticket)

        call_at(method.__code__, line, handle)
        try:
            ticket = shown.board.enter("request")
            clock.now += 1.0
            shown.board.leave(ticket)
        finally:
            sys.settrace(None)
        assert shown.count == len(others) + len(left)
        busy = shown.copy["busy"] < 0.0
        assert busy == bool(others or left)
        for ticket in others + left:
            shown.board.leave(ticket)
        shown.serve(2.0)
        assert_at_rest(shown)


def test_places_that_an_exception_of_a_handler_lost_come_back(shown, clock):
    shown.board._free.pop()
    shown.board._starts[7] = 5.0
    shown.serve(1.5)
    shown.serve(1.5)
    assert_at_rest(shown)
