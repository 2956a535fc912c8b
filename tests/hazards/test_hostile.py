"""Hostile files and words: they lead to no path of others, to no signal, and to no worse than a clear error."""

import ast
import faulthandler
import os
import re
import shutil
import signal
import sys

import posix_ipc
import pytest

from shmetrics import doorbell, guards, hub, naming, segment, slots
from shmetrics.aggregator import Aggregator
from shmetrics.errors import HubLayoutError
from shmetrics.hub import View
from shmetrics.layout import FOLD_BATCH
from shmetrics.writer import Writer
from tests.insisting import insisting_view
from tests.processes import in_forked_child
from tests.test_imports import MODULES

RECORDS = 2 * FOLD_BATCH

# Signals --------------------------------------------------------------------------------------------------------------

SIGNALLING = {"kill", "killpg", "pidfd_send_signal", "pthread_kill", "send_signal", "terminate", "suspend", "sigqueue"}
END_THEIR_OWN = {
    "shmetrics.demo.run",
    "shmetrics.supervisor",
    "shmetrics.prctl",
    "shmetrics.profiling.py_spy",
    "shmetrics.exporters.alerts.command",
    "shmetrics.benchmarks.fleets",
    "shmetrics.benchmarks.commands",
    "shmetrics.benchmarks.remote",
    "shmetrics.benchmarks.scenarios.catalog",
    "shmetrics.benchmarks.servers",
}
"""Each of these ends or signals a process that it started itself, by the handle that it got then."""


@pytest.mark.parametrize("name", sorted(MODULES.keys() - END_THEIR_OWN))
def test_no_module_signals_any_process(name):
    used = {node.attr for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Attribute)}
    assert not used & SIGNALLING


# Squatted semaphores --------------------------------------------------------------------------------------------------


def empty(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def foreign(path):
    with open(path, "wb") as file:
        file.write(guards.template())
    shutil.chown(path, user=12345)


def link_to_a_file_of_the_victim(path):
    os.symlink("/etc/hostname", path)


SQUATTERS = [empty, os.mkdir, os.mkfifo, link_to_a_file_of_the_victim, foreign]


@pytest.fixture(params=SQUATTERS, ids=lambda squat: squat.__name__)
def squat(request):
    """A function that puts something on a name; what it put there is removed."""
    if request.param is foreign and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    squatted = []

    def squat(path):
        request.param(path)
        squatted.append(path)

    yield squat
    for path in squatted:
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.unlink(path)


def semaphore_paths(target):
    """Where the next guards of slot 0 and the doorbell of a new hub will be."""
    prefix = naming.semaphore_prefix(target.name, target.instance)
    names = [guards.guard_name(prefix, 0, number) for number in (1, 2)] + [guards.bell_name(prefix)]
    return [f"{naming.SHM_DIR}/sem.{name}" for name in names]


def test_squatted_names_of_guards_and_doorbell_are_replaced_or_done_without(make_segment, squat):
    target = make_segment()
    for path in semaphore_paths(target):
        squat(path)

    def work():
        writer = Writer(target)
        for _ in range(RECORDS):
            writer.record(0.01)
        with Aggregator(segment.attach(target.name, writable=True)) as aggregator:
            assert aggregator.try_lead()
            assert aggregator.tick()["total_requests"] == RECORDS
            aggregator.wait(0.0)
        writer.close()

    in_forked_child(work)
    assert View(target).snapshot().counters.requests == RECORDS


def test_what_took_the_place_of_a_guard_or_doorbell_is_neither_waited_for_nor_mapped(make_segment, squat):
    """A zero-length file, for one, would kill whoever opens it as a semaphore with SIGBUS."""
    target = make_segment()
    writer = Writer(target)
    writer.record(0.01)
    for path in semaphore_paths(target):
        if os.path.exists(path):
            os.unlink(path)
        squat(path)

    def look():
        for make in (View, insisting_view):
            fleet = make(target).snapshot()
            assert (fleet.counters.requests, fleet.health.seconds_waited) == (1, 0.0)
        assert not doorbell.ring(target)

    in_forked_child(look)
    for _ in range(RECORDS):
        writer.record(0.01)
    assert int(target.slots["hot"]["fold"][0]) >> 1 >= FOLD_BATCH
    writer.close()


# Forged words ---------------------------------------------------------------------------------------------------------

HOSTILE = [0, 2**63, 2**64 - 1, int.from_bytes(b"/../../e", "little")]
IN_SHM = rf"{naming.SHM_DIR}(/(sem\.)?shmetrics\.{os.geteuid()}\.[a-z0-9_.-]+)?"
THE_KERNELS_COUNTERS = r"/proc/vmstat|/sys/fs/cgroup(/[^/]+)*/memory\.[a-z_]+"  # of OOM kills: see `oom`
OURS = re.compile(rf"{IN_SHM}|/proc/(self|sys|\d+)/[a-z/0-9_]+|{THE_KERNELS_COUNTERS}")


def paths_used_by(function):
    """Every path that a function opens, links or removes, and every semaphore it opens. For a process about to end."""
    paths, semaphore = [], posix_ipc.Semaphore

    def hook(event, arguments):
        if event in ("open", "os.remove", "os.link", "os.symlink", "os.rename", "os.mkdir", "os.truncate", "os.chmod"):
            paths.extend(str(path) for path in arguments[: 2 if event in ("os.link", "os.rename") else 1])

    def opened(name, *arguments):
        paths.append(f"{naming.SHM_DIR}/sem.{name.removeprefix('/')}")
        return semaphore(name, *arguments)

    posix_ipc.Semaphore = opened
    sys.addaudithook(hook)
    function()
    return [path if path.startswith("/") else f"{naming.SHM_DIR}/{path}" for path in paths if not path.isdigit()]


@pytest.mark.parametrize("word", HOSTILE, ids="{:x}".format)
def test_forged_words_make_no_path_but_those_of_this_users_hubs(make_segment, word):
    target = make_segment()

    def forge():
        target.header["instance"] = target.header["creator_pid"] = word
        target.slots["owner"]["guard"] = target.slots["owner"]["pid"] = word
        target.slots["owner"]["start_ticks"] = word
        target.slots["owner"]["role"] = b"/../../../etc/passwd"

    def use():
        writer = Writer(target)
        for _ in range(RECORDS):
            writer.record(0.01)
        forge()
        view = View(segment.attach(target.name))
        for _ in range(3):
            view.comprehensive()
        slots.renew_guard(target, 0, slots.words_of(target, 0))
        writer.close()
        forge()
        slots.reap(target)
        Writer(target).claim()
        view.comprehensive()
        hub.remove(target.name, force=True)
        guards.unlink_all(naming.semaphore_prefix(target.name, target.instance))

    def check():
        paths = paths_used_by(use)
        assert any("/sem." in path for path in paths)
        assert [path for path in paths if not OURS.fullmatch(path) or ".." in path] == []

    in_forked_child(check)


# What is not defended against -----------------------------------------------------------------------------------------


def test_a_hub_truncated_by_its_own_user_ends_those_who_have_it_mapped_with_sigbus_and_is_refused_to_others(
    make_segment,
):
    """No mapping can survive that; and that user could have killed them just as well."""
    target = make_segment()
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        os.truncate(naming.segment_path(target.name), 4096)
        View(target).snapshot()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGBUS
    with pytest.raises(HubLayoutError, match="4,096 bytes"):
        segment.attach(target.name)
    hub.remove(target.name, force=True)
