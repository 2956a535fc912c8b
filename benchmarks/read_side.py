"""What a snapshot with all statistics costs: 64 live workers, each with a full window of 1,000 records.

python -m benchmarks.read_side [--workers 64] [--window 1000] [--rounds 30] [--json]
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import statistics
import time
from multiprocessing.synchronize import Event as EventType

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.timing import progress


def worker(metrics: PerformanceMetrics, records: int, ready: "multiprocessing.Queue[int]", done: EventType) -> None:
    """Fill a window, then stay alive."""
    draw = random.Random(os.getpid())
    for _ in range(records):
        metrics.update_inference(draw.lognormvariate(-4, 0.5), draw.randint(1, 64), 0.001, 0.0005)
    ready.put(os.getpid())
    done.wait()


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--window", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()

    context = multiprocessing.get_context("fork")
    ready: multiprocessing.Queue[int] = context.Queue()
    done = context.Event()
    milliseconds: dict[str, list[float]] = {"snapshot": [], "get_statistics": [], "get_comprehensive_statistics": []}
    with PerformanceMetrics(window_size=options.window, max_workers=options.workers) as metrics:
        processes = [
            context.Process(target=worker, args=(metrics, 2 * options.window + 123, ready, done))
            for _ in range(options.workers)
        ]
        for process in processes:
            process.start()
        for at in range(options.workers):
            ready.get()
            progress(at + 1, options.workers)
        rows = metrics.get_statistics()["window_count"]
        for at in range(options.rounds):
            for name, times in milliseconds.items():
                start = time.perf_counter()
                getattr(metrics, name)()
                times.append(1e3 * (time.perf_counter() - start))
            progress(at + 1, options.rounds)
        done.set()
        for process in processes:
            process.join()
    result = {
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "workers": options.workers,
        "rows": rows,
        "milliseconds": {
            name: {"median": statistics.median(times), "low": min(times), "high": max(times)}
            for name, times in milliseconds.items()
        },
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    print(f"Python {result['python']}, {result['cpus']} CPUs")
    print(f"{options.workers} live workers, {rows} rows in the window")
    print(f"{'':32}{'median':>9}{'min':>9}{'max':>9}  ms per call")
    for name, times in milliseconds.items():
        print(f"{name:32}{statistics.median(times):9.2f}{min(times):9.2f}{max(times):9.2f}")


if __name__ == "__main__":
    main()
