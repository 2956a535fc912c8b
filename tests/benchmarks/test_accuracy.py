"""Errors of percentiles: what is right, and that ours are as small as is promised, from any seed."""

import argparse

import numpy as np
import pytest

from shmetrics.benchmarks.figures import Claim
from shmetrics.benchmarks.peers import OURS
from shmetrics.benchmarks.progress import silent
from shmetrics.benchmarks.scenarios import accuracy
from shmetrics.benchmarks.traces import requests


def ran(seed):
    options = argparse.Namespace(quick=True, seed=seed)
    with accuracy.setup(options) as state:
        return state, accuracy.run(state, options, silent)


@pytest.mark.parametrize("fraction", accuracy.FRACTIONS)
@pytest.mark.parametrize("count", [1, 2, 300, 1001])
def test_a_percentile_is_between_the_two_values_that_numpy_has_it_between(count, fraction):
    values = [float(each) for each in range(1, count + 1)]
    low, high = (np.quantile(values, fraction, method=method) for method in ("lower", "higher"))
    assert accuracy.between(values, fraction) == (low, high)


def test_an_estimate_between_the_two_is_right_and_another_is_as_wrong_as_it_is_far():
    assert accuracy.error(1.5, 1.0, 2.0) == 0.0
    assert accuracy.error(3.0, 1.0, 2.0) == 0.5
    assert accuracy.error(0.9, 1.0, 2.0) == pytest.approx(0.1)


def test_what_is_drawn_is_the_same_for_a_seed_and_another_for_another():
    (first, one), (again, other), (third, _) = ran(1), ran(1), ran(2)
    for name in accuracy.DISTRIBUTIONS:
        assert first[name] == again[name]
        assert one["distributions"][name] == other["distributions"][name]
    assert first["uniform"] != third["uniform"]


def test_the_errors_of_ours_are_as_small_as_is_promised_and_those_of_buckets_are_not():
    claims = [figure for figure in accuracy.report(ran(3)[1]) if isinstance(figure, Claim)]
    assert len(claims) == len(accuracy.DISTRIBUTIONS) + 1
    assert {claim.verdict for claim in claims} == {"holds"}
    wrong = {"uniform": {"values": 1, "exact": [], "places": {}, "errors": {OURS: [0.001, 0.012]}}}
    assert [claim.verdict for claim in accuracy._claims(wrong)] == ["does not hold"]


def test_a_trace_is_of_real_requests_each_of_which_took_some_time():
    found = requests(20, seed=1)
    assert len(found) == 20
    assert min(found) > 0.0
