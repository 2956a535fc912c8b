"""What a stage and a request outside of servers cost beside one `update_inference`, in one interleaved run.

    python -m benchmarks.stages [--rounds 15] [--json]

The ratios of the medians are the figures; the microseconds are this machine's and this minute's.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.timing import interleaved

BASE = "update_inference"


def within_a_request(metrics: PerformanceMetrics) -> dict[str, Callable[[], None]]:
    """What an application does within a request that is being measured."""
    kept = metrics.stage("preprocessing")

    def stage() -> None:
        with metrics.stage("preprocessing"):
            pass

    def kept_stage() -> None:
        with kept:
            pass

    def nested() -> None:
        with metrics.stage("inference"), metrics.stage("preprocessing"):
            pass

    def declared() -> None:
        with metrics.stage("tokenization"):
            pass

    @metrics.stage("preprocessing")
    def decorated() -> None:
        pass

    return {
        "with metrics.stage(...)": stage,
        "with a stage that is kept": kept_stage,
        "a stage within a stage": nested,
        "a declared stage, with its histogram": declared,
        "@metrics.stage(...)": decorated,
    }


def outside(metrics: PerformanceMetrics) -> dict[str, Callable[[], None]]:
    """Requests that no server's wrapper sees."""

    def block() -> None:
        with metrics.request(batch_size=8):
            pass

    @metrics.measure
    def function() -> None:
        pass

    return {"with metrics.request(...)": block, "@metrics.measure": function}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=5_000, help="calls per round and candidate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with PerformanceMetrics(window_size=1000) as metrics:
        metrics.add_stages("tokenization")
        base = {BASE: lambda: metrics.update_inference(0.0123, 4, 0.001, 0.002)}
        with metrics.request():
            within = interleaved({**base, **within_a_request(metrics)}, options.calls, options.rounds)
        without = interleaved({**base, **outside(metrics)}, options.calls, options.rounds)
    results = {"within a request": within, "outside of any": without}
    if options.json:
        microseconds = {where: {name: vars(each) for name, each in found.items()} for where, found in results.items()}
        print(json.dumps({"python": platform.python_version(), "cpus": os.cpu_count(), "microseconds": microseconds},
                         indent=2))  # fmt: skip
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print(f"{options.rounds} interleaved rounds of {options.calls} calls; us per call, and times {BASE}")
    for where, found in results.items():
        print(f"{where:40}{'median':>9}{'min':>9}{'ratio':>9}")
        for name, timing in found.items():
            print(f"  {name:38}{timing.median:9.3f}{timing.low:9.3f}{timing.median / found[BASE].median:9.1f}")


if __name__ == "__main__":
    main()
