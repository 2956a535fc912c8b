"""Times that any thread may add are all there when they are added up, however many there were."""

from shmetrics.spent import spend, sums
from tests.processes import run_in_threads


def test_times_of_one_kind_are_added_up_and_taken_out():
    spent = []
    for key, amount in (("a", 1.0), ("b", 2.0), ("a", 4.0)):
        spend(spent, key, amount)
    assert sums(spent) == {"a": 5.0, "b": 2.0}
    assert not spent


def test_a_list_stays_short_however_much_is_spent():
    spent = []
    for _ in range(10_000):
        spend(spent, "a", 1.0)
    assert len(spent) <= 64
    assert sums(spent) == {"a": 10_000.0}


def test_what_one_time_costs_does_not_grow_with_the_number_of_kinds():
    class Kind:
        looks = 0

        def __hash__(self):
            Kind.looks += 1
            return id(self)

    spent = []
    for _ in range(4096):
        spend(spent, Kind(), 1.0)
    assert Kind.looks < 10 * 4096


def test_threads_that_spend_at_once_lose_nothing():
    spent = []

    def many(index):
        for _ in range(5_000):
            spend(spent, index % 2, 1.0)

    run_in_threads(4, many)
    assert sums(spent) == {0: 10_000.0, 1: 10_000.0}
