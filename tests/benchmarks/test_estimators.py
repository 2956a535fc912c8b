"""Those that keep a distribution in little room."""

import random

import numpy as np
import pytest

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.estimators import ESTIMATORS, interpolated
from shmetrics.benchmarks.peers import OURS

BOUNDS = [0.1, 0.2, 0.4]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: estimator.name)
def test_an_estimator_answers_for_every_percentile_in_order(estimator):
    if estimator.lacking():
        pytest.skip(estimator.lacking())
    draw = random.Random(1)
    values = [draw.uniform(0.01, 0.1) for _ in range(1_000)]
    quantile, places = estimator.keep(values)
    answers = [quantile(fraction) for fraction in (0.1, 0.5, 0.9, 0.999)]
    assert answers == sorted(answers)
    assert answers[1] == pytest.approx(np.median(values), rel=0.1)
    assert places > 10


def test_ours_is_what_a_hub_says_of_the_same_records():
    draw = random.Random(2)
    values = [draw.lognormvariate(-4, 1) for _ in range(1_000)]
    with PerformanceMetrics(max_workers=1) as metrics:
        for value in values:
            metrics.update_inference(value)
        figures = metrics.get_comprehensive_statistics()
    (ours,) = (estimator for estimator in ESTIMATORS if estimator.name == OURS)
    quantile, _ = ours.keep(values)
    for percent in (50, 95, 99):
        assert quantile(percent / 100) == figures[f"lifetime_p{percent}_inference_time"]


@pytest.mark.parametrize(
    ("fraction", "counts", "expected"),
    [
        (0.5, [4, 0, 0, 0], 0.05),  # from zero, in the first bucket
        (0.5, [0, 4, 0, 0], 0.15),
        (0.75, [2, 0, 2, 0], 0.3),  # over an empty one
        (0.99, [1, 0, 0, 9], 0.4),  # in the one without an upper bound: the last bound there is
        (1.0, [1, 1, 1, 0], 0.4),
        (0.0, [0, 0, 4, 0], 0.1),
    ],
)
def test_buckets_are_interpolated_as_promql_does(fraction, counts, expected):
    assert interpolated(fraction, BOUNDS, counts) == pytest.approx(expected)
