"""Claims, and when they cannot be judged."""

import json

import pytest

from shmetrics.benchmarks.comparing import OPEN, Ratio
from shmetrics.benchmarks.figures import Axis, Column, Curve, Point, Table, as_json, at_least, at_most, quantity


@pytest.mark.parametrize(
    ("claim", "wanted", "between", "verdict"),
    [
        (at_least, 12.0, (12.1, 14.0), "holds"),
        (at_least, 12.0, (10.0, 11.9), "does not hold"),
        (at_most, 1.5, (1.2, 1.4), "holds"),
        (at_most, 1.5, (1.6, 2.0), "does not hold"),
        (at_most, 0.0, (0.0, 0.0), "holds"),
        (at_most, 0.0, (1.0, 1.0), "does not hold"),
    ],
)
def test_a_claim_holds_or_does_not_where_all_that_its_figure_may_be_is_on_one_side(claim, wanted, between, verdict):
    found = Ratio(sum(between) / 2, between[0] - 1.0, between[1] + 1.0, between)
    assert claim("it", wanted, found).verdict == verdict


@pytest.mark.parametrize("claim", [at_least, at_most])
def test_a_claim_whose_figure_may_be_on_either_side_of_what_is_wanted_cannot_be_judged(claim):
    found = claim("it", 12.0, Ratio(12.6, 11.0, 14.0, (11.7, 13.25)))
    assert (found.verdict, found.wanted[-4:], found.found) == ("too noisy to say", "12 x", "12.6 x")
    assert found.why == "it is surely between 11.7 x and 13.2 x; more --rounds say more"


def test_a_claim_of_few_rounds_cannot_be_judged_whatever_they_were():
    found = at_least("it", 12.0, Ratio(100.0, 99.0, 101.0, OPEN))
    assert (found.verdict, found.why) == (
        "too noisy to say",
        "too few rounds to be sure of anything; --rounds 6 or more may say more",
    )


def test_a_count_that_is_what_is_wanted_holds_since_it_has_no_noise():
    assert at_least("it", 20.0, Ratio(20.0, 20.0, 20.0, (20.0, 20.0))).verdict == "holds"


def test_a_claim_whose_figure_is_missing_says_why():
    claim = at_least("it", 12.0, None, why="pip install other")
    assert (claim.verdict, claim.found, claim.why) == ("not measured", "", "pip install other")


def test_quantities_have_the_digits_that_matter():
    assert [quantity(number, "ms") for number in (12.345, 0.001234, 12345.6)] == ["12.3 ms", "0.00123 ms", "12,346 ms"]
    assert quantity(2.0, "") == "2"


def test_every_figure_is_json_that_names_its_kind():
    figures = [
        Table("t", (Column("a"),), (("x",),)),
        Curve("c", Axis("x"), Axis("y"), {"a": (Point(1.0, 2.0),)}),
        at_least("it", 1.0, None),
    ]
    kinds = [json.loads(json.dumps(as_json(figure)))["kind"] for figure in figures]
    assert kinds == ["table", "curve", "claim"]
