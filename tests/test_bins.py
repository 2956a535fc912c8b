"""Bins: a ring of sums and sparse sketches in memory that is allocated once."""

import numpy as np
import pytest

from shmetrics import sketch
from shmetrics.bins import BUCKETS, COLUMNS, Bins, coarsened
from shmetrics.layout import MEASURES

ROOM = 512


def figures(requests=1.0):
    values = np.zeros(len(COLUMNS))
    values[COLUMNS.index("requests")] = requests
    return values


def buckets(**counts):
    """All sketches, with these counts at "b<index>"."""
    values = np.zeros(BUCKETS, np.uint64)
    for name, count in counts.items():
        values[int(name[1:])] = count
    return values


def filled(count, rows=4):
    bins = Bins(1.0, rows, ROOM)
    for at in range(count):
        bins.add(float(at), at + 1.0, figures(at), 0.1 * at, buckets(b5=at, b2000=1))
    return bins


def test_a_new_ring_has_no_bins_and_its_memory():
    bins = Bins(1.0, 100, ROOM)
    assert len(bins.numbers()) == 0
    assert not bins.buckets(bins.places(bins.numbers())).any()
    assert 100 * ROOM * 6 < bins.nbytes < 100 * (ROOM * 6 + 200)


def test_memory_does_not_grow():
    bins = Bins(1.0, 4, ROOM)
    before = bins.nbytes
    for at in range(20):
        bins.add(float(at), at + 1.0, figures(), 0.0, np.full(BUCKETS, 7, np.uint64))
    assert bins.nbytes == before


def test_the_newest_bins_take_the_place_of_the_oldest():
    bins = filled(6)
    assert bins.numbers().tolist() == [2, 3, 4, 5]
    places = bins.places(bins.numbers())
    assert bins.begin[places].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert bins.figures[places, COLUMNS.index("requests")].tolist() == [2.0, 3.0, 4.0, 5.0]


def test_bins_replaced_since_their_numbers_were_asked_for_are_left_out():
    bins = filled(4)
    numbers = bins.numbers()
    bins.add(4.0, 5.0, figures(), 0.0, buckets())
    assert len(bins.places(numbers)) == 3


def test_bins_are_found_by_when_they_began():
    assert filled(6).since(3.0).tolist() == [3, 4, 5]
    assert filled(6).since(9.0).tolist() == []


def test_sketches_of_several_bins_are_added():
    bins = filled(6)
    merged = bins.buckets(bins.places(bins.numbers()))
    assert (merged[5], merged[2000], merged.sum()) == (2 + 3 + 4 + 5, 4, 18)


def test_a_bin_that_follows_a_fuller_one_in_its_place_has_only_its_own():
    bins = Bins(1.0, 1, ROOM)
    bins.add(0.0, 1.0, figures(), 0.0, buckets(b1=1, b2=2, b3=3))
    bins.add(1.0, 2.0, figures(), 0.0, buckets(b9=4))
    assert np.flatnonzero(bins.buckets(np.array([0]))).tolist() == [9]


def test_a_count_too_large_is_kept_as_the_largest():
    bins = Bins(1.0, 1, ROOM)
    bins.add(0.0, 1.0, figures(), 0.0, buckets(b5=2**40))
    assert bins.buckets(np.array([0]))[5] == 2**32 - 1


class TestCoarsening:
    """Where more buckets are in use than there is room for, neighbours merge."""

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("room", [ROOM, 1024])
    def test_it_fits_and_nothing_is_lost(self, seed, room):
        rng = np.random.default_rng(seed)
        full = (rng.random(BUCKETS) < rng.random()) * rng.integers(1, 1000, BUCKETS).astype(np.uint64)
        coarse = coarsened(full, room)
        assert np.count_nonzero(coarse) <= room
        assert (coarse.reshape(5, -1).sum(axis=1) == full.reshape(5, -1).sum(axis=1)).all()

    def test_everything_in_use_fits_too(self):
        assert np.count_nonzero(coarsened(np.ones(BUCKETS, np.uint64), ROOM)) <= ROOM

    def test_zero_underflow_and_overflow_stay_what_they_are(self):
        coarse = coarsened(np.arange(BUCKETS, dtype=np.uint64), ROOM).reshape(len(MEASURES), sketch.SIZE)
        full = np.arange(BUCKETS, dtype=np.uint64).reshape(len(MEASURES), sketch.SIZE)
        for special in (sketch.ZERO, sketch.UNDERFLOW, sketch.OVERFLOW):
            assert (coarse[:, special] == full[:, special]).all()

    def test_the_measure_with_most_buckets_pays_first(self):
        full = np.zeros((len(MEASURES), sketch.SIZE), np.uint64)
        full[0, 2:1000] = 1
        full[1, 2:100] = 1
        coarse = coarsened(full.reshape(-1), 600).reshape(len(MEASURES), sketch.SIZE)
        assert (coarse[1] == full[1]).all()
        assert np.count_nonzero(coarse[0]) < 400

    def test_the_error_of_three_in_one_is_the_one_documented(self):
        rng = np.random.default_rng(1)
        values = np.exp(rng.uniform(np.log(1e-3), np.log(1e3), 20_000))
        full = np.zeros((len(MEASURES), sketch.SIZE), np.uint64)
        full[0] = np.bincount(sketch.bucket_index(values), minlength=sketch.SIZE)
        used = np.count_nonzero(full)
        coarse = coarsened(full.reshape(-1), used // 3 + 2).reshape(len(MEASURES), sketch.SIZE)[0]
        fractions = np.linspace(0.0, 1.0, 101)
        estimated = sketch.quantiles(coarse, fractions, values.min(), values.max())
        exact = np.percentile(values, 100.0 * fractions)
        growth = sketch.GROWTH**3
        assert np.abs(estimated / exact - 1.0).max() <= (growth - 1.0) / (growth + 1.0) + 1e-9
        assert np.abs(estimated / exact - 1.0).max() > sketch.RELATIVE_ERROR
