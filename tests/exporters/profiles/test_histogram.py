"""Latencies as bars."""

import math
from itertools import pairwise

import numpy as np
import pytest

from shmetrics.exporters.profiles.histogram import MOST_BARS, joined
from shmetrics.exporters.profiles.report_data import Bucket
from tests.exporters.profiles.reports import sketched


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3, 1.0, 3.0])
def test_every_call_is_in_the_bar_of_its_latency(spread):
    values = np.random.default_rng(3).lognormal(math.log(0.02), spread, 5000)
    values = np.clip(values, 2.0**-19, None)
    bars = joined(sketched(values))
    assert len(bars) <= MOST_BARS
    for bar in bars:
        assert bar.calls == np.count_nonzero((values > bar.above * (1 + 1e-12)) & (values <= bar.upto * (1 + 1e-12)))


@pytest.mark.parametrize("step", [2 ** (1 / 32), 10 ** (1 / 10), 2.0])
def test_buckets_of_any_width_that_are_few_are_the_bars(step):
    buckets = [Bucket(step**at, step ** (at + 1), at) for at in range(1, 20)]
    bars = joined(buckets)
    assert [bar.calls for bar in bars] == [bucket.calls for bucket in buckets]
    assert [bar.upto for bar in bars] == pytest.approx([bucket.upto for bucket in buckets])


def test_preferred_numbers_joined_are_no_comb():
    """Buckets that differ in width a little: each bar has as many of them as its neighbours."""
    bounds = [
        float(f"{number}e{decade}") for decade in range(-6, 2) for number in (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)
    ]
    bars = joined([Bucket(above, upto, 10) for above, upto in pairwise(bounds)])
    assert {bar.calls for bar in bars[:-1]} == {20}
    assert len(bars) == 40


def test_bars_touch_are_about_equally_wide_on_the_scale_and_begin_and_end_with_calls():
    bars = joined(sketched([0.001, 0.5, 0.5]))
    widths = [math.log2(bar.upto / bar.above) for bar in bars]
    assert max(widths) < 2 * min(widths[:-2])
    assert all(one.upto == other.above for one, other in pairwise(bars))
    assert bars[0].calls == 1
    assert bars[-1].calls == 2
    assert len(bars) <= MOST_BARS


def test_zero_and_what_is_beyond_every_bucket_have_a_bar():
    bars = joined([Bucket(0.0, 0.0, 3), Bucket(0.5, 1.0, 2), Bucket(2.0**20, math.inf, 1)])
    assert bars[0].calls == 3
    assert bars[-1].calls == 1
    assert bars[-1].upto > 2.0**20
    assert all(one.upto == other.above for one, other in pairwise(bars))
    assert len(bars) <= MOST_BARS


def test_a_bucket_that_is_much_wider_than_others_is_a_bar_as_wide():
    bars = joined([Bucket(1.0, 1.25, 5), Bucket(100.0, 5000.0, 1)])
    assert (bars[-1].above, bars[-1].upto, bars[-1].calls) == (pytest.approx(100.0), pytest.approx(5000.0), 1)
    assert sum(bar.calls for bar in bars) == 6


def test_what_is_shorter_than_any_sketch_tells_apart_is_in_the_first_bar():
    bars = joined([Bucket(0.0, 0.0, 1), Bucket(1e-9, 1e-8, 2), Bucket(1e-8, 1e-7, 4), Bucket(1e-3, 2e-3, 8)])
    assert bars[0].calls == 7
    assert all(bar.above < bar.upto for bar in bars)


def test_no_calls_are_no_bars():
    assert joined([]) == []
    assert joined([Bucket(0.5, 1.0, 0)]) == []
