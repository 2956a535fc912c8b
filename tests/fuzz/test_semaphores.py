"""Semaphore files of arbitrary contents: whoever opens, takes and gives them back neither dies, waits nor raises.

The C library trusts every word of a ``sem_t``. Each example runs in a child, since what it gets wrong ends a process.
"""

import os
import signal
import struct
import warnings

import pytest

from shmetrics import guards, naming, slots
from shmetrics.doorbell import Doorbell, ring
from shmetrics.hub import View
from shmetrics.writer import Writer
from tests.fuzz.strikes import WORDS

PATIENCE = 10
SIZE = len(guards.template())
SEMAPHORES = [
    *(struct.pack("QQQQ", word, 128, 0, 0) for word in WORDS),  # value, waiters
    *(struct.pack("IIIIQQ", 1, 1, private, 0, 0, 0) for private in (0, 1, 77, 128, 129, 2**31, 2**32 - 1)),
    *(struct.pack("IIIIQQ", 2**31, 0, private, 0, 0, 0) for private in (0, 128)),
    b"\xff" * SIZE,
    bytes(SIZE),
    *(b"\1" * size for size in (0, 1, SIZE - 1, SIZE + 1, 4096)),
]


def put(name, contents):
    """A file of these contents where a semaphore of that name is looked for."""
    path = f"{naming.SHM_DIR}/sem.{name}"
    guards.unlink(name)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, contents)
    os.close(descriptor)


def in_mortal_child(function):
    """How a child ends that runs this: 0, or what is wrong."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            warnings.simplefilter("error")
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("contents", SEMAPHORES, ids=lambda contents: contents[:12].hex() or "empty")
def test_a_guard_of_any_contents_is_refused_or_works(make_segment, contents):
    segment = make_segment()
    writer = Writer(segment)
    writer.record(0.5)
    prefix = naming.semaphore_prefix(segment.name, segment.instance)
    put(guards.guard_name(prefix, 0, 1), contents)
    assert in_mortal_child(lambda: View(segment).snapshot()) == 0
    writer.close()


@pytest.mark.parametrize(
    "contents", [data for data in SEMAPHORES if len(data) == SIZE], ids=lambda data: data[:12].hex()
)
def test_a_writer_whose_hub_has_a_damaged_template_records_all_the_same(make_segment, contents):
    """The template in the header is what new guards are made of."""
    segment = make_segment()
    segment.fresh_semaphore = contents

    def record():
        writer = Writer(segment)
        for _ in range(600):
            writer.record(0.5)
        assert View(segment).snapshot().counters.requests == 600

    assert in_mortal_child(record) == 0
    slots.reap(segment)


@pytest.mark.parametrize("contents", SEMAPHORES, ids=lambda contents: contents[:12].hex() or "empty")
def test_a_bell_of_any_contents_can_be_rung(make_segment, contents):
    segment = make_segment()
    bell = Doorbell(segment)
    put(guards.bell_name(naming.semaphore_prefix(segment.name, segment.instance)), contents)
    assert in_mortal_child(lambda: ring(segment)) == 0
    bell.close()


def test_a_bell_that_rings_without_end_does_not_keep_the_aggregator_from_waiting(make_segment, clock):
    """A value that no rings can have made is not heeded: ticks keep their pace."""
    segment = make_segment()
    bell = Doorbell(segment)
    name = guards.bell_name(naming.semaphore_prefix(segment.name, segment.instance))
    with open(f"{naming.SHM_DIR}/sem.{name}", "r+b") as file:
        file.write(struct.pack("I", 2**31 - 1))
    woken = sum(bell.wait(1.0, clock=clock, sleep=clock.sleep) for _ in range(10))
    bell.close()
    assert woken <= 2
