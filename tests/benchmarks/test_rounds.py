"""Turns, in an order of their own each round."""

from shmetrics.benchmarks.calls import Call
from shmetrics.benchmarks.rounds import QUANTILES, interleaved, singles, timed


class Slow:
    """A work whose calls say that they take so long, and whose first one says that it takes a second."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.asked = []

    def many(self, calls):
        self.asked.append(calls)
        return 1.0 if len(self.asked) == 1 else calls * self.seconds

    def each(self, calls):
        return [self.seconds] * calls


def turns(names, order):
    return {name: lambda name=name: order.append(name) for name in names}


def test_every_round_has_every_turn_once_in_an_order_that_the_seed_decides():
    orders = []
    for seed in (1, 1, 2):
        order = []
        interleaved(turns("abcdef", order), 8, seed)
        rounds = [order[at : at + 6] for at in range(0, 48, 6)]
        assert all(sorted(each) == list("abcdef") for each in rounds)
        assert len({tuple(each) for each in rounds}) > 1
        orders.append(order)
    assert orders[0] == orders[1] != orders[2]


def test_turns_of_a_group_follow_one_another():
    order = []
    interleaved(turns(["a1", "a2", "a3", "b1", "b2", "b3"], order), 8, 1, group=lambda name: name[0])
    rounds = [order[at : at + 6] for at in range(0, 48, 6)]
    assert all(len({name[0] for name in each[:3]}) == 1 for each in rounds)
    assert {each[0][0] for each in rounds} == {"a", "b"}
    assert len({tuple(each) for each in rounds}) > 2


def test_what_turns_gave_is_kept_by_round_and_progress_ends_with_all():
    seen, prepared = [], []
    found = interleaved(
        {"a": lambda: len(prepared), "b": lambda: -1},
        3,
        1,
        lambda done, total: seen.append((done, total)),
        before=lambda: prepared.append(None),
    )
    assert found == {"a": [1, 2, 3], "b": [-1, -1, -1]}
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_turn_has_as_many_calls_as_fill_its_time_however_long_the_first_one_took():
    work = Slow(0.001)
    found = timed({"a": work}, rounds=3, seconds=0.1, seed=1)
    assert work.asked[-3:] == [100, 100, 100]
    assert found == {"a": [0.001] * 3}


def test_a_call_that_takes_longer_than_a_turn_is_made_once():
    work = Slow(5.0)
    timed({"a": work}, rounds=1, seconds=0.1, seed=1)
    assert work.asked[-1] == 1


def test_single_calls_have_quantiles_over_all_rounds_and_by_round():
    found = singles({"a": Slow(2.0), "b": Call("pass")}, rounds=3, calls=20, seed=1)
    assert found["a"] == {"all": [2.0] * len(QUANTILES), **{f"{quantile:g}": [2.0] * 3 for quantile in QUANTILES}}
    assert found["b"]["all"] == sorted(found["b"]["all"])
