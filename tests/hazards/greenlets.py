"""A worker of many greenlets, as a process of its own: gevent must patch it before, or after, it has shmetrics.

``python -m tests.hazards.greenlets ORDER GREENLETS RECORDS``, in an environment that names the hub. It says "busy" when
every greenlet has recorded twice. At the end it prints one line of JSON: the seconds that the slowest call took, and
the longest for which no other greenlet ran.
"""

import gc
import json
import os
import random
import sys
import time

from gevent import monkey, sleep, spawn
from gevent.event import Event

SPREAD = 0.2
"""Seconds over which the greenlets' records are spread: a thousand at the same instant would delay each other."""
TICK = 0.001


_schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)


def queued():
    """Seconds for which this thread was ready to run, and other processes ran instead."""
    return int(os.pread(_schedule, 100, 0).split()[1]) / 1e9


class Stopwatch:
    """Seconds that passed, less those that other processes took."""

    def __init__(self):
        self._start = time.perf_counter() - queued()

    def seconds(self):
        return time.perf_counter() - queued() - self._start


class Crowd:
    """Greenlets that all call a function, and a ticker that notices when they do not let it run."""

    def __init__(self, greenlets, calls, function):
        self.slowest_call = self.longest_gap = 0.0
        self.calls = 0
        self._greenlets, self._calls_each = greenlets, calls
        self._function = function
        self._going_on = Event()
        self._finished = False

    def run(self, pause):
        """Have every greenlet call twice, then call `pause`, then go on to the end."""
        ticker = spawn(self._tick)
        crowd = [spawn(self._call_often) for _ in range(self._greenlets)]
        while self.calls < 2 * self._greenlets:
            sleep(TICK)
        pause()
        self._going_on.set()
        for greenlet in crowd:
            greenlet.get()
        self._finished = True
        ticker.get()

    def _call_often(self):
        for number in range(self._calls_each):
            if number == 2:
                self._going_on.wait()
            sleep(random.uniform(0.0, SPREAD))
            watch = Stopwatch()
            self._function()
            self.slowest_call = max(self.slowest_call, watch.seconds())
            self.calls += 1

    def _tick(self):
        while not self._finished:
            watch = Stopwatch()
            sleep(TICK)
            self.longest_gap = max(self.longest_gap, watch.seconds() - TICK)


def main(order, greenlets, records):
    if order == "patched first":
        monkey.patch_all()
    from shmetrics import PerformanceMetrics

    monkey.patch_all()
    metrics = PerformanceMetrics()
    gc.disable()  # its pauses are not shmetrics' own

    control = Crowd(greenlets, records, lambda: None)
    control.run(lambda: None)
    crowd = Crowd(greenlets, records, lambda: metrics.update_inference(0.001))
    crowd.run(lambda: print("busy", flush=True))
    while not metrics.claim():
        sleep(TICK)
    figures = {"call": crowd.slowest_call, "gap": crowd.longest_gap, "gap_of_control": control.longest_gap}
    print(json.dumps(figures))
    metrics.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
