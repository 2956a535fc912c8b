"""What measuring a task costs: beside a record, and in a pool whose tasks take a millisecond, in one interleaved run.

    python -m benchmarks.pools [--rounds 9] [--json]

The pools have one process each, so that they do not compete. Ratios of the medians are the figures.
"""

import argparse
import json
import multiprocessing
import os
import platform
import time

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.timing import interleaved

TASKS = 200


def nothing(number: int) -> int:
    """A task that only is measured."""
    return number


def work(_number: int) -> None:
    """A task of a millisecond, busy."""
    end = time.perf_counter() + 0.001
    while time.perf_counter() < end:
        pass


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=20_000, help="tasks by themselves, per round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with PerformanceMetrics(window_size=1000) as metrics:
        task = metrics.task(nothing)
        timings = interleaved(
            {"a record": lambda: metrics.update_inference(0.1), "a task": lambda: task(1)},
            options.calls,
            options.rounds,
        )
        with multiprocessing.get_context("fork").Pool(1) as plain, metrics.pool(1, context="fork") as measured:
            pools = {"a plain pool": plain, "a measured pool": measured}
            for pool in pools.values():
                pool.map(work, range(10))
            timings |= interleaved(
                {name: lambda pool=pool: pool.map(work, range(TASKS)) for name, pool in pools.items()},
                1,
                options.rounds,
            )
    ratios = {
        "task to record": timings["a task"].median / timings["a record"].median,
        "measured to plain pool": timings["a measured pool"].median / timings["a plain pool"].median,
    }
    if options.json:
        microseconds = {name: vars(timing) for name, timing in timings.items()}
        print(json.dumps({"python": platform.python_version(), "cpus": os.cpu_count(), "tasks": TASKS,
                          "microseconds": microseconds, "ratios": ratios}, indent=2))  # fmt: skip
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs; {options.rounds} interleaved rounds; medians")
    for name, timing in timings.items():
        per = f" for {TASKS} tasks of 1 ms" if "pool" in name else ""
        print(f"{name:18}{timing.median:12.2f} us{per}")
    for name, ratio in ratios.items():
        print(f"{name:24}{ratio:6.2f}")


if __name__ == "__main__":
    main()
