"""Buckets read off the sketch, against counting."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmetrics import sketch
from shmetrics.exporters.prometheus.buckets import (
    BATCH_BUCKETS,
    DURATION_BUCKETS,
    bounds_by_measure,
    cumulative,
    edges,
)
from shmetrics.layout import MEASURES

ONE_STEP = sketch.GROWTH * (1 + 1e-12)
values = st.lists(st.floats(2.0**-20, 2.0**20), min_size=1, max_size=50)
bounds = st.lists(st.floats(2.0**-20, 2.0**20), min_size=1, max_size=20, unique=True).map(sorted)


def sketch_of(recorded):
    """What a worker makes of these values."""
    return np.bincount(sketch.bucket_index(np.array(recorded, np.float64)), minlength=sketch.SIZE)


def counted(recorded, asked):
    return [sum(value <= bound for value in recorded) for bound in asked]


@pytest.mark.parametrize("known", [DURATION_BUCKETS, BATCH_BUCKETS], ids=["durations", "batches"])
def test_the_default_bounds_are_edges_of_the_sketch_so_their_counts_are_exact(known):
    assert edges(known) == list(known)
    rng = np.random.default_rng(1)
    recorded = [0.0, *known, *(bound * (1 + 1e-9) for bound in known), *rng.lognormal(-2.0, 3.0, 1000)]
    assert cumulative(sketch_of(recorded), known) == [*counted(recorded, known), len(recorded)]


@given(values, bounds)
def test_any_bound_counts_all_that_is_at_or_under_it_and_nothing_above_the_next_edge(recorded, asked):
    *counts, total = cumulative(sketch_of(recorded), asked)
    beyond = [bound * ONE_STEP for bound in asked]
    assert total == len(recorded)
    assert all(
        low <= count <= high
        for low, count, high in zip(counted(recorded, asked), counts, counted(recorded, beyond), strict=True)
    )


@given(bounds)
def test_a_record_equal_to_a_bound_is_counted_whatever_the_bound(asked):
    *counts, _ = cumulative(sketch_of(asked), asked)
    assert all(count >= at for at, count in enumerate(counts, 1))


@given(bounds)
def test_an_edge_is_its_bound_or_less_than_one_step_above_it(asked):
    for bound, edge in zip(asked, edges(asked), strict=True):
        assert bound * (1 - 1e-12) <= edge <= bound * ONE_STEP


def test_whole_bounds_to_45_are_exact_where_only_whole_numbers_are_recorded():
    recorded, asked = list(range(100)), list(range(1, 46))
    assert cumulative(sketch_of(recorded), asked) == [*counted(recorded, asked), 100]


def test_a_bound_of_zero_counts_the_stages_that_did_not_run():
    assert cumulative(sketch_of([0.0, 0.0, 1e-9, 1.0]), [0.0, 1.0]) == [2, 4, 4]


def test_what_is_beyond_the_sketch_is_in_the_last_count_only():
    assert cumulative(sketch_of([1.0, 2.0**21, 1e17]), [2.0**20]) == [1, 3]


class TestChoosing:
    """Which bounds a measure gets."""

    def test_without_a_choice_each_measure_has_its_defaults(self):
        expected = dict.fromkeys(MEASURES, DURATION_BUCKETS) | {"batch_size": BATCH_BUCKETS}
        assert bounds_by_measure() == expected

    def test_a_sequence_is_for_all_durations(self):
        chosen = bounds_by_measure([0.1, 1, math.inf])
        assert chosen["inference_time"] == chosen["total_time"] == (0.1, 1.0)
        assert chosen["batch_size"] == BATCH_BUCKETS

    def test_a_mapping_is_for_the_measures_it_names(self):
        chosen = bounds_by_measure({"batch_size": range(1, 4)})
        assert chosen["batch_size"] == (1.0, 2.0, 3.0)
        assert chosen["inference_time"] == DURATION_BUCKETS

    @pytest.mark.parametrize(
        ("asked", "offending"),
        [
            ([0.2, 0.1], "0.1 follows 0.2"),
            ([0.1, 0.1], "0.1 follows 0.1"),
            ([], r"\[\]"),
            ([math.inf], "inf"),
            ([0.1, math.inf, 0.2], "inf"),
            ([math.nan], "nan"),
            ([-1.0], "-1.0"),
            ([1e-7], "1e-07"),
            ([2e6], "2000000.0"),
            (["fast"], "fast"),
            ([None], "None"),
            (0.5, "0.5"),
            ({"latency": [1.0]}, "'latency'.*inference_time"),
            ({"batch_size": [2, 1]}, "batch_size.*1.0 follows 2.0"),
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused_with_the_offending_value(self, asked, offending):
        with pytest.raises(ValueError, match=offending):
            bounds_by_measure(asked)
