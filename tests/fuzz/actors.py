"""The processes that live on the segment while it is struck: writers, readers, aggregators; each a child of fork.

Each reports what must not be as a traceback in its pipe, and its progress in a shared word. An audit hook turns every
signal to another process, and every file opened or removed outside our own prefix, into a failure.
"""

import json
import os
import random
import resource
import sys
import time
import traceback
import warnings

from shmetrics import naming, segment
from shmetrics.aggregator import Aggregator
from shmetrics.endings import report_end
from shmetrics.errors import ShmetricsError
from shmetrics.hub import Hub
from shmetrics.metrics import PerformanceMetrics

MEMORY = 2 * 2**30
"""Bytes of address space an actor may grow by: what is read must not decide how much is allocated."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def write(name, draw, progress):
    """Record, sometimes briefly, sometimes to the end of this process; sometimes close, sometimes just die."""
    metrics = PerformanceMetrics(name=name, max_workers=8, max_series=8, role=f"w{os.getpid()}")
    for number in range(draw.choice((1, 300, 3000, 30_000))):
        ticket = metrics.recorder.enter(f"/{number}")
        metrics.update_inference(0.001 * draw.random(), 1 + number % 8)
        if number % 7 == 0:
            metrics.record_error()
            metrics.record_cache_hit(2)
            metrics.record_cache_miss()
        if number % 97 == 0:
            list(metrics.inference_times)
            _ = metrics.total_requests
        if number % 500 == 0:
            json.dumps(metrics.get_comprehensive_statistics(), allow_nan=False)
            time.sleep(0.001)
        metrics.recorder.leave(ticket)
        progress()
    if draw.random() < 0.5:
        metrics.close()


def read(name, draw, progress):
    """Attach, and read in every way there is."""
    with Hub.attach(name) as hub:
        for _ in range(draw.choice((1, 20, 200))):
            json.dumps(hub.statistics(max_age=draw.choice((None, 0.0, 5.0))), allow_nan=False)
            json.dumps(hub.workers(), allow_nan=False)
            json.dumps([obituary.as_json() for obituary in hub.obituaries()], allow_nan=False)
            hub.snapshot()
            _ = hub.has_aggregator
            progress()


def aggregate(name, draw, progress):
    """Lead or stand by, tick often, say of processes how they ended."""
    target = segment.attach(name, writable=True)
    with Aggregator(target) as aggregator:
        for _ in range(draw.choice((1, 50, 500))):
            if aggregator.try_lead():
                json.dumps(aggregator.tick(), allow_nan=False)
            report_end(target, draw.choice((*target.slots["owner"]["pid"].tolist(), 1)), draw.choice((-9, 0, 3)))
            aggregator.wait(0.002)
            progress()


class _Trespass(BaseException):
    """Something was touched that is not ours. No handler in between may swallow it."""


def _fence_in(prefix):
    """Raise when this process signals another, or changes a file outside our prefix."""
    ours = (f"{naming.SHM_DIR}/{prefix}", f"{naming.SHM_DIR}/sem.{prefix}", "/proc/self/fd/", "/dev/null")

    def hook(event, args):
        if event in ("os.kill", "os.killpg", "signal.pthread_kill"):
            raise _Trespass(event, args)
        if event == "open" and isinstance(args[0], str) and isinstance(args[2], int) and args[2] & _WRITING:
            nameless = args[0] == naming.SHM_DIR and args[2] & os.O_TMPFILE == os.O_TMPFILE
            if not (nameless or args[0].startswith(ours)):
                raise _Trespass(event, args)
        by_path = event in ("os.remove", "os.rename", "os.truncate", "os.chmod") and isinstance(args[0], str)
        if by_path and not args[0].startswith(ours):  # an open descriptor is one of those above
            raise _Trespass(event, args)

    sys.addaudithook(hook)


def start(actor, name, seed, ledger, place):
    """Fork a process that acts; returns its pid and the descriptor of what it has to say. Status 1: a failure."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    status = 1
    try:
        status = _act(actor, name, random.Random(seed), ledger, place)
    except BaseException:  # noqa: BLE001  whatever it is, it is told, and is this child's exit status
        os.write(writing, traceback.format_exc()[-4000:].encode())
    finally:
        os._exit(status)


def _act(actor, name, draw, ledger, place):
    warnings.simplefilter("error")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  warnings of lost slots, in their thousands
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    _fence_in(naming.segment_file(name))

    def progress():
        ledger[place] += 1

    while True:
        try:
            actor(name, draw, progress)
        except (ShmetricsError, ValueError) as error:
            if not _is_refusal(error):
                raise
            progress()
            time.sleep(0.01)
        if actor is write:
            return 0


def _is_refusal(error):
    """Whether it came out of an attach, where a damaged header is refused; everywhere else nothing may be raised."""
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, ShmetricsError) and "attach" in frames
