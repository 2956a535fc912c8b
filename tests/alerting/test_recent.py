"""What "over the last 50 measurements" means."""

import math

import numpy as np
import pytest

from shmetrics.alerting.recent import Recent
from shmetrics.snapshot import Counters
from tests.alerting.looks import fleet_at, served
from tests.forge import NOW, records, worker


def test_percentiles_are_of_the_last_records_of_all_workers_together():
    old = served(100, until=-10.0, slot=0, inference_time=9.0)
    new = served(30, until=0.0, slot=1, inference_time=0.2)
    figures = Recent(50).add(fleet_at(0.0, old, new))
    assert figures.measured == 50
    assert figures.percentile("inference_time", 50) == pytest.approx(0.2)
    assert figures.percentile("total_time", 95) == 9.0
    assert figures.share_above("total_time", 1.0) == pytest.approx(20 / 50)


def test_they_are_what_numpy_says():
    times = np.random.default_rng(1).lognormal(-3.0, 1.0, 80)
    figures = Recent(50).add(fleet_at(0.0, served(80, inference_time=times)))
    assert figures.percentile("inference_time", 95) == pytest.approx(np.percentile(times[-50:], 95))


def test_the_rate_is_from_the_first_of_them_until_now_so_that_silence_shows():
    recent, served_until_now = Recent(50), served(100, every=0.01)
    assert recent.add(fleet_at(0.0, served_until_now)).rate == pytest.approx(50 / 0.49)
    assert recent.add(fleet_at(9.51, served_until_now)).rate == pytest.approx(50 / 10.0)
    assert recent.add(fleet_at(99.51, served_until_now)).rate == pytest.approx(50 / 100.0)


def test_what_came_since_the_look_before_counts_where_that_is_more():
    recent = Recent(50)
    recent.add(fleet_at(0.0, served(60)))
    busy = served(
        960, until=1.0, every=0.001, window_size=1000, inference_time=np.r_[np.full(900, 2.0), np.full(60, 0.1)]
    )
    figures = recent.add(fleet_at(1.0, busy))
    assert figures.measured == 960
    assert figures.percentile("inference_time", 50) == 2.0


class TestErrors:
    """Errors that come without a record."""

    def test_those_of_records_in_the_window_are_known_from_the_first_look_on(self):
        rows = served(60, errors=0)
        counted = worker(records(NOW - 0.6 + 0.01 * np.arange(60), errors=np.arange(1, 61) // 6), slot=0)
        assert rows.counters.errors == 0
        figures = Recent(50).add(fleet_at(0.0, counted))
        assert (figures.requests, figures.errors) == (50, 9)

    def test_each_look_counts_what_the_totals_grew_by_whichever_worker_it_was(self):
        recent = Recent(50)
        healthy = served(100, slot=0)
        assert recent.add(fleet_at(0.0, healthy, served(0, slot=1))).error_rate == 0.0
        figures = recent.add(fleet_at(1.0, healthy, served(0, slot=1, errors=20)))
        assert (figures.requests, figures.errors, figures.error_rate) == (50, 20, 0.4)

    def test_nothing_but_errors_is_an_error_rate_of_1(self):
        recent = Recent(50)
        recent.add(fleet_at(0.0))
        figures = recent.add(fleet_at(1.0, served(0, errors=20)))
        assert (figures.requests, figures.errors, figures.error_rate) == (0, 20, 1.0)

    def test_those_from_before_the_first_look_that_no_record_followed_are_not_judged(self):
        figures = Recent(50).add(fleet_at(0.0, served(100, errors=0), served(0, slot=1, errors=500)))
        assert (figures.errors, figures.error_rate) == (0, 0.0)

    def test_they_are_forgotten_once_so_many_requests_came_after_them(self):
        recent = Recent(50)
        recent.add(fleet_at(0.0, served(60)))
        assert recent.add(fleet_at(1.0, served(60, errors=10))).errors == 10
        assert recent.add(fleet_at(2.0, served(85, until=2.0, errors=10))).errors == 10
        assert recent.add(fleet_at(3.0, served(110, until=3.0, errors=10))).errors == 0

    def test_a_worker_that_is_reaped_takes_nothing_away(self):
        recent = Recent(50)
        recent.add(fleet_at(0.0, served(60), served(60, slot=1)))
        gone = fleet_at(1.0, served(60), counters=Counters(120, 30, 0, 0))
        assert recent.add(gone).errors == 30


class TestLookups:
    """The cache hit rate is over the last lookups, not requests: a hit needs no inference."""

    def test_hits_without_records_count(self):
        recent = Recent(50)
        recent.add(fleet_at(0.0, served(60)))
        figures = recent.add(fleet_at(1.0, served(60, hits=30, misses=10)))
        assert figures.cache_hit_rate == 0.75
        figures = recent.add(fleet_at(2.0, served(60, hits=30, misses=110)))
        assert (figures.cache_hits, figures.cache_misses) == (0, 100)

    def test_no_lookup_is_a_rate_of_0_without_samples(self):
        figures = Recent(50).add(fleet_at(0.0, served(60)))
        assert (figures.cache_hit_rate, figures.cache_hits + figures.cache_misses) == (0.0, 0)


def test_an_empty_fleet_has_no_figures():
    figures = Recent(50).add(fleet_at(0.0))
    assert (figures.requests, figures.rate, figures.error_rate, figures.percentile("total_time", 95)) == (
        0,
        0.0,
        0.0,
        0.0,
    )
    assert figures.share_above("total_time", 0.0) == 0.0


def test_invalid_records_are_in_no_percentile():
    times = np.r_[np.full(40, 0.1), np.full(20, math.nan)]
    figures = Recent(50).add(fleet_at(0.0, served(60, inference_time=times)))
    assert figures.measured == 30  # of the last 50 records
    assert figures.percentile("inference_time", 100) == pytest.approx(0.1)


def test_dead_workers_that_no_longer_count_are_left_out():
    gone = served(60, inference_time=9.0)
    figures = Recent(50).add(fleet_at(0.0, worker(gone.window, slot=0, alive=False, counted=False), served(60, slot=1)))
    assert figures.percentile("inference_time", 100) == pytest.approx(0.1)


def test_memory_does_not_grow_with_looks():
    recent = Recent(10)
    for at in range(500):
        recent.add(fleet_at(float(at), counters=Counters(1000 + at, at // 2, 7, 0)))
    assert len(recent._served._looks) <= 22
    assert len(recent._looked_up._looks) <= 2
