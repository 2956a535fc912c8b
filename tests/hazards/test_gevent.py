"""Workers that gevent has patched: a thousand greenlets record, and none of them waits because of it."""

import json
import os
import subprocess
import sys

import pytest

from shmetrics import PerformanceMetrics, segment
from shmetrics.locks import REGISTRY, ByteLock
from tests.processes import PATIENCE

GREENLETS, RECORDS = 1000, 4
WINDOW = 10_000
"""Room for all that is recorded before there is a slot."""
STALL = 0.005
ATTEMPTS = 3


def record_in_greenlets(order, hub_name):
    """Run the greenlets while this process holds the registry until all have recorded; returns their figures."""
    with PerformanceMetrics(name=hub_name, window_size=WINDOW, max_workers=2) as metrics:
        before = metrics.get_comprehensive_statistics()
        hub = segment.attach(hub_name, writable=True)
        registry = ByteLock(hub.descriptor, REGISTRY)
        assert registry.try_acquire()
        with subprocess.Popen(
            [sys.executable, "-m", "tests.hazards.greenlets", order, str(GREENLETS), str(RECORDS)],
            env={**os.environ, "SHMETRICS_HUB": hub_name},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker:
            assert worker.stdout.readline() == "busy\n", worker.stderr.read()
            registry.release()
            output, errors = worker.communicate(timeout=PATIENCE)
        hub.close()
        assert worker.returncode == 0, errors
        after = metrics.get_comprehensive_statistics()
    assert after["total_requests"] - before["total_requests"] == GREENLETS * RECORDS
    assert after["dropped_records"] == 0
    assert after["workers_seen"] - before["workers_seen"] == 1, errors
    return json.loads(output)


@pytest.mark.parametrize("order", ["patched first", "patched later"])
def test_a_thousand_greenlets_that_share_a_first_record_are_exact_and_stall_nobody(hub_name, order):
    """Not for five milliseconds, also while another process holds the registry.

    The machine stalls them too, and that cannot all be told apart: hence the allowance for what greenlets suffer that
    record nothing, and it is the best of three runs that counts. (A claim that waits stalls them for two seconds.)
    """
    for attempt in range(ATTEMPTS):
        figures = record_in_greenlets(order, hub_name)
        allowed = STALL + 2 * figures["gap_of_control"]
        if max(figures["call"], figures["gap"]) < allowed:
            break
        assert attempt + 1 < ATTEMPTS, figures
