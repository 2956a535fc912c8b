"""The processes that are tortured: writers, readers, reapers and creators, each in a child of fork until it dies."""

import contextlib
import os
import random
import resource
import sys
import time
from dataclasses import dataclass

from shmetrics import segment, slots
from shmetrics.errors import ShmetricsError
from shmetrics.hub import View
from shmetrics.layout import Layout
from shmetrics.reader import Reader
from shmetrics.writer import Writer
from tests.torture import failpoints

BASE_SHIFT = 24
"""Writer `n` records the values ``(n << BASE_SHIFT) + 1, + 2, ...``: a row says whose it is, and which."""

ACKNOWLEDGED, SWITCHES, WORST_CLAIM_US, WORST_READ_US, WORST_WAIT_US = range(5)
COLUMNS = 8
_CHECK_EVERY = 256


@dataclass(frozen=True)
class Fate:
    """How a process is to die: at a failpoint, or (None) whenever the harness kills it."""

    step: str | None
    point: int = 0
    visits: int = 1

    def seal(self):
        """Set the failpoint in this process."""
        if self.step is not None:
            code, line = failpoints.lines_of(self.step)[self.point]
            failpoints.die_at(code, line, self.visits)


def draw_fate(draw, steps):
    """A fate of one of these steps, or none."""
    step = draw.choice([None, *steps, *steps])
    if step is None:
        return Fate(None)
    return Fate(step, draw.randrange(len(failpoints.lines_of(step))), draw.choice((1, 1, 1, 2, 5, 40)))


def write(target, number, ledger, fate):
    """Record as fast as possible; after each returned call say so in the ledger, which survives us."""
    row = ledger[COLUMNS * number : COLUMNS * (number + 1)]
    writer = Writer(target, role=f"w{number}")
    base, sequence = number << BASE_SHIFT, 0
    lifetime = random.Random(number).choice((50, 300, 3000, 30_000, 10**9))
    fate.seal()
    start = time.perf_counter()
    while sequence < lifetime:
        sequence += 1
        value = base + sequence
        writer.record(value, 2 * value, 3 * value, 4 * value)
        row[ACKNOWLEDGED] = sequence
        if sequence == 1:
            row[WORST_CLAIM_US] = int(1e6 * (time.perf_counter() - start))
            switches = _voluntary_switches()
        elif sequence % _CHECK_EVERY == 0:
            row[SWITCHES] = _voluntary_switches() - switches
    writer.close()


def _voluntary_switches():
    """How often this thread gave up the CPU to wait for something: what a write must never do."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def read(target, number, ledger, fate):
    """Read as fast as possible, now and then slowly in the worst place."""
    row = ledger[COLUMNS * number : COLUMNS * (number + 1)]
    draw, copy_ring = random.Random(number), Reader._copy_ring

    def slow_copy_ring(self, offset, first, head):
        time.sleep(draw.uniform(0.0, 0.0006))
        return copy_ring(self, offset, first, head)

    Reader._copy_ring = slow_copy_ring
    view = View(target)
    fate.seal()
    while True:
        start = time.perf_counter()
        snapshot = view.snapshot()
        row[WORST_READ_US] = max(row[WORST_READ_US], int(1e6 * (time.perf_counter() - start)))
        row[WORST_WAIT_US] = max(row[WORST_WAIT_US], int(1e6 * snapshot.health.seconds_waited))


def reap(target, _number, _ledger, fate):
    """Reap as often as possible."""
    fate.seal()
    while True:
        slots.reap(target, patience=0.01)


def create(target, number, _ledger, fate):
    """Create, attach to and remove a hub of another name, in a race with others like us."""
    fate.seal()
    while True:
        made = segment.create_or_attach(f"{target.name}-x", Layout(max_workers=2, max_series=8))
        made.close()
        if number % 2:
            with contextlib.suppress(ShmetricsError):
                segment.unlink(made.name, made.instance)


def start(role, target, number, ledger, fate):
    """Fork a process that does `role` until it dies; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.nice(10)  # the monitor goes first
        role(target, number, ledger, fate)
        status = 0
    except BaseException as error:  # noqa: BLE001  whatever it is, the harness counts it as a defect
        print(f"{role.__name__} {number} ({fate}): {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)
