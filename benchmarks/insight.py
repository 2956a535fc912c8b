"""What insight costs: a request on the in-flight board, an obituary, and the findings, in interleaved rounds.

    python -m benchmarks.insight [--rounds 15] [--json]

`enter` and `leave` are on the path of every request, an obituary is written by whoever reaps a dead worker (which may
be the first record of a new one), findings are computed by whoever looks. The microseconds are this machine's and this
minute's; compare what stands beside one another.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable

from shmetrics import PerformanceMetrics, slots
from shmetrics.benchmarks.timing import Timing, interleaved
from shmetrics.evidence import Evidence
from shmetrics.findings import find
from shmetrics.segment import Segment
from shmetrics.writer import Writer

LABELS = ("GET /predict/{model}", "GET /health")
NOBODY = 2**31
"""A pid that no process has: the worker is a dead stranger's."""


def on_the_board(metrics: PerformanceMetrics) -> dict[str, Callable[[], object]]:
    """What a wrapper of a server does with each request, and a record beside it."""
    enter, leave = metrics.recorder.enter, metrics.recorder.leave
    turn = 0

    def one_label() -> None:
        leave(enter(LABELS[0]))

    def labels_in_turn() -> None:
        nonlocal turn
        turn ^= 1
        leave(enter(LABELS[turn]))

    return {
        "enter + leave": one_label,
        "enter + leave, labels in turn": labels_in_turn,
        "update_inference": lambda: metrics.update_inference(0.01),
        "an empty function": lambda: None,
    }


def seconds_of_a_reap(segment: Segment, *, closed: bool) -> float:
    """How long it takes to reap a worker that recorded a little and closed, or died with a request in flight."""
    writer = Writer(segment)
    for _ in range(300):
        writer.record(0.01)
    writer.enter(LABELS[0])
    slot = writer.slot
    assert slot is not None
    segment.slots["owner"]["pid"][slot] = NOBODY
    if closed:
        writer.close()
    else:
        assert writer._claim is not None
        writer._claim.alive.release()
    start = time.perf_counter()
    assert slots.reap(segment) == 1
    return time.perf_counter() - start


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=20_000, help="calls per round and candidate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()

    with PerformanceMetrics(window_size=1000) as metrics:
        metrics.claim()
        timings = interleaved(on_the_board(metrics), options.calls, options.rounds)
        segment = metrics._attachment.segment
        reaps: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(4 * options.rounds):
            for closed, seconds in reaps.items():
                seconds.append(1e6 * seconds_of_a_reap(segment, closed=closed))
        for closed, text in ((True, "a reap of a worker that closed"), (False, "a reap with an obituary")):
            timings[text] = Timing(statistics.median(reaps[closed]), min(reaps[closed]), max(reaps[closed]))
        evidence = Evidence(metrics.snapshot())
        timings |= interleaved({"findings of one worker": lambda: find(evidence)}, 100, options.rounds)
    if options.json:
        print(json.dumps({name: vars(timing) for name, timing in timings.items()}, indent=2))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print(f"{'':40}{'median':>10}{'min':>10}{'max':>10}  us")
    for name, timing in timings.items():
        print(f"{name:40}{timing.median:10.3f}{timing.low:10.3f}{timing.high:10.3f}")


if __name__ == "__main__":
    main()
