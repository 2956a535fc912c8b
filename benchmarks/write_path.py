"""What one `update_inference` costs beside its prometheus_client multiprocess equivalent, in one interleaved run.

    python -m benchmarks.write_path [--rounds 15] [--json]

The equivalent of one record is one counter and four histograms. Both sides write to files in /dev/shm; folds are
included. The ratio of the medians is the figure; the microseconds are this machine's and this minute's.
"""

import argparse
import json
import os
import platform
import tempfile
import threading
from collections.abc import Callable

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.timing import interleaved

MEASUREMENT = (0.0123, 4, 0.001, 0.002)


def prometheus_request() -> Callable[[], None]:
    """One request's worth of prometheus_client metrics in multiprocess mode."""
    import prometheus_client  # noqa: PLC0415  reads PROMETHEUS_MULTIPROC_DIR at import

    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("requests", "Requests.", registry=registry)
    histograms = [
        prometheus_client.Histogram(name, f"{name}.", registry=registry)
        for name in ("inference", "batch", "preprocessing", "quantization")
    ]

    def request() -> None:
        counter.inc()
        for histogram, value in zip(histograms, MEASUREMENT, strict=True):
            histogram.observe(value)

    return request


def lock_alone() -> Callable[[], None]:
    """What a `with lock:` around nothing would add to each record: why `shmetrics.exclusion` does without."""
    lock = threading.Lock()

    def locked() -> None:
        with lock:
            pass

    return locked


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
            update = metrics.update_inference
            timings = interleaved(
                {
                    "prometheus_client multiprocess: 1 counter + 4 histograms": prometheus_request(),
                    "shmetrics update_inference": lambda: update(*MEASUREMENT),
                    "shmetrics record_error": metrics.record_error,
                    "a threading.Lock around nothing": lock_alone(),
                    "an empty function": lambda: None,
                },
                options.calls,
                options.rounds,
            )
    incumbent, ours = list(timings.values())[:2]
    result = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "microseconds": {name: vars(timing) for name, timing in timings.items()},
        "ratio": incumbent.median / ours.median,
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"Python {result['python']}, {result['cpus']} CPUs")
    print(f"{options.rounds} interleaved rounds of {options.calls} calls")
    print(f"{'':58}{'median':>9}{'min':>9}{'max':>9}  us per call")
    for name, timing in timings.items():
        print(f"{name:58}{timing.median:9.3f}{timing.low:9.3f}{timing.high:9.3f}")
    print(f"update_inference is {result['ratio']:.1f} times cheaper than the incumbent in this run")


if __name__ == "__main__":
    main()
