"""Tickets are the same in C and in Python: which are in flight, and where."""

import random

import pytest

from shmetrics import native
from shmetrics.board import Tickets
from shmetrics.layout import BOARD_SIZE

OPERATIONS = {
    "come": lambda tickets, ticket, place: tickets.__setitem__(ticket, place),
    "go": lambda tickets, ticket, place: tickets.pop(ticket, None),
    "go, or else": lambda tickets, ticket, place: tickets.pop(ticket, place),
    "look": lambda tickets, ticket, place: (tickets.get(ticket), ticket in tickets, bool(tickets), len(tickets)),
}
ODD = [0, -1, 2**64, 2**200, "text", 1.5, None]


def each_way(monkeypatch):
    """Tickets in C where it is used, and Python's."""
    made = []
    for way in ("1", "0"):
        monkeypatch.setenv(native.VARIABLE, way)
        made.append(native.instead("Tickets", Tickets)())
    return made


def outcome(action, *args):
    """What it returns, or the class of what it raises."""
    try:
        return action(*args)
    except (TypeError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_and_goes_is_in_flight_as_long_as_in_python(monkeypatch, seed):
    tickets, draw, known = each_way(monkeypatch), random.Random(seed), [*ODD]
    for _ in range(2000):
        if draw.random() < 0.3:
            first, second = (each.draw() for each in tickets)
            assert first == second
            known.append(first)
        operation = OPERATIONS[draw.choice([*OPERATIONS])]
        ticket = draw.choice(known[-20:] + ODD)
        place = draw.choice([*range(BOARD_SIZE), -1, BOARD_SIZE, 2**70])
        assert outcome(operation, tickets[0], ticket, place) == outcome(operation, tickets[1], ticket, place)
        assert sorted(map(repr, tickets[0].items())) == sorted(map(repr, tickets[1].items()))
        if draw.random() < 0.002:
            assert [each.clear() for each in tickets] == [None, None]


def test_a_ticket_is_never_drawn_twice(monkeypatch):
    for tickets in each_way(monkeypatch):
        drawn = [tickets.draw() for _ in range(10)]
        tickets.clear()
        drawn += [tickets.draw() for _ in range(10)]
        assert drawn == [*range(1, 21)]


def test_what_cannot_be_asked_is_an_error(monkeypatch):
    for tickets in each_way(monkeypatch):
        tickets["text"] = 1
        for wrong in (
            lambda tickets=tickets: tickets.pop(),
            lambda tickets=tickets: tickets.pop(1, 2, 3),
            lambda tickets=tickets: tickets.pop([], None),
            lambda tickets=tickets: tickets.get([]),
            lambda tickets=tickets: [] in tickets,
            lambda tickets=tickets: tickets.__setitem__([], 1),
            lambda tickets=tickets: type(tickets)(1, 2),
        ):
            with pytest.raises(TypeError):
                wrong()


def test_two_are_never_at_the_same_place(monkeypatch):
    """A place that is given twice, after a handler of signals raised, say, belongs to either until it leaves."""
    for tickets in each_way(monkeypatch):
        tickets[1] = tickets[2] = 7
        assert (tickets.pop(1, None), len(tickets)) == (7, 1)
        assert (tickets.get(2), 1 in tickets) == (7, False)
        assert (tickets.pop(2, None), len(tickets)) == (7, 0)
