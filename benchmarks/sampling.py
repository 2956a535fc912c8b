"""What the sampler costs a worker that computes without pause, in Python alone: the worst there is for it.

    python -m benchmarks.sampling [--rate 100] [--pairs 100] [--seconds 0.3] [--json]

Pairs of short stretches of the same work in the same process, one sampled and one not, in an order that changes from
pair to pair. For each the work done is counted, by the second and by the second of processor time of the process (the
sampler's is in it). The figure is the median over all pairs of one over the other, so that what else the machine does
falls on both.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from contextlib import nullcontext

from shmetrics.benchmarks.timing import progress
from shmetrics.profiling.sampling import Sampling

DEPTH = 30
"""Frames under the work, as a framework has them."""
LIMIT = 0.02
"""Of the work, what sampling at 100 Hz may cost."""


def work(seconds: float, depth: int = DEPTH) -> tuple[float, float]:
    """Work done by the second, and by the second of processor time."""
    if depth:
        return work(seconds, depth - 1)
    done, begun, used = 0, time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - begun) < seconds:
        done += sum(_unit(number) for number in range(50))
    return done / passed, done / (time.process_time() - used)


def _unit(number: int) -> int:
    """Counts as one: a little of arithmetic, of attributes and of containers."""
    table = {key: key * number for key in range(5)}
    return 1 if table[4] >= 0 and str(number) else 0


def pair(rate: float, seconds: float, sampled_first: bool) -> tuple[tuple[float, float], tuple[float, float], float]:
    """One pair: what was done with the sampler and without, and what the sampler says it took of a processor."""
    done: dict[bool, tuple[float, float]] = {}
    cost = 0.0
    for sampled in (sampled_first, not sampled_first):
        sampling = Sampling(rate) if sampled else None
        with sampling or nullcontext():
            done[sampled] = work(seconds)
        if sampling is not None:
            profile = sampling.profile()
            cost = profile.cost / max(profile.seconds, 1e-9)
    return done[True], done[False], cost


def main() -> int:
    """Measure, print, and say by the exit status whether it is within the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pair(options.rate, options.seconds, True)  # to warm up
    by_time, by_processor, costs = [], [], []
    for number in range(options.pairs):
        sampled, alone, cost = pair(options.rate, options.seconds, number % 2 == 0)
        by_time.append(1 - sampled[0] / alone[0])
        by_processor.append(1 - sampled[1] / alone[1])
        costs.append(cost)
        progress(number + 1, options.pairs)
    figures = {
        "python": platform.python_version(),
        "rate": options.rate,
        "pairs": options.pairs,
        "cost_by_time": statistics.median(by_time),
        "cost_by_processor_time": statistics.median(by_processor),
        "cost_as_reported": statistics.median(costs),
        "limit": LIMIT,
    }
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"sampling at {options.rate:g} Hz, {options.pairs} pairs, Python {figures['python']}, of the work done:")
        print(f"  {100 * figures['cost_by_time']:6.2f} %  less by the second")
        print(f"  {100 * figures['cost_by_processor_time']:6.2f} %  less by the second of processor time")
        print(f"  {100 * figures['cost_as_reported']:6.2f} %  of a processor, by the sampler's own account")
    return 0 if figures["cost_by_time"] < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
