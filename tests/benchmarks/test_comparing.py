"""What differs, and by how much; and when that says nothing."""

import random

import pytest

from shmetrics.benchmarks.comparing import OPEN, between, exactly, over_rounds, paired, spread, standing


def test_the_spread_is_of_the_middle_half_and_a_single_outlier_is_none_of_it():
    assert spread([10.0] * 8 + [1000.0]) == 0.0
    assert spread([6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0]) == pytest.approx(0.4)


def test_the_spread_of_few_is_of_all_of_them():
    assert spread([10.0, 10.0, 10.0, 10.0, 15.0]) == pytest.approx(0.5)
    assert (spread([3.0]), spread([0.0, 0.0]), spread([-1.0, 0.0, 1.0])) == (0.0, 0.0, 1.0)


def test_a_ratio_is_taken_round_by_round_so_that_a_slow_moment_of_the_machine_falls_out():
    slow = [1.0, 5.0, 1.0, 7.0, 1.0, 1.0]
    ratio = paired([3.0 * each for each in slow], slow)
    assert (ratio.median, ratio.low, ratio.high, *ratio.between) == (pytest.approx(3.0),) * 5
    assert over_rounds(slow).between == (1.0, 7.0)


@pytest.mark.parametrize(("count", "at"), [(6, 0), (8, 0), (9, 1), (20, 5), (100, 39)])
def test_the_median_is_surely_between_two_of_the_values(count, at):
    """The places are those of the tables of the sign test, at 5 % for both sides together."""
    values = [float(value) for value in range(count)]
    assert between(values[::-1]) == (values[at], values[-1 - at])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rounds_make_nothing_sure(count):
    assert between([1.0] * count) == OPEN
    assert exactly(1.0).between == (1.0, 1.0)


@pytest.mark.parametrize("count", [6, 20, 101])
def test_the_true_median_is_beyond_that_in_one_of_twenty_runs_at_most(count):
    draw = random.Random(count)
    missed = 0
    for _ in range(2000):
        low, high = between([draw.lognormvariate(0.0, 1.0) for _ in range(count)])
        missed += not low <= 1.0 <= high
    assert 0 < missed <= 0.06 * 2000


def test_figures_of_which_it_is_sure_which_is_less_are_ranked():
    values = {"b": [2.0, 2.1, 1.9], "a": [1.0, 1.1, 0.9], "c": [4.0, 4.1, 3.9]}
    found = standing({name: 2 * rounds for name, rounds in values.items()})
    assert found.order == ("a", "b", "c")
    assert found.places == {"a": "1", "b": "2", "c": "3"}
    assert found.refusals == ()
    most = standing({"b": 6 * [2.0], "a": 6 * [1.0]}, most=True)
    assert (most.order, most.places) == (("b", "a"), {"b": "1", "a": "2"})


def test_few_rounds_rank_nobody_and_it_is_said_once():
    found = standing({"a": [1.0] * 5, "b": [2.0] * 5, "c": [3.0] * 5})
    assert set(found.places.values()) == {"1-3"}
    assert found.refusals == ("too few rounds to rank: --rounds 6 or more may say more",)


def test_who_has_the_lower_median_is_not_ranked_before_whom_it_is_dearer_than_in_most_rounds():
    found = standing({"a": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "b": [0.9, 1.9, 2.9, 3.9, 3.95, 4.9, 5.9]})
    assert found.places == {"b": "1", "a": "2"}
    contrary = {"a": [1.1, 1.2, 1.3, 9.0, 9.1, 9.2, 1.4], "b": [1.0, 1.1, 1.2, 8.0, 8.1, 8.2, 1.5]}
    assert set(standing(contrary).places.values()) == {"1-2"}


def test_figures_of_which_it_is_not_sure_which_is_less_share_a_place_and_it_is_said_why():
    found = standing({"a": 2 * [1.0, 1.2, 0.8, 1.0], "b": 2 * [1.04, 1.0, 1.1, 0.9], "c": 8 * [9.0]})
    assert found.places == {"a": "1-2", "b": "1-2", "c": "3"}
    assert len(found.refusals) == 1
    assert found.refusals[0] == "too noisy to rank: a is 1.04 times b, and surely between 0.727 and 1.2 times"


def test_a_place_is_between_those_that_are_surely_before_and_surely_behind():
    values = {
        "a": [1.0, 1.3, 0.7, 1.0],
        "b": [1.2, 0.9, 1.5, 1.2],
        "c": [1.5, 1.9, 1.1, 1.5],
        "d": [9.0, 9.0, 9.0, 9.0],
    }
    places = standing({name: 2 * rounds for name, rounds in values.items()}).places
    assert places["d"] == "4"
    assert places["b"] == "1-3"
    assert set(places) == set(values)


def test_nobody_is_ranked_without_a_word():
    assert standing({}).order == ()
    assert standing({"a": [1.0]}).places == {"a": "1"}
