"""Statistics: what each key means, against numpy, on forged fleets."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from shmetrics.board import Busy, RequestInFlight
from shmetrics.layout import MEASURES
from shmetrics.statistics import (
    BUSY_MINUTE,
    busy_fraction,
    comprehensive,
    lifetime_percentiles,
    page_figures,
    statistics,
)
from shmetrics.window import window_of
from tests.forge import NOW, fleet, folded_of, merged, random_records, records, worker

COUNTS = ("total_requests", "total_errors", "cache_hits", "cache_misses", "invalid_records", "dropped_records")
STAGES = ("preprocessing_time", "quantization_time")
DETAIL = {f"{figure}_{measure}" for figure in ("min", "max", "std") for measure in MEASURES}
STAGE_DETAIL = {f"{figure}_{stage}" for figure in ("avg", "median", "p50", "p95", "p99") for stage in STAGES}
PERCENTILES = {f"p{percent}_{measure}" for percent in (50, 95, 99) for measure in MEASURES}
KEYS = {
    *COUNTS,
    *(f"{figure}_{measure}" for figure in ("avg", "median") for measure in MEASURES),
    *DETAIL,
    *PERCENTILES,
    *("error_rate", "window_error_rate", "cache_hit_rate", "window_cache_hit_rate"),
    *("throughput", "samples_per_second", "current_throughput", "average_throughput", "peak_throughput"),
    *("total_runtime", "stability_score", "active_workers", "workers_seen", "window_count"),
}
LIFETIME_PERCENTILES = {f"lifetime_{key}" for key in PERCENTILES}


@pytest.fixture
def busy():
    """Three workers with traffic, one of them dead a moment ago."""
    return fleet(*(worker(random_records(seed, 150, start=960.0), slot=seed, alive=seed != 2) for seed in range(3)))


def numbers_in(figures):
    """Every number in a nested dictionary."""
    if isinstance(figures, dict):
        figures = list(figures.values())
    if isinstance(figures, list):
        return [number for value in figures for number in numbers_in(value)]
    return [figures] if isinstance(figures, (int, float)) else []


IN_FLIGHT = {"busy_fraction", "busy_fraction_1m", "in_flight", "oldest_in_flight"}


class TestKeys:
    """Which figures there are."""

    def test_statistics_have_exactly_the_documented_keys(self, busy):
        assert set(statistics(busy)) == KEYS

    def test_keys_are_the_same_before_the_first_record(self):
        assert set(statistics(fleet())) == KEYS

    def test_without_detail_minimum_maximum_deviation_and_stages_are_left_out(self, busy):
        assert set(statistics(busy, detailed=False)) == KEYS - DETAIL - STAGE_DETAIL

    def test_without_percentiles_exactly_those_are_left_out(self, busy):
        assert set(statistics(busy, percentiles=False)) == KEYS - PERCENTILES

    def test_figures_that_stay_are_the_same_without_the_others(self, busy):
        full = statistics(busy)
        assert statistics(busy, detailed=False, percentiles=False).items() <= full.items()

    def test_comprehensive_statistics_are_a_superset(self, busy):
        figures = comprehensive(busy)
        assert statistics(busy).items() <= figures.items()
        assert set(figures) == KEYS | LIFETIME_PERCENTILES | IN_FLIGHT | {"workers", "hub"}

    def test_comprehensive_without_percentiles_has_no_lifetime_percentiles(self, busy):
        assert set(comprehensive(busy, percentiles=False)) == KEYS - PERCENTILES | IN_FLIGHT | {"workers", "hub"}

    @pytest.mark.parametrize("figures_of", [statistics, comprehensive])
    def test_figures_are_plain_finite_json(self, busy, figures_of):
        figures = figures_of(busy)
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures

    @pytest.mark.parametrize("figures_of", [statistics, comprehensive])
    def test_hostile_records_still_give_plain_finite_json(self, figures_of):
        rows = records([900.0, np.nan, np.inf, -np.inf, 1e300], inference_time=[np.nan, np.inf, -1.0, 1e300, 1.0])
        copies = folded_of(records([NOW - 2.0] * 3, inference_time=0.99e18))
        json.dumps(figures_of(fleet(worker(rows), worker(rows, kept=copies.area))), allow_nan=False)


class TestBeforeTheFirstRecord:
    """Every figure is 0, never NaN, never an exception."""

    @pytest.mark.parametrize("workers", [(), (worker(),)], ids=["no worker", "an idle worker"])
    def test_every_figure_of_requests_is_zero(self, workers):
        figures = statistics(fleet(*workers))
        workers_and_time = {"total_runtime", "active_workers", "workers_seen"}
        assert {key for key, value in figures.items() if value != 0.0} <= workers_and_time

    def test_a_hub_at_the_instant_of_its_creation_has_no_figure_but_zero(self):
        assert not any(statistics(fleet(created_at=NOW)).values())

    def test_comprehensive_figures_are_finite(self):
        assert all(math.isfinite(number) for number in numbers_in(comprehensive(fleet(worker()))))


class TestOverTheWindow:
    """Exact figures of each measure."""

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 10, 19, 20, 21, 50, 99, 100, 101, 199, 200, 201, 997])
    @pytest.mark.parametrize("seed", range(3))
    def test_percentiles_are_those_of_numpy_to_the_last_bit(self, size, seed):
        sample = worker(random_records([seed, size], size), window_size=1000)
        figures, measures = statistics(fleet(sample)), window_of([sample]).measures
        for percent in (50, 95, 99):
            for row, measure in enumerate(MEASURES):
                assert figures[f"p{percent}_{measure}"] == np.percentile(measures[row], percent)

    @pytest.mark.parametrize("size", [9_999, 10_000, 10_001, 12_345, 20_000])
    def test_of_many_records_percentiles_and_medians_are_selected_and_still_those_of_numpy(self, size):
        """Whole numbers have equals, and a stage that nobody measures has no others."""
        rows = random_records(size, size)
        rows["quantization_time"] = 0.0
        sample = worker(rows, window_size=size)
        figures, measures = statistics(fleet(sample)), window_of([sample]).measures
        for row, measure in enumerate(MEASURES):
            assert figures[f"median_{measure}"] == np.median(measures[row])
            for percent in (50, 95, 99):
                assert figures[f"p{percent}_{measure}"] == np.percentile(measures[row], percent)
        assert (window_of([sample]).measures == measures).all()

    @pytest.mark.parametrize("size", [1, 2, 3, 10, 100, 101])
    def test_average_median_extremes_and_deviation_are_those_of_numpy(self, size):
        sample = worker(random_records(size, size), window_size=1000)
        figures, measures = statistics(fleet(sample)), window_of([sample]).measures
        for row, measure in enumerate(MEASURES):
            values = measures[row]
            assert figures[f"median_{measure}"] == np.median(values)
            assert figures[f"min_{measure}"] == values.min()
            assert figures[f"max_{measure}"] == values.max()
            assert figures[f"avg_{measure}"] == pytest.approx(np.mean(values), rel=1e-14)
            assert figures[f"std_{measure}"] == pytest.approx(np.std(values), rel=1e-12, abs=1e-17)

    def test_what_a_page_shows_is_part_of_it(self, busy):
        for each in (busy, fleet(), fleet(worker())):
            figures = page_figures(each)
            assert set(figures) == PERCENTILES | {"throughput", "current_throughput", "peak_throughput"}
            assert figures.items() <= statistics(each).items()

    def test_the_fleet_is_one_sample(self, busy):
        values = np.hstack([each.window["inference_time"] for each in busy.workers])
        figures = statistics(busy)
        assert figures["window_count"] == len(values) == 300
        assert figures["p99_inference_time"] == np.percentile(values, 99)

    def test_workers_that_ended_long_ago_are_not_in_it(self):
        gone = worker([900.0] * 5, alive=False, counted=False)
        assert statistics(fleet(worker([NOW] * 3), gone))["window_count"] == 3

    def test_max_age_narrows_records_and_windowed_rates(self):
        rows = records(NOW - np.arange(10.0)[::-1], errors=range(1, 11), cache_hits=[*[0] * 6, 1, 2, 3, 3],
                       cache_misses=[*range(1, 10), 10])  # fmt: skip
        figures = statistics(fleet(worker(rows)), max_age=3.0)
        assert figures["window_count"] == 4
        assert figures["window_error_rate"] == 1.0
        assert figures["window_cache_hit_rate"] == 3 / 7
        assert figures["cache_hit_rate"] == 3 / 13

    @pytest.mark.parametrize("max_age", ["x", True, [1.0], 1j])
    def test_a_max_age_that_is_no_number_is_a_type_error_that_shows_it(self, busy, max_age):
        with pytest.raises(TypeError, match=re.escape(f"max_age must be seconds, 0 or more, not {max_age!r}")):
            statistics(busy, max_age=max_age)

    def test_a_max_age_may_be_any_kind_of_number(self, busy):
        assert statistics(busy, max_age=np.float32(3.0)) == statistics(busy, max_age=np.int64(3))

    def test_max_age_leaves_lifetime_figures_alone(self, busy):
        lifetime = [*COUNTS, "error_rate", "cache_hit_rate", "average_throughput", "peak_throughput", "total_runtime"]
        full, narrow = statistics(busy), statistics(busy, max_age=1e-6)
        assert narrow["window_count"] == 0
        assert [narrow[key] for key in lifetime] == [full[key] for key in lifetime]

    def test_a_max_age_longer_than_the_clock_has_run_takes_everything(self, busy):
        assert statistics(busy, max_age=1e9) == statistics(busy)


class TestTotalsAndRates:
    """Lifetime counts, and fractions of them."""

    def test_totals_are_those_of_the_snapshot(self, busy):
        figures, counters = statistics(busy), busy.counters
        assert [figures[key] for key in COUNTS] == [
            counters.requests,
            counters.errors,
            counters.cache_hits,
            counters.cache_misses,
            0,
            counters.dropped,
        ]

    def test_invalid_and_dropped_records_are_shown(self):
        rows = records([NOW] * 3, inference_time=[0.1, np.nan, -1.0])
        figures = statistics(fleet(worker(rows, counters={"dropped": 9})))
        assert (figures["invalid_records"], figures["dropped_records"]) == (2, 9)

    def test_rates_are_parts_of_the_whole(self):
        figures = statistics(fleet(worker(records([NOW] * 4, errors=1, cache_hits=3, cache_misses=5))))
        assert (figures["error_rate"], figures["cache_hit_rate"]) == (0.25, 0.375)

    def test_rates_over_the_window_leave_out_what_came_before(self):
        rows = records(np.linspace(990, NOW, 8), errors=[0, 0, 0, 0, 0, 1, 2, 2], cache_hits=[5, 5, 5, 5, 6, 6, 6, 6],
                       cache_misses=[0, 0, 0, 0, 0, 0, 2, 3])  # fmt: skip
        figures = statistics(fleet(worker(rows, window_size=4)))
        assert (figures["window_error_rate"], figures["window_cache_hit_rate"]) == (0.5, 0.25)
        assert (figures["error_rate"], figures["cache_hit_rate"]) == (0.25, 6 / 9)

    def test_more_errors_than_requests_is_a_rate_of_one(self):
        figures = statistics(fleet(worker(records([NOW] * 2), counters={"errors": 5})))
        assert (figures["error_rate"], figures["window_error_rate"]) == (1.0, 1.0)

    def test_errors_of_no_request_at_all_are_a_rate_of_one(self):
        assert statistics(fleet(worker(counters={"errors": 5})))["error_rate"] == 1.0

    def test_workers_are_counted_live_and_ever(self, busy):
        figures = statistics(busy)
        assert (figures["active_workers"], figures["workers_seen"]) == (2, 3)


class TestLifetimePercentiles:
    """From the sketch, of every valid record ever."""

    def test_they_are_within_1_1_percent_of_every_record_even_those_long_out_of_the_window(self):
        rows = random_records(1, 5000)
        figures = comprehensive(fleet(worker(rows)))
        for percent in (50, 95, 99):
            for measure in ("inference_time", "batch_size", "preprocessing_time"):
                exact = np.percentile(rows[measure], percent)
                assert figures[f"lifetime_p{percent}_{measure}"] == pytest.approx(exact, rel=0.011)

    def test_they_are_zero_before_the_first_record(self):
        assert set(lifetime_percentiles(merged()).values()) == {0.0}

    def test_equal_records_are_reported_exactly(self):
        figures = lifetime_percentiles(folded_of(records([NOW] * 10, inference_time=0.0317)))
        assert {figures[f"lifetime_p{percent}_inference_time"] for percent in (50, 95, 99)} == {0.0317}


class TestWorkerRows:
    """One row for each worker that counts."""

    def row_of(self, *workers, **fields):
        (row,) = comprehensive(fleet(*workers, **fields))["workers"]
        return row

    def test_a_row_shows_who_the_worker_is_and_what_it_did(self):
        rows = records(NOW - np.arange(4.0)[::-1], errors=1, cache_hits=3, cache_misses=1)
        row = self.row_of(worker(rows, slot=3, generation=7, pid=99, role="web", claimed_at=NOW - 20.0))
        shown = {"slot": 3, "generation": 7, "pid": 99, "role": "web", "alive": True, "stale": False, "age": 20.0,
                 "last_seen": 0.0, "requests": 4, "errors": 1, "error_rate": 0.25, "cache_hit_rate": 0.75,
                 "window_count": 4, "throughput": 1.0, "in_flight": 0, "oldest_in_flight": 0.0}  # fmt: skip
        assert shown.items() <= row.items()

    def test_percentiles_are_those_of_the_worker_alone(self):
        one, other = worker(random_records(1, 150), slot=0), worker(random_records(2, 150), slot=1)
        rows = comprehensive(fleet(one, other))["workers"]
        for row, each in zip(rows, (one, other), strict=True):
            assert row["p95_inference_time"] == np.percentile(each.window["inference_time"], 95)
            assert row["avg_inference_time"] == pytest.approx(each.window["inference_time"].mean())

    def test_workers_have_the_same_row_beside_others_as_alone(self):
        """Windows as long as one another are looked at together; here are such, others, and some with invalid rows."""
        counts = (100, 100, 40, 0, 1, 40, 99)
        workers = [worker(random_records(slot, count), slot=slot) for slot, count in enumerate(counts)]
        workers[1].window["batch_size"][:30] = np.nan
        workers[5].window["inference_time"][:] = -1.0
        alone = [comprehensive(fleet(each))["workers"] for each in workers]
        assert comprehensive(fleet(*workers))["workers"] == [row for (row,) in alone]
        assert [row["window_count"] for (row,) in alone] == [100, 70, 40, 0, 1, 0, 99]

    def test_a_worker_that_ended_long_ago_has_no_row(self):
        assert comprehensive(fleet(worker(alive=False, counted=False)))["workers"] == []

    def test_the_dead_have_a_row_but_are_doing_nothing(self):
        row = self.row_of(worker([NOW - 1.0] * 10, alive=False))
        assert (row["alive"], row["requests"]) == (False, 10)
        assert (row["current_throughput"], row["busy_fraction"]) == (0.0, 0.0)

    def test_requests_in_flight_are_counted_and_the_oldest_has_an_age(self):
        board = tuple(RequestInFlight(NOW - age, "GET /") for age in (3.0, 1.0, 0.5))
        row = self.row_of(worker(in_flight=board, crowd=7))
        assert (row["in_flight"], row["oldest_in_flight"]) == (10, 3.0)
        assert row["requests_in_flight"] == [{"label": "GET /", "age": age} for age in (3.0, 1.0, 0.5)]

    def test_the_busy_fractions_are_those_of_the_board_where_it_says_anything(self):
        rows, busy = records([NOW] * 10, inference_time=5.0), Busy(12.0, {995: 9.0, 950: 6.0})
        row = self.row_of(worker(rows, busy=busy))
        assert row["busy_fraction"] == pytest.approx(0.3)
        assert row["busy_fraction_1m"] == pytest.approx(0.1)

    def test_a_young_worker_is_judged_by_its_whole_life(self):
        assert self.row_of(worker(busy=Busy(1.5, {998: 0.0}), claimed_at=NOW - 3.0))["busy_fraction"] == 0.5
        assert self.row_of(worker([NOW - 1.0], claimed_at=NOW))["busy_fraction"] == 0.0

    def test_the_busy_fraction_is_the_time_spent_serving(self):
        rows = records(NOW - np.arange(10.0)[::-1], inference_time=0.25)
        assert self.row_of(worker(rows))["busy_fraction"] == pytest.approx(0.25)

    def test_a_record_of_a_long_request_counts_for_as_long_as_it_took(self):
        """It was recorded 5.5 s ago and had begun 4 s before; a minute has all of it, the last 7 s the rest."""
        row = self.row_of(worker(records([NOW - 5.5], inference_time=4.0)))
        assert row["busy_fraction"] == pytest.approx(0.4, abs=0.06)
        assert row["busy_fraction_1m"] == pytest.approx(4.0 / 60.0, abs=0.01)
        assert self.row_of(worker(records([NOW - 12.0], inference_time=4.0)))["busy_fraction"] == 0.0

    @pytest.mark.parametrize("seconds", [0.25, 4.0, 70.0])
    def test_a_worker_that_is_asked_about_by_itself_is_as_busy_as_its_row_says(self, seconds):
        busy = worker(records(NOW - np.arange(0.0, 30.0, 7.0)[::-1], inference_time=seconds))
        row = self.row_of(busy)
        assert busy_fraction(busy, NOW) == pytest.approx(row["busy_fraction"])
        assert busy_fraction(busy, NOW, BUSY_MINUTE) == pytest.approx(row["busy_fraction_1m"])

    def test_the_fleet_is_as_busy_as_its_live_workers_are_on_average(self):
        busy, idle = Busy(-5.0, {3: 0.0}), Busy(5.0, {3: 0.0})
        workers = [worker(slot=slot, busy=each) for slot, each in enumerate((busy, idle, idle, busy))]
        in_flight = (RequestInFlight(NOW - 7.0),)
        gone = worker(slot=4, alive=False, busy=busy, in_flight=in_flight)
        figures = comprehensive(fleet(*workers[:3], replace(workers[3], in_flight=in_flight, crowd=2), gone))
        assert (figures["busy_fraction"], figures["busy_fraction_1m"]) == (0.5, 0.5)
        assert (figures["in_flight"], figures["oldest_in_flight"]) == (3, 7.0)

    def test_the_busy_fraction_of_many_threads_is_at_most_one(self):
        assert self.row_of(worker(records([NOW] * 100, inference_time=5.0)))["busy_fraction"] == 1.0


class TestHubHealth:
    """How the hub itself is doing."""

    def test_fill_levels_and_flaws_are_shown(self):
        health = replace(fleet(worker(), worker(alive=False)).health, stale_slots=1, corrupt={"slot 3": "odd"})
        hub = comprehensive(fleet(worker(counters={"dropped": 5}), health=health))["hub"]
        shown = {"slots_live": 1, "slots_dead": 1, "slots_total": 4, "slots_fill": 0.5, "dropped_records": 5,
                 "stale_slots": 1, "corrupt": {"slot 3": "odd"}, "unlinked": False}  # fmt: skip
        assert shown.items() <= hub.items()
