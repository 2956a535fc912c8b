"""The processes that are tortured: writers, readers, reapers and others, each in a child of fork until it dies."""

import contextlib
import faulthandler
import os
import random
import resource
import signal
import sys
import time

from shmetrics import doorbell, endings, native, segment, slots
from shmetrics.catalog import Catalog, FullError
from shmetrics.completion import writer_class
from shmetrics.errors import ShmetricsError
from shmetrics.families import Definition
from shmetrics.instruments import class_of
from shmetrics.layout import Layout
from shmetrics.locks import ROLE, ByteLock, RegistryBusyError
from tests.torture import ledger as columns
from tests.torture.ledger import Calm
from tests.torture.waiting import TimedView

BASE_SHIFT = 20
"""Writer `n` records the values ``(n << BASE_SHIFT) + 1, + 2, ...``: a row says whose it is, and which."""
ERROR_EVERY = 4
"""Ahead of every fourth record a writer counts an error, so the errors of a row follow from its value too."""
EVENTS = Definition("events_total", "counter")
SIZES = Definition("sizes", "histogram", buckets=(1.0, 2.0))
"""With each error a writer counts an event and a size of 1: both in one write, or the latter together with a record."""
CHURN = Definition("churn", "counter", labels=("label",))
"""Its series are created and removed all the time."""
LIFETIMES = (50, 300, 3000, 30_000, 1 << BASE_SHIFT)
HASTE = 0.02
"""GUARD_PATIENCE of some writers, so that guards of the dead are replaced all the time."""
_CHECK_EVERY = 256


class Job:
    """What a tortured process is given: the hub, its number, its row in the ledger, and how it is to die."""

    def __init__(self, target, number, row, fate, lifetime=None):
        self.target = target
        self.number = number
        self.row = row
        self.fate = fate
        self.lifetime = lifetime
        self.draw = random.Random(number)
        self.words = None  # of the slot, once a writer has one
        self._parent = os.getpid()

    def beat(self):
        """Say that this process came around; end it when nobody is left to see."""
        self.row[columns.BEATS] += 1
        if os.getppid() != self._parent:
            os._exit(0)


def write(job):
    """Record as fast as possible; after each returned call say so in the ledger."""
    row, base = job.row, job.number << BASE_SHIFT
    # Whoever is to die at a line of Python's writes in Python; of those that are killed at any time, every other one.
    os.environ[native.VARIABLE] = "1" if job.fate.function is None and job.number % 2 else "0"
    writer = writer_class()(job.target, role=f"w{job.number}")
    lifetime = job.lifetime
    if lifetime is None:
        lifetime = job.draw.choice(LIFETIMES)
        slots.GUARD_PATIENCE = job.draw.choice((slots.GUARD_PATIENCE, HASTE))
    job.fate.seal()
    catalog = Catalog(job.target)
    waiting = set()
    ends_requests = job.fate.function != "writer.Writer.record"  # whose visits are to be the records
    events = class_of("counter")(writer, catalog, EVENTS, (), waiting=waiting)
    sizes = class_of("histogram")(writer, catalog, SIZES, (), waiting=waiting)
    for sequence in range(1, lifetime + 1):
        in_one_write = sequence % (2 * ERROR_EVERY) == 0
        if sequence % ERROR_EVERY == 0:
            writer.add(slots.ERRORS, 1)
            row[columns.ERRORS] = sequence // ERROR_EVERY
            if in_one_write:
                sizes.add_with(1.0, 2, events, 1.0)
            else:
                events.inc()
                if not ends_requests:
                    sizes.observe(1.0)
            if in_one_write or not ends_requests:
                row[columns.EVENTS] = sequence // ERROR_EVERY
        value = base + sequence
        ticket = writer.enter(f"w{job.number}")
        if sequence == 1:
            _first_record(job, writer, value)
            spell = _Spell(job)
        elif sequence % ERROR_EVERY == 0 and ends_requests and not in_one_write:
            writer.complete(ticket, time.monotonic(), value, 2 * value, 3 * value, 4 * value, sizes, 1.0)
            row[columns.EVENTS] = sequence // ERROR_EVERY
        else:
            writer.record(value, 2 * value, 3 * value, 4 * value)
        row[columns.ACKNOWLEDGED] = sequence
        writer.leave(ticket)
        if sequence % _CHECK_EVERY == 0:
            job.beat()
            spell.end()
            spell = _Spell(job)
    row[columns.CLOSING] = 1
    writer.close()


def define_metrics(target):
    """Define what the writers count, so that no writer waits for it."""
    catalog = Catalog(target)
    for definition in (EVENTS, SIZES):
        catalog.place(catalog.define(definition, patience=1.0), (), patience=1.0)


def _first_record(job, writer, value):
    """The record that claims the slot. What waits for a slot is in this process only, so it is not acknowledged yet."""
    calm, start = Calm(job.row), time.perf_counter_ns()
    writer.record(value, 2 * value, 3 * value, 4 * value)
    if calm.lasted():
        job.row[columns.CLAIM_NS] = time.perf_counter_ns() - start
    while writer.slot is None:
        writer.claim()
    job.words = slots.words_of(job.target, writer.slot)


class _Spell:
    """Some hundred writes: counts how often they gave up the CPU to wait for something, which a write must never do.

    Not counted are spells in which we stopped the writer, and two things for which the kernel may let it queue: it
    replaced the guard of a dead reader, which makes and removes files in /dev/shm; or it touched a page for the first
    time (a minor fault), perhaps just when a reader did. Neither happens often to a writer that lives a while.
    """

    def __init__(self, job):
        self._job = job
        self._calm = Calm(job.row)
        self._guard = job.words[slots.GUARD]
        self._usage = resource.getrusage(resource.RUSAGE_THREAD)

    def end(self):
        """Put the count into the ledger."""
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        same_guard = self._job.words[slots.GUARD] == self._guard
        if self._calm.lasted() and same_guard and usage.ru_minflt == self._usage.ru_minflt:
            self._job.row[columns.SWITCHES] += usage.ru_nvcsw - self._usage.ru_nvcsw


def read(job):
    """Read as fast as possible, and slowly in the worst place; every other time one slot after another."""
    _read(job, lambda: job.draw.random() < 0.5)


def read_again(job):
    """Read like that, always one slot after another."""
    _read(job, lambda: True)


def _read(job, insists):
    row, calm = job.row, Calm(job.row)
    view = TimedView(job.target, torment=lambda: time.sleep(job.draw.uniform(0.0, 0.0006)), insists=insists)
    job.fate.seal()
    while True:
        calm.begin()
        view.snapshot()
        if calm.lasted():
            for column, seconds in (
                (columns.READ_NS, view.wall),
                (columns.BLOCKED_NS, view.blocked),
                (columns.GUARDS_NS, view.guards),
            ):
                row[column] = max(row[column], int(1e9 * seconds))
        job.beat()


def reap(job):
    """Reap as often as possible."""
    job.fate.seal()
    while True:
        slots.reap(job.target, patience=0.01)
        job.beat()


def report(job):
    """Say of workers that they were killed, as a parent would; of the living it is not believed."""
    owners = job.target.slots["owner"]
    job.fate.seal()
    while True:
        endings.report_end(job.target, int(job.draw.choice(owners["pid"])), -signal.SIGKILL)
        time.sleep(job.draw.uniform(0.0, 0.002))
        job.beat()


def create(job):
    """Create, attach to and remove a hub of another name, in a race with others like us."""
    job.fate.seal()
    while True:
        made = segment.create_or_attach(f"{job.target.name}-x", Layout(max_workers=2, max_series=8))
        made.close()
        if job.number % 2:
            with contextlib.suppress(ShmetricsError):
                segment.unlink(made.name, made.instance)
        job.beat()


def relabel(job):
    """Create and remove series of a custom metric, in a race with others like us."""
    catalog = Catalog(job.target)
    job.fate.seal()
    while True:
        label = "v" * job.draw.randint(1, 6)  # so that entries differ in length
        with contextlib.suppress(RegistryBusyError, FullError):
            metric = catalog.define(CHURN, patience=0.01)
            placement = catalog.place(metric, (label,), patience=0.01)
            if job.draw.random() < 0.5:
                catalog.remove(placement, patience=0.01)
        job.beat()


def ring(job):
    """Lead and listen to the bell, or else ring it."""
    job.fate.seal()
    while True:
        with ByteLock(job.target.descriptor, ROLE) as leader:
            if leader.try_acquire():
                bell = doorbell.Doorbell(job.target)
                bell.wait(0.002)
                bell.close()
            else:
                doorbell.ring(job.target)
                time.sleep(0.0005)
        job.beat()


def start(role, job):
    """Fork a process that does `role` until it dies; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a Ctrl-C the harness hears, and it ends us
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.nice(10)  # the monitor goes first
        role(job)
        status = 0
    except BaseException as error:  # noqa: BLE001  whatever it is, the harness counts it as a defect
        print(f"{role.__name__} {job.number} ({job.fate}): {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)
