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


def test_bars_touch_are_equally_wide_on_the_scale_and_begin_and_end_with_calls():
    bars = joined(sketched([0.001, 0.5, 0.5]))
    widths = {round(math.log2(bar.upto / bar.above), 9) for bar in bars}
    assert len(widths) == 1
    assert all(one.upto == other.above for one, other in pairwise(bars))
    assert bars[0].calls == 1
    assert bars[-1].calls == 2


def test_zero_and_what_is_beyond_every_bucket_have_a_bar():
    bars = joined([Bucket(0.0, 0.0, 3), Bucket(0.5, 1.0, 2), Bucket(2.0**20, math.inf, 1)])
    assert bars[0].calls == 3
    assert bars[-1].calls == 1
    assert bars[-1].upto > 2.0**20
    assert len(bars) <= MOST_BARS


def test_no_calls_are_no_bars():
    assert joined([]) == []
    assert joined([Bucket(0.5, 1.0, 0)]) == []
