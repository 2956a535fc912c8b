"""Statistics from the per-second history: current and average throughput, the peak, and stability."""

import numpy as np
import pytest

from shmetrics.layout import SECONDS
from shmetrics.statistics import comprehensive, statistics
from tests.forge import NOW, fleet, folded_of, records, worker

pytestmark = pytest.mark.usefixtures("written_in")
SECOND = int(NOW)
"""The second that has begun half a second ago."""


def at(second, count, **columns):
    """`count` records in the middle of a second, counted back from the present one."""
    return records([SECOND - second + 0.25] * count, **columns)


def figures_of(*batches, **fields):
    return statistics(fleet(worker(np.concatenate(batches)), **fields))


class TestCurrentThroughput:
    """Requests per second over the last five seconds."""

    def test_a_steady_rate_is_found_in_the_middle_of_a_second(self):
        now = [records(SECOND + np.arange(0.0, 0.5, 0.05))]
        steady = [records(SECOND - second + np.arange(0.0, 1.0, 0.05)) for second in range(20, 0, -1)]
        assert figures_of(*steady, *now)["current_throughput"] == pytest.approx(20.0)

    def test_requests_before_the_last_five_seconds_do_not_count(self):
        assert figures_of(at(6, 50), at(4, 10))["current_throughput"] == 2.0

    def test_the_second_in_which_the_five_begin_counts_by_the_part_inside(self):
        assert figures_of(at(5, 10))["current_throughput"] == 1.0

    def test_an_idle_hub_has_none(self):
        figures = figures_of(at(30, 100))
        assert figures["current_throughput"] == 0.0
        assert figures["average_throughput"] > 0.0

    @pytest.mark.parametrize(("age", "expected"), [(0.5, 16.0), (2.0, 4.0), (4.0, 2.0)])
    def test_a_young_hub_is_measured_over_its_life(self, age, expected):
        assert figures_of(at(0, 8), created_at=NOW - age)["current_throughput"] == expected

    def test_a_young_hub_counts_its_first_second_whole(self):
        """Nothing of that second can be from before the hub was there."""
        figures = figures_of(at(1, 6), at(0, 3), created_at=NOW - 0.9)
        assert figures["current_throughput"] == pytest.approx(9 / 0.9)

    @pytest.mark.parametrize("turn", [4.9, 4.999999, 5.0, 5.000001, 5.1])
    def test_it_does_not_jump_when_the_hub_comes_of_age(self, turn):
        figures = figures_of(*(at(second, 10) for second in range(4, -1, -1)), created_at=NOW - turn)
        assert figures["current_throughput"] == pytest.approx(10.0, rel=0.03)

    def test_workers_are_added(self):
        assert statistics(fleet(worker(at(2, 10)), worker(at(3, 15), slot=1)))["current_throughput"] == 5.0

    def test_a_young_worker_is_measured_over_its_own_life(self):
        figures = comprehensive(fleet(worker(at(0, 8), claimed_at=NOW - 2.0)))
        assert figures["workers"][0]["current_throughput"] == 4.0
        assert figures["current_throughput"] == 8 / 5.0

    def test_seconds_of_the_future_do_not_count(self):
        assert figures_of(at(-3, 100))["current_throughput"] == 0.0


class TestAverageAndPeak:
    """Lifetime mean and best second."""

    def test_the_average_is_over_the_life_of_the_hub(self):
        figures = figures_of(at(2, 100), created_at=NOW - 50.0)
        assert (figures["average_throughput"], figures["total_runtime"]) == (2.0, 50.0)

    def test_the_peak_is_the_best_second_of_the_fleet(self):
        workers = worker(np.concatenate([at(9, 5), at(4, 7)])), worker(np.concatenate([at(9, 5), at(3, 8)]), slot=1)
        assert statistics(fleet(*workers))["peak_throughput"] == 10.0

    def test_the_second_under_way_is_no_full_second(self):
        assert figures_of(at(1, 3), at(0, 50))["peak_throughput"] == 3.0

    def test_a_better_second_that_an_aggregator_recorded_stands(self):
        assert figures_of(at(4, 7), peak_recorded=12.0)["peak_throughput"] == 12.0

    def test_a_better_second_than_the_recorded_one_counts(self):
        assert figures_of(at(4, 7), peak_recorded=6.0)["peak_throughput"] == 7.0

    def test_a_second_older_than_the_history_is_forgotten(self):
        assert figures_of(at(SECONDS, 50), at(SECONDS - 1, 2))["peak_throughput"] == 2.0


class TestStability:
    """(1 - error_rate) / (1 + (cv_throughput + cv_latency) / 2), over the full seconds of the last minute."""

    def test_a_steady_fleet_without_errors_is_perfect(self):
        assert figures_of(*(at(second, 5) for second in range(60, 0, -1)))["stability_score"] == pytest.approx(1.0)

    def test_it_is_the_documented_formula(self):
        counts, latencies = [4, 0, 8, 2, 10], [0.1, None, 0.3, 0.2, 0.1]
        batches = [
            at(5 - index, count, inference_time=latency)
            for index, (count, latency) in enumerate(zip(counts, latencies, strict=True))
            if count
        ]
        seen = [latency for latency in latencies if latency]
        variation = np.std(counts) / np.mean(counts) + np.std(seen) / np.mean(seen)
        snapshot = fleet(worker(np.concatenate(batches), counters={"errors": 6}))
        assert statistics(snapshot)["stability_score"] == pytest.approx((1 - 6 / 24) / (1 + variation / 2))

    def test_idle_seconds_make_it_worse(self):
        steady = figures_of(*(at(second, 5) for second in range(20, 0, -1)))["stability_score"]
        gaps = figures_of(*(at(second, 5) for second in range(20, 0, -2)))["stability_score"]
        assert gaps < steady

    def test_seconds_before_the_first_request_are_not_idle(self):
        assert figures_of(*(at(second, 5) for second in (3, 2, 1)))["stability_score"] == pytest.approx(1.0)

    def test_what_is_older_than_a_minute_does_not_count(self):
        storm = at(61, 500, inference_time=9.0)
        assert figures_of(storm, *(at(second, 5) for second in range(60, 0, -1)))["stability_score"] == pytest.approx(1)

    def test_what_is_a_minute_old_still_counts(self):
        storm = at(60, 500, inference_time=9.0)
        assert figures_of(storm, *(at(second, 5) for second in range(59, 0, -1)))["stability_score"] < 0.5

    def test_the_second_under_way_does_not_count(self):
        figures = figures_of(*(at(second, 5) for second in (3, 2, 1)), at(0, 1))
        assert figures["stability_score"] == pytest.approx(1.0)

    def test_with_no_full_second_of_late_it_is_the_share_without_errors(self):
        assert statistics(fleet(worker(at(100, 4), counters={"errors": 1})))["stability_score"] == 0.75

    def test_nothing_but_errors_is_no_stability(self):
        assert statistics(fleet(worker(at(2, 4), counters={"errors": 9})))["stability_score"] == 0.0

    def test_requests_that_took_no_time_are_no_trouble(self):
        assert figures_of(at(3, 5, inference_time=0.0), at(2, 5, inference_time=0.0), at(1, 5, inference_time=0.0))[
            "stability_score"
        ] == pytest.approx(1.0)

    @pytest.mark.parametrize("seed", range(20))
    def test_it_is_always_from_0_to_1(self, seed):
        rng = np.random.default_rng(seed)
        times = np.sort(NOW - rng.exponential(rng.choice([1.0, 20.0, 200.0]), 500))
        rows = records(times, inference_time=rng.pareto(0.5, 500).clip(max=1e15))
        snapshot = fleet(worker(rows, counters={"errors": int(rng.integers(0, 700))}))
        assert 0.0 <= statistics(snapshot)["stability_score"] <= 1.0

    def test_the_largest_believable_latencies_stay_finite(self):
        folded = folded_of(at(2, 300, inference_time=0.99e18), at(1, 1, inference_time=1e-300))
        assert 0.0 < statistics(fleet(worker([NOW], kept=folded.area)))["stability_score"] <= 1.0
