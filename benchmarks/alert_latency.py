"""From a condition that becomes true in a worker to the call of the handler; and what waiting for it costs.

python -m benchmarks.alert_latency [--rounds 10]

A forked worker records healthy requests, and then fails. The monitoring process looks once a second, in turn with the
tripwire and without; each round fails at another moment of that second. Times hold waiting for a CPU too: see the load.
"""

import argparse
import multiprocessing
import os
import random
import statistics
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event, Semaphore

from shmetrics import PerformanceAlerting, PerformanceMetrics
from shmetrics.alerting import performance
from shmetrics.alerting.tripwire import POLL, Tripwire, Wires
from shmetrics.benchmarks.timing import interleaved, progress

THRESHOLDS = {"error_rate_threshold": 0.05, "latency_p95_threshold": 0.1}
PATIENCE = 30.0


def worker(metrics: PerformanceMetrics, fail: Semaphore, failed_at: "Synchronized[float]", end: Event) -> None:
    """Be healthy; then, at a signal, fail and say when."""
    for _ in range(100):
        metrics.update_inference(0.01)
    if fail.acquire(timeout=PATIENCE):
        failed_at.value = time.monotonic()
        metrics.record_error(20)
    end.wait(PATIENCE)


def one(*, tripwire: bool) -> float:
    """Seconds from the failure to the handler."""
    context = multiprocessing.get_context("fork")
    fail, end, failed_at = context.Semaphore(0), context.Event(), context.Value("d", 0.0)
    called: list[float] = []
    known = performance.wires_of
    with PerformanceMetrics(window_size=100, max_workers=64) as metrics:
        process = context.Process(target=worker, args=(metrics, fail, failed_at, end), daemon=True)
        process.start()
        while metrics.get_statistics()["total_requests"] < 100:
            time.sleep(0.01)
        if not tripwire:
            performance.wires_of = lambda rules: Wires()
        with PerformanceAlerting(metrics, THRESHOLDS) as alerting:
            alerting.register_handler("critical", lambda alert: called.append(time.monotonic()))
            time.sleep(0.3 + random.random())
            fail.release()
            deadline = time.monotonic() + PATIENCE
            while not called and time.monotonic() < deadline:
                time.sleep(0.001)
        performance.wires_of = known
        end.set()
        process.join()
    return called[0] - float(failed_at.value)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    times: dict[bool, list[float]] = {True: [], False: []}
    for done in range(rounds):
        for tripwire in (True, False):
            times[tripwire].append(one(tripwire=tripwire) * 1e3)
        progress(done + 1, rounds)
    print(f"{rounds} rounds each, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    for tripwire, name in ((True, "with the tripwire"), (False, "once a second")):
        print(f"{name:<20} median {statistics.median(times[tripwire]):7.1f} ms, least {min(times[tripwire]):7.1f}, "
              f"most {max(times[tripwire]):7.1f}")  # fmt: skip
    with PerformanceMetrics(max_workers=4) as small, PerformanceMetrics(max_workers=64) as large:
        wires = Wires(errors=True, misses=True, slower_than=1.0, deaths=True)
        polls = {name: Tripwire(metrics.view.segment, wires).tripped for name, metrics in (("4", small), ("64", large))}
        for name, timing in interleaved(polls, 200, 20).items():
            print(
                f"a poll of {name:>2} slots     {timing.median:7.1f} us: {timing.median * 1e-4 / POLL:.2f} % of a CPU"
            )


if __name__ == "__main__":
    main()
