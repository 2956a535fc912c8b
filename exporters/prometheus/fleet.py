"""The fleet's own families: what the built-in measurements of all workers together look like on a page."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric

from shmetrics.exporters.prometheus.buckets import cumulative
from shmetrics.exporters.prometheus.exemplars import by_bucket
from shmetrics.exporters.prometheus.names import go_float
from shmetrics.exporters.prometheus.ready import Ready, counter, gauge, remembered
from shmetrics.layout import MEASURES
from shmetrics.percentiles import PERCENTILES
from shmetrics.snapshot import Snapshot
from shmetrics.statistics import Statistics, page_figures

MEASURE_NAMES: Final = {
    "inference_time": ("inference_duration_seconds", "inference_window_duration_seconds", "Inference time", "seconds"),
    "preprocessing_time": (
        "preprocessing_duration_seconds",
        "preprocessing_window_duration_seconds",
        "Preprocessing time",
        "seconds",
    ),
    "quantization_time": (
        "quantization_duration_seconds",
        "quantization_window_duration_seconds",
        "Quantization time",
        "seconds",
    ),
    "total_time": (
        "total_duration_seconds",
        "total_window_duration_seconds",
        "Time of all three stages together",
        "seconds",
    ),
    "batch_size": ("batch_size_total", "batch_size_window", "Batch size", ""),
}
"""For each measure: its histogram, its gauge of window percentiles, what it is, and its unit."""

_RATES: Final = (
    (
        "throughput_requests_per_second",
        "throughput",
        "Requests per second: each worker's rate across its own window, summed.",
    ),
    (
        "current_throughput_requests_per_second",
        "current_throughput",
        "Requests per second over the last 5 seconds; 0 when idle.",
    ),
    ("peak_throughput_requests_per_second", "peak_throughput", "Requests in the best second."),
)


def families(
    snapshot: Snapshot, created: float, bounds: Mapping[str, Sequence[float]], prefix: str
) -> Iterator[Metric]:
    """Counters, histograms, window percentiles and rates of the whole fleet.

    ``created``: seconds since the epoch; ``bounds``: as `bounds_by_measure` gives them.
    """
    counters = snapshot.counters
    for name, value, text in (
        ("requests_total", counters.requests, "Requests, of workers long gone too."),
        ("errors_total", counters.errors, "Failed requests."),
        ("cache_hits_total", counters.cache_hits, "Answers that came from a cache."),
        ("cache_misses_total", counters.cache_misses, "Answers that a cache did not have."),
    ):
        yield counter(prefix + name, text, value, created)
    for measure in MEASURE_NAMES:
        yield _histogram(snapshot, created, measure, bounds[measure], prefix)
    figures = page_figures(snapshot)
    for measure in MEASURE_NAMES:
        yield _quantiles(figures, measure, prefix)
    for name, key, text in _RATES:
        yield gauge(prefix + name, text, figures[key])


def _histogram(snapshot: Snapshot, created: float, measure: str, bounds: Sequence[float], prefix: str) -> Metric:
    name, _, text, unit = MEASURE_NAMES[measure]
    row, folded = MEASURES.index(measure), snapshot.folded
    counts, total = cumulative(folded.sketch[row], bounds), float(folded.sum[row])
    slowest = by_bucket(snapshot.exemplars if measure == "inference_time" else (), bounds)

    def build() -> Metric:
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
            (bound, count, slowest[at]) if at in slowest else (bound, count)
            for at, (bound, count) in enumerate(zip(map(go_float, (*bounds, math.inf)), counts, strict=True))
        ]
        family = HistogramMetricFamily(
            prefix + name, f"{text} of every valid request ever.", buckets=buckets, sum_value=total, unit=unit
        )
        family.add_sample(f"{family.name}_created", {}, created)
        return family

    shape = remembered((_histogram, prefix, measure, tuple(bounds)), build)
    return Ready(shape, [*counts, counts[-1], total, created], build, has_exemplars=bool(slowest))


def _quantiles(figures: Statistics, measure: str, prefix: str) -> Metric:
    _, name, text, unit = MEASURE_NAMES[measure]
    values = [figures[f"p{percent}_{measure}"] for percent in PERCENTILES]

    def build() -> Metric:
        # Not "quantile": promtool allows that label to summaries only, whose counts never go down as a window's do.
        about = f"{text}: exact percentiles over the window of all workers."
        family = GaugeMetricFamily(prefix + name, about, labels=["percentile"], unit=unit)
        for percent, value in zip(PERCENTILES, values, strict=True):
            family.add_metric([str(percent)], value)
        return family

    return Ready(remembered((_quantiles, prefix, measure), build), values, build)
