"""What a change of a custom metric costs beside prometheus_client in multiprocess mode, in one interleaved run.

    python -m benchmarks.custom_metrics [--rounds 15] [--json]

Both sides write to files in /dev/shm. The ratios of the medians are the figures; the microseconds are this machine's
and this minute's.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.benchmarks.timing import interleaved

VALUE = 0.0123
PAIRS = ("counter inc", "counter labels().inc", "histogram observe", "gauge set")


def incumbent() -> dict[str, Callable[[], None]]:
    """The calls of prometheus_client."""
    import prometheus_client  # noqa: PLC0415  reads PROMETHEUS_MULTIPROC_DIR at import

    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("requests", "Requests.", registry=registry)
    labelled = prometheus_client.Counter("labelled", "Requests.", ["model", "route"], registry=registry)
    histogram = prometheus_client.Histogram("latency", "Latency.", registry=registry)
    gauge = prometheus_client.Gauge("queue", "Queue.", registry=registry, multiprocess_mode="livesum")
    return dict(
        zip(
            PAIRS,
            (
                counter.inc,
                lambda: labelled.labels("a", "b").inc(),
                lambda: histogram.observe(VALUE),
                lambda: gauge.set(VALUE),
            ),
            strict=True,
        )
    )


def ours(custom: CustomMetrics) -> dict[str, Callable[[], None]]:
    """The same calls of shmetrics."""
    counter = custom.counter("requests").labels()
    labelled = custom.counter("labelled", labels=["model", "route"])
    histogram = custom.histogram("latency").labels()
    gauge = custom.gauge("queue", merge="live_sum").labels()
    return dict(
        zip(
            PAIRS,
            (
                counter.inc,
                lambda: labelled.labels("a", "b").inc(),
                lambda: histogram.observe(VALUE),
                lambda: gauge.set(VALUE),
            ),
            strict=True,
        )
    )


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=20_000, help="calls per round and candidate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        with PerformanceMetrics(window_size=1000) as metrics:
            theirs, mine = incumbent(), ours(CustomMetrics(metrics))
            timings = interleaved(
                {
                    **{f"prometheus_client {name}": call for name, call in theirs.items()},
                    **{f"shmetrics {name}": call for name, call in mine.items()},
                },
                options.calls,
                options.rounds,
            )
    ratios = {name: timings[f"prometheus_client {name}"].median / timings[f"shmetrics {name}"].median for name in PAIRS}
    if options.json:
        print(
            json.dumps(
                {
                    "python": platform.python_version(),
                    "cpus": os.cpu_count(),
                    "microseconds": {name: vars(timing) for name, timing in timings.items()},
                    "ratios": ratios,
                },
                indent=2,
            )
        )
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print(f"{options.rounds} interleaved rounds of {options.calls} calls; medians, us per call")
    print(f"{'':24}{'incumbent':>10}{'shmetrics':>10}{'ratio':>8}")
    for name in PAIRS:
        print(
            f"{name:24}{timings[f'prometheus_client {name}'].median:10.3f}"
            f"{timings[f'shmetrics {name}'].median:10.3f}{ratios[name]:8.1f}"
        )


if __name__ == "__main__":
    main()
