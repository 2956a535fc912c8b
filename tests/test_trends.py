"""Trends: the test against brute force, and right and wrong calls on seeded series."""

import itertools
import json
import math

import numpy as np
import pytest

from shmetrics.samples import Samples
from shmetrics.trends import (
    DECREASING,
    FEWEST,
    INCREASING,
    INSUFFICIENT,
    MOST,
    STABLE,
    analyze,
    error_trend,
    latency_trend,
    mann_kendall,
    stability,
    throughput_trend,
)

LENGTH = 300
SERIES = 200
"""Of each kind; their calls are counted."""
RISE = np.linspace(-0.5, 0.5, LENGTH)
KINDS = {"throughput": throughput_trend, "latency": latency_trend, "error": error_trend}


def samples_of(requests, latency=0.02, errors=0.0, seconds=None):
    """Seconds with these requests, mean latency and errors."""
    requests = np.asarray(requests, float)
    flat = np.ones(len(requests))
    times = np.arange(1.0, len(requests) + 1.0) if seconds is None else np.asarray(seconds, float)
    return Samples(times, flat, requests, errors * flat, requests, requests * latency * flat)


def traffic(rng, rate=50.0, latency=0.02, errors=0.01):
    """Requests that come at random (Poisson), take a time that varies (gamma, deviation half of the mean) and fail."""
    flat = np.ones(LENGTH)
    requests = rng.poisson(rate * flat).astype(float)
    latency_sum = rng.gamma(np.maximum(4.0 * requests, 1e-9)) * latency * flat / 4.0
    failed = rng.binomial(requests.astype(int), errors * flat).astype(float)
    return Samples(np.arange(1.0, LENGTH + 1.0), flat, requests, failed, requests, latency_sum)


def calls(kind, direction, make, seed):
    """The part of the series that are called so."""
    rng = np.random.default_rng(seed)
    return sum(KINDS[kind](make(rng)).direction == direction for _ in range(SERIES)) / SERIES


def correlated(rng, phi):
    """Noise of deviation 1 whose neighbours are correlated: a first-order autoregressive process."""
    noise = rng.normal(size=LENGTH) * math.sqrt(1.0 - phi * phi)
    noise[0] = rng.normal()
    for at in range(1, LENGTH):
        noise[at] += phi * noise[at - 1]
    return noise


# Calls ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [5.0, 50.0, 1000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_flat_traffic_is_stable(kind, rate):
    assert calls(kind, STABLE, lambda rng: traffic(rng, rate), seed=1) >= 0.95


@pytest.mark.parametrize("rate", [5.0, 50.0, 1000.0])
@pytest.mark.parametrize(("kind", "column"), [("throughput", "rate"), ("latency", "latency")])
@pytest.mark.parametrize(("sign", "direction"), [(1, INCREASING), (-1, DECREASING)])
def test_a_change_of_sixty_percent_is_called_what_it_is(kind, column, rate, sign, direction):
    base = {"rate": rate, "latency": 0.02}
    base[column] = base[column] * (1.0 + 0.6 * sign * RISE)
    assert calls(kind, direction, lambda rng: traffic(rng, **base), seed=2) >= 0.95


@pytest.mark.parametrize(("sign", "direction"), [(1, INCREASING), (-1, DECREASING)])
def test_errors_that_go_from_one_to_five_percent_are_called_what_they_are(sign, direction):
    rates = 0.03 + 0.04 * sign * RISE
    assert calls("error", direction, lambda rng: traffic(rng, 50.0, errors=rates), seed=3) >= 0.95


@pytest.mark.parametrize("phi", [0.3, 0.5, 0.7, 0.9])
def test_correlated_noise_is_stable(phi):
    """Busy seconds follow busy seconds, which without a correction looks like a trend in most cases: see below."""
    make = lambda rng: samples_of(100.0 + 20.0 * correlated(rng, phi))  # noqa: E731
    assert calls("throughput", STABLE, make, seed=4) >= 0.95


@pytest.mark.parametrize(("phi", "most"), [(0.0, 0.02), (0.3, 0.02), (0.5, 0.03), (0.7, 0.03), (0.9, 0.06)])
def test_the_test_itself_is_right_about_how_often_it_is_wrong(phi, most):
    """Without the practical floor: the part of correlated noise whose p is under 1 %."""
    rng, times = np.random.default_rng(5), np.arange(float(LENGTH))
    wrong = sum(mann_kendall(times, correlated(rng, phi)).p_value < 0.01 for _ in range(SERIES)) / SERIES
    assert wrong <= most


@pytest.mark.parametrize("kind", KINDS)
def test_bursts_make_no_trend_and_hide_none(kind):
    """One second in twenty has ten times the traffic, which takes five times as long."""

    def make(rng, rise=0.0):
        burst = rng.random(LENGTH) < 0.05
        slope = 1.0 + rise * RISE
        return traffic(
            rng, 50.0 * slope * np.where(burst, 10.0, 1.0), 0.02 * slope * np.where(burst, 5.0, 1.0), 0.03 * slope
        )

    assert calls(kind, STABLE, make, seed=6) >= 0.95
    if kind != "error":  # of which a rise by 60 % is less than two points: too little to matter
        assert calls(kind, INCREASING, lambda rng: make(rng, 0.8), seed=7) >= 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_gaps_make_no_trend_and_hide_none(kind):
    """A third of the time nobody looked, in pieces."""

    def make(rng, rise=0.0):
        slope = 1.0 + rise * RISE
        whole = traffic(rng, 50.0 * slope, 0.02 * slope, 0.03 * slope)
        seen = np.ones(LENGTH, bool)
        seen[40:80] = seen[150:180] = seen[260:290] = False
        return Samples(*(getattr(whole, name)[seen] for name in Samples.__dataclass_fields__))

    assert calls(kind, STABLE, make, seed=8) >= 0.95
    if kind != "error":
        assert calls(kind, INCREASING, lambda rng: make(rng, 0.8), seed=9) >= 0.95


def test_a_pause_in_the_middle_is_no_trend():
    requests = np.full(LENGTH, 50.0)
    requests[120:180] = 0.0
    samples = samples_of(requests)
    assert [trend(samples).direction for trend in KINDS.values()] == [STABLE] * 3


def test_a_significant_change_that_is_too_small_to_matter_is_stable():
    trend = throughput_trend(samples_of(1000.0 + 50.0 * RISE))
    assert trend.p_value < 1e-6
    assert (trend.direction, trend.slope_per_minute) == (STABLE, pytest.approx(10.0, rel=0.01))
    assert trend.confidence == pytest.approx(1.0)


def test_few_samples_are_insufficient():
    for samples in (samples_of([]), samples_of([50.0]), samples_of(range(29)), samples_of(range(FEWEST - 1))):
        for judge in KINDS.values():
            trend = judge(samples)
            assert (trend.direction, trend.confidence, trend.slope_per_minute) == (INSUFFICIENT, 0.0, 0.0)
        assert stability(samples)["rating"] == INSUFFICIENT
    assert throughput_trend(samples_of(np.arange(1.0, 31.0))).direction == INCREASING


def test_latency_of_a_fleet_without_requests_is_insufficient():
    samples = samples_of(np.zeros(LENGTH))
    assert latency_trend(samples).direction == error_trend(samples).direction == INSUFFICIENT
    assert throughput_trend(samples).direction == STABLE


def test_slope_change_and_series_are_what_was_judged():
    trend = throughput_trend(samples_of(100.0 + 60.0 * RISE))
    assert trend.slope_per_minute == pytest.approx(12.0, rel=0.02)
    assert trend.change == pytest.approx(0.6, rel=0.02)
    assert (trend.step, len(trend.values), trend.times[-1]) == (5.0, MOST, LENGTH)
    assert trend.confidence > 0.99
    assert trend.as_dict()["ages"] == [5.0 * at for at in range(MOST - 1, -1, -1)]


def test_the_unit_of_time_is_the_clocks_not_the_samples():
    """Half of the seconds are missing, and the slope is the same."""
    every, values = np.arange(1.0, 601.0, 2.0), 100.0 + 60.0 * RISE
    assert throughput_trend(samples_of(values, seconds=every)).slope_per_minute == pytest.approx(6.0, rel=0.02)


def test_rare_errors_are_put_together_until_there_is_something_to_compare():
    rng = np.random.default_rng(3)
    trend = error_trend(traffic(rng, 50.0, errors=0.0005))
    assert (len(trend.values), trend.direction) == (FEWEST, STABLE)


# Confidence -----------------------------------------------------------------------------------------------------------


def test_confidence_is_how_often_the_call_is_right():
    """A true change of 4 % of the level, and noise that often shows more than the floor of 10 %."""
    rng = np.random.default_rng(11)
    trends = [throughput_trend(samples_of(100.0 + 4.0 * RISE + rng.normal(0.0, 25.0, LENGTH))) for _ in range(SERIES)]
    stable = [trend for trend in trends if trend.direction == STABLE]
    mean = np.mean([trend.confidence for trend in stable])
    assert 0.5 < mean < 0.95
    assert all(0.0 <= trend.confidence <= 1.0 for trend in trends)


# Stability ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [5.0, 50.0, 1000.0])
def test_traffic_that_is_as_even_as_chance_allows_is_excellent(rate):
    rng = np.random.default_rng(12)
    steady = stability(traffic(rng, rate, errors=0.0))
    assert steady["throughput_variation"] < 0.1
    assert (steady["rating"], steady["limited_by"]) == ("excellent", None)


@pytest.mark.parametrize(("errors", "rating"), [(0.0, "excellent"), (0.005, "good"), (0.03, "fair"), (0.2, "poor")])
def test_errors_alone_bring_the_rating_down(errors, rating):
    steady = stability(samples_of(np.full(LENGTH, 100.0), errors=100.0 * errors))
    assert (steady["rating"], steady["error_rate"]) == (rating, pytest.approx(errors))
    assert steady["limited_by"] == (None if rating == "excellent" else "error_rate")


def test_the_worst_input_decides():
    wave = np.repeat([100.0, 200.0], 10)
    steady = stability(samples_of(np.tile(wave, 15), latency=0.02))
    assert (steady["rating"], steady["limited_by"]) == ("fair", "throughput_variation")
    slow = stability(samples_of(np.full(LENGTH, 100.0), latency=np.tile(np.repeat([0.01, 0.1], 10), 15)))
    assert (slow["rating"], slow["limited_by"]) == ("poor", "latency_variation")


def test_the_analysis_is_json_ready_and_has_what_the_original_promised():
    rng = np.random.default_rng(13)
    for samples in (traffic(rng), samples_of([]), samples_of(np.zeros(LENGTH))):
        analysis = analyze(samples)
        json.dumps(analysis, allow_nan=False)
        for name in KINDS:
            assert analysis[f"{name}_trend"] == analysis["trends"][name]["direction"]
            assert {"slope_per_minute", "confidence", "values", "ages"} <= analysis["trends"][name].keys()
        assert analysis["stability_rating"] == analysis["stability"]["rating"]


# The test -------------------------------------------------------------------------------------------------------------


def test_the_slope_is_the_median_of_all_pairs():
    rng = np.random.default_rng(14)
    times, values = np.sort(rng.uniform(0.0, 100.0, 40)), rng.normal(size=40)
    slopes = [(values[j] - values[i]) / (times[j] - times[i]) for i, j in itertools.combinations(range(len(values)), 2)]
    assert mann_kendall(times, values).slope == pytest.approx(np.median(slopes))


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5, 6), (1, 1, 2, 2, 3, 4), (0, 0, 0, 0, 1, 1)])
def test_the_variance_with_ties_is_that_of_all_orders(values):
    """Kendall's formula against every permutation; p is what a normal value of that variance says."""
    scores = [
        sum(np.sign(order[j] - order[i]) for i, j in itertools.combinations(range(6), 2))
        for order in itertools.permutations(values)
    ]
    # An order whose neighbours alternate has no positive serial correlation, so nothing else changes the variance.
    order = np.array([values[at] for at in (3, 0, 4, 1, 5, 2)], float)
    score = sum(np.sign(order[j] - order[i]) for i, j in itertools.combinations(range(6), 2))
    z = max(0.0, abs(score) - 1.0) / np.std(scores)
    assert mann_kendall(np.arange(6.0), order).p_value == pytest.approx(math.erfc(z / math.sqrt(2.0)), rel=1e-9)


def test_equal_values_have_no_trend():
    test = mann_kendall(np.arange(20.0), np.full(20, 3.0))
    assert (test.p_value, test.slope, test.slope_error) == (1.0, 0.0, 0.0)


def test_the_slopes_interval_has_the_true_one_in_it_two_times_in_three():
    rng, times = np.random.default_rng(15), np.arange(60.0)
    inside = 0
    for _ in range(SERIES):
        test = mann_kendall(times, 0.1 * times + rng.normal(size=60))
        inside += abs(test.slope - 0.1) <= test.slope_error
    assert 0.58 <= inside / SERIES <= 0.80


@pytest.mark.parametrize("latency", [1e200, np.linspace(0.01, 1e300, LENGTH), np.r_[np.full(LENGTH - 1, 0.01), 1e300]])
def test_latencies_that_nobody_has_make_figures_all_the_same(latency):
    json.dumps(analyze(samples_of(np.full(LENGTH, 50.0), latency)), allow_nan=False)
