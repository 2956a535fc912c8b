"""CPU and memory of workers, of real processes."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from shmetrics import resources as module
from shmetrics.process import start_ticks
from shmetrics.resources import Memory, Resources, growth_of, process_figures
from shmetrics.snapshot import Usage
from tests.forge import worker
from tests.profiling.spies import spy

pytestmark = pytest.mark.usefixtures("written_in")
NOTHING = Usage()
BUSY_THEN_IDLE = """
import sys, time
while time.process_time() < 0.2: pass
print("idle", flush=True)
sys.stdin.readline()
"""


def worker_of(pid, **fields):
    """A forged worker that is a real process."""
    return worker(**{"pid": pid, "start_ticks": start_ticks(pid), **fields})


def look(resources, worker):
    """One look at one worker."""
    return resources.usages([worker])[0]


def figures_of(worker):
    """What the kernel says of one worker's process."""
    return process_figures([worker])[0]


def burn(seconds):
    """Use that much CPU."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


@pytest.fixture
def stopped_child():
    """A process that used 0.2 s of CPU at least and, being stopped, uses no more."""
    command = [sys.executable, "-c", BUSY_THEN_IDLE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "idle\n"
            os.kill(child.pid, signal.SIGSTOP)
            os.waitpid(child.pid, os.WUNTRACED)
            yield child
        finally:
            child.kill()


TRACER = """
import ctypes, os, signal, sys
libc, pid = ctypes.CDLL(None), int(sys.argv[1])
assert libc.ptrace(16, pid, None, None) == 0  # PTRACE_ATTACH
os.waitpid(pid, 0)
print("holds it", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize(("name", "state"), [("py-spy", "R"), ("gdb", "t")])
def test_a_process_that_a_profiler_holds_for_an_instant_is_not_stopped_and_one_in_a_debugger_is(tmp_path, name, state):
    spy()  # whether a process may be traced
    tracer = tmp_path / name
    tracer.write_text(f"#!{sys.executable}\n{TRACER}")
    tracer.chmod(0o700)
    with subprocess.Popen(["sleep", "60"]) as child:
        command = [str(tracer), str(child.pid)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "holds it\n"
            assert look(Resources(), worker_of(child.pid)).state == state
            process.communicate("\n")
        child.kill()


def test_a_live_process_has_figures():
    burn(0.02)
    usage = look(Resources(), worker_of(os.getpid()))
    assert usage.cpu_percent > 0.0
    assert 2**20 < usage.rss_bytes < 2**40


def test_the_first_look_is_at_everything_since_the_process_started(stopped_child):
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks(stopped_child.pid) / os.sysconf("SC_CLK_TCK")
    usage = look(Resources(), worker_of(stopped_child.pid))
    assert usage.cpu_percent >= 100.0 * 0.19 / (age + 1.0)


def test_the_second_look_is_at_what_was_used_since_the_first(stopped_child):
    resources, idle = Resources(), worker_of(stopped_child.pid)
    assert look(resources, idle).cpu_percent > 0.0
    assert look(resources, idle).cpu_percent == 0.0


def test_a_second_look_sees_what_was_used_meanwhile():
    resources, me = Resources(), worker_of(os.getpid())
    look(resources, me)
    burn(0.05)
    assert look(resources, me).cpu_percent > 0.0


def test_each_process_is_remembered_for_itself(stopped_child):
    resources, both = Resources(), [worker_of(os.getpid()), worker_of(stopped_child.pid)]
    assert resources.usages(both)[1].cpu_percent > 0.0
    burn(0.05)
    me, idle = resources.usages(both)
    assert me.cpu_percent > 0.0
    assert idle.cpu_percent == 0.0


def test_a_worker_that_is_not_looked_at_any_more_is_forgotten():
    resources = Resources()
    look(resources, worker_of(os.getpid()))
    resources.usages([])
    assert resources._last == {}


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_reused_pid_gives_nothing_rather_than_somebody_elses_figures(shift):
    forged = worker_of(os.getpid(), start_ticks=start_ticks("self") + shift)
    assert look(Resources(), forged) == NOTHING


def test_a_worker_that_is_not_alive_gives_nothing():
    assert look(Resources(), worker_of(os.getpid(), alive=False, ended_at=1.0)) == NOTHING


def test_one_that_lives_without_its_slot_gives_what_it_uses():
    """Nobody has noticed its end, and there was none."""
    assert look(Resources(), worker_of(os.getpid(), alive=False)).state == "R"


def test_a_process_that_is_gone_gives_nothing(stopped_child):
    resources, gone = Resources(), worker_of(stopped_child.pid)
    assert look(resources, gone) != NOTHING
    stopped_child.kill()
    stopped_child.wait()
    assert look(resources, gone) == NOTHING


@pytest.mark.parametrize("pid", [0, 2**22 + 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("ticks", [0, 2**64 - 1])
def test_a_hostile_pid_gives_nothing(pid, ticks):
    assert look(Resources(), worker(pid=pid, start_ticks=ticks)) == NOTHING


class TestProcessFigures:
    """All the kernel tells of one process at one look."""

    def test_they_are_those_of_the_process(self):
        burn(0.05)
        figures = figures_of(worker_of(os.getpid()))
        assert 0.05 <= figures.cpu_seconds <= time.process_time() + 0.1
        assert 2**20 < figures.rss_bytes < figures.virtual_bytes
        assert figures.threads == len(os.listdir("/proc/self/task"))

    @pytest.mark.parametrize("old_kernel", [False, True])
    def test_descriptors_are_counted(self, old_kernel, monkeypatch):
        """Before Linux 6.2 the directory has no size, and its entries are counted."""

        class NoSize:
            st_size = 0

        if old_kernel:
            monkeypatch.setattr(module.os, "stat", lambda *_arguments, **_options: NoSize)
        before = figures_of(worker_of(os.getpid())).open_fds
        with open(os.devnull), open(os.devnull):
            assert figures_of(worker_of(os.getpid())).open_fds == before + 2

    def test_descriptors_that_cannot_be_counted_are_left_out(self, stopped_child, monkeypatch):
        """As where a process is another user's."""

        def refused(path, *arguments, **options):
            if path.endswith("/fd"):
                raise PermissionError
            return real(path, *arguments, **options)

        real = os.stat
        monkeypatch.setattr(module.os, "stat", refused)
        figures = figures_of(worker_of(stopped_child.pid))
        assert figures.open_fds is None
        assert figures.rss_bytes > 0

    @pytest.mark.parametrize("shift", [-1, 1])
    def test_a_reused_pid_gives_nothing(self, shift):
        assert figures_of(worker_of(os.getpid(), start_ticks=start_ticks("self") + shift)) is None

    def test_a_worker_that_is_not_alive_gives_nothing(self):
        assert figures_of(worker_of(os.getpid(), alive=False)) is None

    def test_a_process_that_ends_at_the_look_gives_nothing(self, stopped_child, monkeypatch):
        """It ends after its descriptors were counted; by the time its start is read, its pid may be another's."""
        known = worker_of(stopped_child.pid)
        read = module._stat_reader()

        def end_first(pid):
            stopped_child.kill()
            stopped_child.wait()
            return read(pid)

        monkeypatch.setattr(module, "_stat_reader", lambda: end_first)
        assert figures_of(known) is None

    @pytest.mark.parametrize("pid", [0, 2**22 + 1, 2**63, 2**64 - 1])
    def test_a_hostile_pid_gives_nothing(self, pid):
        assert figures_of(worker(pid=pid, start_ticks=1)) is None

    def test_no_descriptor_is_left_open(self, stopped_child):
        figures_of(worker_of(stopped_child.pid))
        before = os.listdir("/proc/self/fd")
        for each in (worker_of(stopped_child.pid), worker(pid=os.getpid(), start_ticks=1)):
            figures_of(each)
        assert os.listdir("/proc/self/fd") == before


# Growth ---------------------------------------------------------------------------------------------------------------


def sizes(count, size_at):
    """Sizes every ten seconds, as (n, 2) with times first."""
    return np.array([(10.0 * at, size_at(at)) for at in range(count)])


def test_the_growth_is_the_slope_whatever_leaps_there_are():
    leaps = sizes(30, lambda at: 1e8 + 5e5 * at + (3e7 if at == 12 else 0.0))
    assert growth_of(leaps) == pytest.approx(5e4)


@pytest.mark.parametrize("seed", range(20))
def test_what_goes_up_and_down_by_chance_does_not_grow(seed):
    draw = np.random.default_rng(seed)
    assert growth_of(sizes(40, lambda _at: 1e8 + draw.normal(0.0, 5e6))) == 0.0


def test_what_shrinks_or_stays_does_not_grow():
    assert growth_of(sizes(30, lambda _at: 1e8)) == 0.0
    assert growth_of(sizes(30, lambda at: 1e8 - 1e6 * at)) == 0.0


def test_what_grew_once_and_stays_does_not_grow_steadily():
    assert growth_of(sizes(40, lambda at: 2e8 if at > 5 else 1e8)) == 0.0


def test_two_minutes_must_pass_before_growth_can_be_told_and_ten_are_looked_at():
    memory = Memory()
    for second in range(2000):
        memory.note(float(second), 10**8 + 10**5 * second)
        assert (memory.growth is None) == (second < 110)
    assert memory.growth == pytest.approx(1e5)
    assert len(memory._sizes) == 60


def test_a_look_tells_the_state_of_the_process(stopped_child):
    assert look(Resources(), worker_of(stopped_child.pid)).state == "T"
    assert look(Resources(), worker_of(os.getpid())).state == "R"
