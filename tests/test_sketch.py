"""The sketch: accuracy as a contract, against the exact answer of numpy."""

import numpy as np
import pytest

from shmetrics import sketch
from shmetrics.sketch import FIRST, MAX_EXPONENT, MIN_EXPONENT, OVERFLOW, PER_OCTAVE, RELATIVE_ERROR, UNDERFLOW, ZERO

SIZES = [1, 2, 3, 10, 101, 1000, 20_000]
FRACTIONS = np.array([0.0, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0])
DISTRIBUTIONS = {
    "uniform": lambda rng, size: rng.uniform(0.001, 2.0, size),
    "lognormal": lambda rng, size: rng.lognormal(-3.0, 1.5, size),
    "bimodal": lambda rng, size: np.where(
        rng.random(size) < 0.7, rng.normal(0.01, 1e-4, size), rng.normal(30, 1, size)
    ),
    "pareto": lambda rng, size: 0.002 * (1.0 + rng.pareto(1.1, size)).clip(max=1e7),
    "constant": lambda rng, size: np.full(size, 0.0317),
    "exponential": lambda rng, size: rng.exponential(0.05, size).clip(min=2e-6),
    "integers": lambda rng, size: rng.integers(1, 129, size).astype(float),
    "half_zero": lambda rng, size: np.where(rng.random(size) < 0.5, 0.0, rng.uniform(0.001, 0.01, size)),
}


def counts_of(values):
    return np.bincount(sketch.bucket_index(values), minlength=sketch.SIZE)


def quantiles_of(values, fractions=FRACTIONS):
    values = np.asarray(values, float)
    return sketch.quantiles(counts_of(values), np.asarray(fractions), values.min(), values.max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_quantile_is_within_the_relative_error_of_the_exact_one(name, size):
    values = DISTRIBUTIONS[name](np.random.default_rng([size, len(name)]), size)
    exact = np.percentile(values, 100.0 * FRACTIONS)
    np.testing.assert_allclose(quantiles_of(values), exact, rtol=RELATIVE_ERROR * (1 + 1e-9), atol=0.0)


def test_the_relative_error_is_at_most_1_1_percent():
    assert 0.0 < RELATIVE_ERROR <= 0.011


def test_values_all_over_the_range_are_estimated_within_the_relative_error():
    """Each value alone, clipping by its neighbours left out: the representative of its bucket."""
    values = np.random.default_rng(1).uniform(MIN_EXPONENT, MAX_EXPONENT, 2000)
    for value in np.exp2(values):
        estimate = sketch.quantiles(counts_of(np.array([value])), np.array([0.5]), 0.0, np.inf)
        assert abs(estimate[0] / value - 1.0) <= RELATIVE_ERROR * (1 + 1e-9)


def test_quantiles_of_merged_sketches_are_those_of_all_values_in_one():
    rng = np.random.default_rng(2)
    parts = [rng.lognormal(-3.0, spread, 500) for spread in (0.5, 1.0, 1.5)]
    merged = sum(counts_of(part) for part in parts)
    assert (merged == counts_of(np.concatenate(parts))).all()


def test_powers_of_two_are_exactly_on_their_inclusive_bound():
    exponents = np.arange(MIN_EXPONENT, MAX_EXPONENT + 1)
    powers = np.exp2(exponents.astype(float))
    index = sketch.bucket_index(powers)
    assert index.tolist() == (UNDERFLOW + (exponents - MIN_EXPONENT) * PER_OCTAVE).tolist()
    assert (sketch.upper_bounds()[index] == powers).all()


def test_just_above_a_power_of_two_is_the_next_bucket():
    exponents = np.arange(MIN_EXPONENT, MAX_EXPONENT)
    index = sketch.bucket_index(np.exp2(exponents) * (1 + 1e-12))
    assert index.tolist() == (FIRST + (exponents - MIN_EXPONENT) * PER_OCTAVE).tolist()


def test_every_value_is_between_the_bounds_of_its_bucket():
    bounds = sketch.upper_bounds()
    values = np.exp2(np.random.default_rng(3).uniform(MIN_EXPONENT - 2, MAX_EXPONENT + 2, 20_000))
    index = sketch.bucket_index(values)
    assert (values <= bounds[index]).all()
    assert (values > bounds[index - 1]).all()


def test_a_bound_is_the_last_value_of_its_bucket_and_the_next_float_is_in_the_next():
    bounds = sketch.upper_bounds()[:OVERFLOW]
    assert sketch.bucket_index(bounds).tolist() == list(range(OVERFLOW))
    assert sketch.bucket_index(np.nextafter(bounds, np.inf)).tolist() == list(range(1, OVERFLOW + 1))


def test_every_finite_value_has_a_bucket():
    edges = np.array([0.0, -0.0, 5e-324, 1e-308, 2.0**-21, 2.0**-20, 1.0, 2.0**20, 2.0**21, 1e18, 1.7e308])
    index = sketch.bucket_index(edges)
    assert index.tolist() == [ZERO] * 2 + [UNDERFLOW] * 4 + [641, OVERFLOW - 1] + [OVERFLOW] * 3


def test_the_shape_is_kept():
    assert sketch.bucket_index(np.ones((5, 3))).shape == (5, 3)


def test_the_values_are_left_alone():
    values = np.array([0.0, 1.0, 3.0])
    sketch.bucket_index(values)
    assert values.tolist() == [0.0, 1.0, 3.0]


def test_zeros_are_reported_as_exactly_zero():
    assert (quantiles_of(np.zeros(10)) == 0.0).all()


@pytest.mark.parametrize("values", [[1e-9, 3e-9, 8e-8], [2e6, 5e7, 1e12]], ids=["underflow", "overflow"])
def test_beyond_the_range_estimates_stay_between_the_exact_extremes(values):
    estimates = quantiles_of(values)
    assert (estimates >= min(values)).all()
    assert (estimates <= max(values)).all()


def test_open_buckets_do_not_spoil_what_is_inside_the_range():
    values = np.concatenate([np.full(10, 1e-9), np.random.default_rng(4).uniform(0.1, 1.0, 979), np.full(10, 1e9)])
    inside = [0.05, 0.5, 0.95]
    exact = np.percentile(values, 100.0 * np.array(inside))
    np.testing.assert_allclose(quantiles_of(values, inside), exact, rtol=RELATIVE_ERROR, atol=0.0)


def test_the_quantiles_of_nothing_are_zeros():
    assert sketch.quantiles(np.zeros(sketch.SIZE, np.uint64), FRACTIONS, 0.0, 0.0).tolist() == [0.0] * len(FRACTIONS)


def test_quantiles_never_fall_as_the_fraction_grows():
    values = np.random.default_rng(5).lognormal(0.0, 5.0, 3000)
    assert (np.diff(quantiles_of(values, np.linspace(0.0, 1.0, 2001))) >= 0.0).all()


def test_bounds_grow_from_zero_to_infinity():
    bounds = sketch.upper_bounds()
    assert len(bounds) == sketch.SIZE
    assert (np.diff(bounds) > 0.0).all()
    assert (bounds[ZERO], bounds[UNDERFLOW], bounds[OVERFLOW - 1], bounds[OVERFLOW]) == (0.0, 2**-20, 2**20, np.inf)
