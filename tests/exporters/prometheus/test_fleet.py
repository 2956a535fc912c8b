"""The fleet's own families: their names, and their samples beside those of prometheus_client itself."""

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from shmetrics import PerformanceMetrics
from shmetrics.exporters.prometheus import BATCH_BUCKETS, DURATION_BUCKETS, render
from shmetrics.sketch import GROWTH
from shmetrics.statistics import statistics
from tests.exporters.prometheus import Still, families_of, read, samples_of, value, without_created
from tests.forge import fleet, random_records, records, worker
from tests.processes import run_in_processes

SEED_NAMES = {
    "inference_duration_seconds": "histogram",
    "batch_size_total": "histogram",
    "requests": "counter",
    "errors": "counter",
    "cache_hits": "counter",
    "cache_misses": "counter",
    "throughput_requests_per_second": "gauge",
}
STAGES = ("preprocessing_duration_seconds", "quantization_duration_seconds", "total_duration_seconds")
WINDOWS = {
    "inference_time": "inference_window_duration_seconds",
    "preprocessing_time": "preprocessing_window_duration_seconds",
    "quantization_time": "quantization_window_duration_seconds",
    "total_time": "total_window_duration_seconds",
    "batch_size": "batch_size_window",
}


@pytest.fixture
def busy():
    """A fleet of three workers with 150 records each."""
    return fleet(*(worker(random_records(seed, 150, start=950.0), slot=seed) for seed in range(3)))


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "OpenMetrics"])
def test_the_families_that_were_promised_are_there_with_their_types(openmetrics):
    families = families_of(render(Still(), openmetrics=openmetrics), openmetrics=openmetrics)
    wanted = SEED_NAMES | dict.fromkeys(STAGES, "histogram") | dict.fromkeys(WINDOWS.values(), "gauge")
    assert {name: families[name].type for name in wanted} == wanted
    assert all(family.documentation for family in families.values())


def test_openmetrics_says_the_unit_of_whatever_has_one():
    families = families_of(render(Still(), openmetrics=True), openmetrics=True)
    seconds = {name for name, family in families.items() if family.unit == "seconds"}
    assert seconds == {name for name in families if name.endswith("_seconds")}
    assert {family.unit for family in families.values()} == {"", "seconds", "bytes", "ratio"}


class Incumbent:
    """The same metrics as an application keeps them with prometheus_client in one process."""

    def __init__(self, buckets=DURATION_BUCKETS):
        self.registry = CollectorRegistry()
        self.counters = {
            name: Counter(name, "x", registry=self.registry)
            for name in ("requests", "errors", "cache_hits", "cache_misses")
        }
        names = ("inference_duration_seconds", *STAGES)
        self.durations = [Histogram(name, "x", registry=self.registry, buckets=buckets) for name in names]
        self.batch = Histogram("batch_size_total", "x", registry=self.registry, buckets=BATCH_BUCKETS)

    def update_inference(self, inference, batch, preprocessing, quantization):
        self.counters["requests"].inc()
        total = inference + preprocessing + quantization
        for histogram, amount in zip(self.durations, (inference, preprocessing, quantization, total), strict=True):
            histogram.observe(amount)
        self.batch.observe(batch)

    def samples(self):
        return without_created(samples_of(families_of(generate_latest(self.registry)).values()))


def assert_same(ours, theirs):
    """Every sample of theirs is one of ours, to the last bit but for sums, which are added in another order."""
    for (name, labels), expected in theirs.items():
        tolerance = 1e-12 if name.endswith("_sum") else 0.0
        assert ours[name, labels] == pytest.approx(expected, rel=tolerance, abs=0.0), (name, labels)


@pytest.mark.parametrize(
    "buckets", [DURATION_BUCKETS, (0.03125, 0.25), (0.0, 2.0**-20, 2.0**20)], ids=["default", "two", "extremes"]
)
def test_the_same_operations_give_the_same_samples_as_prometheus_client(buckets):
    rng = np.random.default_rng(7)
    theirs = Incumbent(buckets)
    with PerformanceMetrics(max_workers=2) as ours:
        for _ in range(700):  # more than two folds, and a tail that is not folded
            request = (
                float(rng.choice([*DURATION_BUCKETS, rng.lognormal(-3.0, 2.0)])),
                int(rng.integers(0, 1100)),
                float(rng.exponential(0.002)),
                float(rng.choice([0.0, rng.random()])),
            )
            ours.update_inference(*request)
            theirs.update_inference(*request)
        for record, name, count in (
            (ours.record_error, "errors", 3),
            (ours.record_cache_hit, "cache_hits", 5),
            (ours.record_cache_miss, "cache_misses", 1),
        ):
            record(count)
            theirs.counters[name].inc(count)
        assert_same(read(ours, buckets=buckets), theirs.samples())


def test_before_the_first_request_the_samples_are_those_of_prometheus_client_too():
    with PerformanceMetrics(max_workers=2) as metrics:
        assert_same(read(metrics), Incumbent().samples())


def _work(metrics, index):
    for number in range(300):
        metrics.update_inference(2.0 ** -(1 + number % 5), index + 1)
    return read(metrics)["requests_total", ()]


def test_a_page_shows_all_processes_and_whoever_is_asked_shows_the_same():
    with PerformanceMetrics(max_workers=8) as metrics:
        seen = run_in_processes("fork", 4, _work, metrics)
        samples = read(metrics)
    assert all(300.0 <= count <= 1200.0 for count in seen)
    assert value(samples, "requests_total") == value(samples, "inference_duration_seconds_count") == 1200.0
    assert value(samples, "inference_duration_seconds_bucket", le="0.125") == 720.0
    assert value(samples, "batch_size_total_sum") == 300.0 * (1 + 2 + 3 + 4)


def test_the_window_is_shown_as_its_exact_percentiles(busy):
    samples, figures = read(Still(busy)), statistics(busy)
    for measure, name in WINDOWS.items():
        for percent in (50, 95, 99):
            assert value(samples, name, percentile=str(percent)) == figures[f"p{percent}_{measure}"]


def test_rates_are_those_of_the_statistics(busy):
    samples, figures = read(Still(busy)), statistics(busy)
    for key in ("throughput", "current_throughput", "peak_throughput"):
        assert value(samples, f"{key}_requests_per_second") == figures[key]
    assert figures["throughput"] > 0.0


def test_invalid_records_are_requests_and_in_no_histogram():
    with PerformanceMetrics(max_workers=2) as metrics:
        metrics.update_inference(float("nan"))
        metrics.update_inference(0.5)
        samples = read(metrics)
    assert value(samples, "requests_total") == 2.0
    assert value(samples, "inference_duration_seconds_count") == 1.0
    assert value(samples, "shmetrics_invalid_records_total") == 1.0


def test_other_buckets_are_read_off_the_same_records(busy):
    few, many = read(Still(busy), buckets=[1.0]), read(Still(busy), buckets=[0.25, 0.5, 1.0])
    both = value(few, "total_duration_seconds_bucket", le="1.0")
    assert both == value(many, "total_duration_seconds_bucket", le="1.0")
    assert sum(name == "total_duration_seconds_bucket" for name, _ in few) == 2
    assert sum(name == "total_duration_seconds_bucket" for name, _ in many) == 4


def test_a_bound_is_shown_as_it_was_asked_for():
    rows = records([950.0] * 3, inference_time=[0.1, 0.1 * GROWTH * GROWTH, 0.2])
    samples = read(Still(fleet(worker(rows))), buckets={"inference_time": [0.1]})
    assert value(samples, "inference_duration_seconds_bucket", le="0.1") == 1.0


def test_counters_and_histograms_say_when_the_hub_was_made_in_whole_seconds(busy):
    samples = read(Still(replace(busy, created_at=busy.taken_at - 100.3)))
    expected = busy.taken_at_wall - 101.0
    assert value(samples, "requests_created") == value(samples, "batch_size_total_created") == expected
    assert value(samples, "shmetrics_hub_start_time_seconds") == expected
