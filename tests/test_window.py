"""The window: whose records it holds, what happened meanwhile, and at what rate."""

from dataclasses import replace

import numpy as np
import pytest

from shmetrics.folded import measures_of
from shmetrics.layout import MEASURES
from shmetrics.window import window_of
from tests.forge import NOW, random_records, records, worker

pytestmark = pytest.mark.usefixtures("written_in")
BEFORE_NOW = NOW - np.arange(10.0)[::-1]
"""Ten records, one a second, the last of them now."""


def test_no_worker_gives_an_empty_window():
    window = window_of([])
    assert window.measures.shape == (len(MEASURES), 0)
    assert (window.count, window.requests, window.errors, window.cache_hits, window.cache_misses) == (0,) * 5
    assert (window.throughput, window.samples_per_second) == (0.0, 0.0)


def test_the_window_is_the_union_of_the_windows_worker_by_worker():
    workers = [worker(random_records(seed, 150)) for seed in range(3)]
    window = window_of([*workers, worker()])
    assert (window.count, window.requests) == (300, 300)
    assert (window.measures == np.hstack([measures_of(each.window) for each in workers])).all()


def test_invalid_records_are_requests_but_not_measurements():
    rows = random_records(1, 20)
    rows["inference_time"][[0, 5, 19]] = np.nan, -1.0, np.inf
    window = window_of([worker(rows), worker(random_records(2, 10))])
    assert (window.count, window.requests) == (27, 30)
    assert np.isfinite(window.measures).all()


def test_counts_are_what_was_added_since_the_record_before_the_window():
    rows = records(BEFORE_NOW, errors=range(10), cache_hits=range(0, 20, 2), cache_misses=range(0, 30, 3))
    window = window_of([worker(rows, window_size=4)])
    assert (window.requests, window.errors, window.cache_hits, window.cache_misses) == (4, 4, 8, 12)


def test_what_was_counted_after_the_last_record_belongs_to_the_window():
    rows = records(BEFORE_NOW, errors=range(10))
    assert window_of([worker(rows, window_size=4, counters={"errors": 11})]).errors == 6


def test_counts_of_a_worker_that_never_filled_its_window_are_all_it_counted():
    window = window_of([worker(records(BEFORE_NOW, errors=3, cache_hits=2, cache_misses=1))])
    assert (window.errors, window.cache_hits, window.cache_misses) == (3, 2, 1)


def test_counters_that_seem_to_shrink_count_as_nothing():
    """The cumulative columns are shared memory and may hold anything; a negative count would be nonsense."""
    rows = records(BEFORE_NOW, errors=2**64 - 1, cache_hits=2**63, cache_misses=7)
    few = {"errors": 0, "cache_hits": 0, "cache_misses": 0}
    window = window_of([worker(rows, window_size=4, counters=few)])
    assert (window.errors, window.cache_hits, window.cache_misses) == (0, 0, 0)


class TestSince:
    """A window narrowed by time."""

    def test_records_before_it_are_left_out(self):
        assert window_of([worker(BEFORE_NOW)], since=NOW - 3.0).count == 4

    def test_a_record_at_that_very_time_is_kept(self):
        assert window_of([worker(BEFORE_NOW)], since=NOW).count == 1

    def test_counts_are_what_was_added_since_the_last_record_before_it(self):
        rows = records(BEFORE_NOW, errors=range(10), cache_hits=range(0, 20, 2), cache_misses=range(0, 30, 3))
        window = window_of([worker(rows)], since=NOW - 2.5)
        assert (window.requests, window.errors, window.cache_hits, window.cache_misses) == (3, 3, 6, 9)

    def test_each_worker_is_narrowed_by_itself(self):
        assert window_of([worker(BEFORE_NOW), worker(BEFORE_NOW - 8.0)], since=NOW - 8.5).count == 9 + 1

    def test_after_the_last_record_there_is_nothing(self):
        window = window_of([worker(records(BEFORE_NOW, errors=1))], since=NOW + 1.0)
        assert (window.count, window.requests, window.errors, window.throughput) == (0, 0, 0, 0.0)

    def test_before_all_records_changes_nothing(self):
        every = worker(random_records(3, 150))
        assert (window_of([every], since=1.0).measures == window_of([every]).measures).all()
        assert window_of([every], since=1.0).errors == window_of([every]).errors


class TestRates:
    """Throughput: each worker's rate across its own window, added."""

    def test_the_rate_of_a_worker_is_intervals_over_the_time_they_took(self):
        assert window_of([worker(BEFORE_NOW)]).throughput == 1.0

    def test_rates_of_live_workers_are_added_whatever_their_phase(self):
        workers = [worker(BEFORE_NOW), worker(NOW - 50.0 + np.arange(5) * 0.25)]
        assert window_of(workers).throughput == pytest.approx(1.0 + 4.0)

    def test_samples_weigh_each_request_by_its_batch(self):
        rows = records(BEFORE_NOW, batch_size=[100, *range(1, 10)])
        assert window_of([worker(rows)]).samples_per_second == pytest.approx(45 / 9.0)

    def test_the_dead_do_not_add_to_the_rate_of_the_living(self):
        window = window_of([worker(BEFORE_NOW), worker(BEFORE_NOW, alive=False)])
        assert (window.throughput, window.samples_per_second) == (1.0, 1.0)
        assert window.count == 20

    @pytest.mark.parametrize("times", [[], [NOW]], ids=["no record", "one record"])
    def test_the_dead_speak_where_no_live_worker_has_a_rate(self, times):
        dead = [worker(records(BEFORE_NOW, batch_size=8), alive=False) for _ in range(2)]
        window = window_of([*dead, worker(times)])
        assert (window.throughput, window.samples_per_second) == (2.0, 16.0)

    def test_one_record_has_no_rate(self):
        assert window_of([worker([NOW])]).throughput == 0.0

    def test_records_at_one_instant_have_no_rate(self):
        assert window_of([worker([NOW, NOW, NOW])]).throughput == 0.0

    def test_invalid_records_do_not_count_in_the_rate(self):
        rows = records(BEFORE_NOW)
        rows["inference_time"][1:9] = np.nan
        assert window_of([worker(rows)]).throughput == pytest.approx(1 / 9.0)

    @pytest.mark.parametrize(
        "times",
        [
            [np.nan, 1.0, np.nan],
            [np.inf, 1.0, np.inf],
            [-np.inf, 1.0, -np.inf],
            [-np.inf, 1.0, np.inf],
            [-1.7e308, 1.0, 1.7e308],
            [9.0, 5.0, 1.0],
            [0.0, 0.0, 5e-324],
        ],
        ids=str,
    )
    @pytest.mark.parametrize("since", [0.0, 3.0])
    def test_hostile_times_give_a_finite_rate_and_no_warning(self, times, since):
        """Times come from shared memory and are not checked before they get here."""
        rows = replace(worker(records([1.0, 2.0, 3.0])), window=records(times))
        window = window_of([rows, worker(BEFORE_NOW)], since=since)
        assert np.isfinite([window.throughput, window.samples_per_second]).all()
