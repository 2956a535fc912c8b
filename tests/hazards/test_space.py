"""A full /dev/shm: a clear error when a hub is created, and never again a word of it, least of all SIGBUS.

Each test runs in a mount namespace of its own, where /dev/shm is a tmpfs of a few megabytes.
"""

import ctypes
import json
import os
import subprocess
import sys
import traceback

import pytest

from shmetrics import Hub, PerformanceMetrics, guards, naming
from shmetrics.aggregator import Aggregator
from shmetrics.errors import HubSpaceError, PlatformError
from shmetrics.layout import FOLD_BATCH, SEMAPHORE_BYTES, Layout
from shmetrics.segment import attach, create
from tests.cli import run
from tests.hazards.unshared import why_not
from tests.processes import in_forked_child
from tests.test_locks import open_descriptors

PAGE = os.sysconf("SC_PAGE_SIZE")
DIMS = {"max_workers": 3, "max_series": 16}
SIZE = -(-Layout(**DIMS).size // PAGE) * PAGE
RECORDS = 3 * FOLD_BATCH


def in_small_shm(size, function, *, strict="0"):
    """Run a function of this module where /dev/shm holds `size` bytes; a failure there is a failure here."""
    if reason := why_not("--mount"):
        pytest.skip(reason)
    script = f'mount -t tmpfs -o size={size} tmpfs {naming.SHM_DIR} && exec "$0" -c "$1"'
    code = f"from {__name__} import {function.__name__}; {function.__name__}()"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable, code],
        env=os.environ | {"SHMETRICS_STRICT": strict},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def fill():
    """Take every last byte of /dev/shm, and every last page."""
    descriptor = os.open(f"{naming.SHM_DIR}/filler", os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        while True:
            os.write(descriptor, bytes(PAGE))
    except OSError:
        os.close(descriptor)
    assert os.statvfs(naming.SHM_DIR).f_bavail == 0


# Creating -------------------------------------------------------------------------------------------------------------


def cannot_create():
    descriptors = open_descriptors()
    for name in ("t-0-full", None):
        with pytest.raises(HubSpaceError, match=r"shmetrics gc.*docker run --shm-size") as raised:
            PerformanceMetrics(name=name, **DIMS)
        told = "".join(traceback.format_exception(raised.value))
        assert "HubNotFoundError" not in told, "that the hub was not there yet is no part of the trouble"
    assert os.listdir(naming.SHM_DIR) == []
    assert open_descriptors() == descriptors
    free = os.statvfs(naming.SHM_DIR)
    assert free.f_bfree == free.f_blocks, "bytes were kept"


@pytest.mark.parametrize("size", [PAGE, SIZE // 2, SIZE - PAGE], ids=["a page", "half", "a page less"])
@pytest.mark.parametrize("strict", "01")
def test_a_hub_that_does_not_fit_is_refused_with_the_remedy_and_leaves_nothing(size, strict):
    in_small_shm(size, cannot_create, strict=strict)


@pytest.mark.parametrize("options", [str(SIZE), f"{SIZE + PAGE},nr_inodes=1"], ids=["no page", "no inode"])
def test_a_hub_that_leaves_no_room_for_a_semaphore_is_refused_with_the_remedy_and_leaves_nothing(options):
    in_small_shm(options, cannot_create)


def cannot_create_in_what_is_read_only():
    assert not naming.is_usable()
    for name in ("t-0-none", None):
        with pytest.raises(PlatformError, match=r"Read-only file system.*mount a tmpfs"):
            PerformanceMetrics(name=name, **DIMS)
    for verb, status in (("ls", 0), ("gc", 0), ("doctor", 1), ("demo", 1)):
        done = run(verb)
        assert (done.returncode, done.stderr.count("\n")) == (status, verb == "demo"), done.stderr
        assert status == 0 or "mount a tmpfs" in done.stdout + done.stderr


def test_shared_memory_that_may_not_be_written_is_an_error_that_says_so():
    in_small_shm(f"{SIZE},ro", cannot_create_in_what_is_read_only)


def can_create():
    with PerformanceMetrics(name="t-0-full", **DIMS) as metrics:
        serve(metrics)
        assert metrics.get_statistics()["total_requests"] == RECORDS


def test_a_hub_that_just_fits_is_created_and_works():
    in_small_shm(SIZE + PAGE, can_create)


# Full afterwards ------------------------------------------------------------------------------------------------------


def serve(metrics, count=RECORDS):
    for _ in range(count):
        metrics.update_inference(0.01)


def everything_goes_on():
    """All a hub does, where not a byte is left: in the process that had its slot before, and in ones that come now."""
    name = "t-0-full"
    before = PerformanceMetrics(name=name, **DIMS)
    serve(before, 1)
    fill()
    serve(before)
    assert guards.create("t-0-any", bytes(SEMAPHORE_BYTES)) is None, "there is room for a semaphore"

    def start_now():
        with PerformanceMetrics(name=name, **DIMS) as metrics:
            serve(metrics)
            assert metrics.snapshot().workers[1].alive, "it found no slot"

    in_forked_child(start_now)
    in_forked_child(lambda: serve(before))
    with Hub.attach(name) as hub, Aggregator(attach(name, writable=True)) as leader:
        assert hub.snapshot().counters.requests == 1 + 3 * RECORDS
        assert leader.try_lead()
        figures = leader.tick()
        assert figures["total_requests"] == int(hub.snapshot().folded.valid) == 1 + 3 * RECORDS
        assert (figures["dropped_records"], figures["hub"]["corrupt"]) == (0, {})
    for verb in ("stats", "ls"):
        told = run(
            verb, *([name] if verb == "stats" else []), "--json", SHMETRICS_STRICT=os.environ["SHMETRICS_STRICT"]
        )
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)
    with pytest.raises(HubSpaceError):
        create("t-0-another", Layout(**DIMS))
    gone = run("rm", "--force", name)
    assert gone.returncode == 0, gone.stderr
    serve(before)
    assert before.get_statistics()["total_requests"] == 1 + 4 * RECORDS


@pytest.mark.parametrize("strict", "01")
def test_when_shared_memory_fills_up_later_every_part_of_a_hub_goes_on(strict):
    in_small_shm(SIZE + 64 * PAGE, everything_goes_on, strict=strict)


# No file may be made --------------------------------------------------------------------------------------------------


def can_attach_all_the_same():
    with PerformanceMetrics(name="hub", **DIMS) as metrics:
        metrics.update_inference(0.01)
        os.chmod(naming.SHM_DIR, 0o555)
        give_up_capabilities()
        with pytest.raises(PlatformError, match="Permission denied"):
            create("another", Layout(**DIMS))
        with Hub.attach("hub") as hub:
            assert hub.statistics()["total_requests"] == 1
        with PerformanceMetrics(name="hub", **DIMS) as second:
            second.update_inference(0.01)
        assert metrics.get_statistics()["total_requests"] == 2


def give_up_capabilities():
    """Be root no more where permissions are checked (capset(2))."""
    version_3_of_self = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert ctypes.CDLL(None).capset(version_3_of_self, (ctypes.c_uint32 * 6)()) == 0


@pytest.mark.parametrize("strict", ["0", "1"])
def test_a_hub_can_be_attached_where_no_file_may_be_made(strict):
    """A monitor in a container that may look at shared memory and no more."""
    in_small_shm(8 * 2**20, can_attach_all_the_same, strict=strict)
