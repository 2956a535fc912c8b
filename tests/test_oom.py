"""OOM kills: which counter is read, what two readings are apart, and a real one where the machine lets us."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shmetrics import oom

GROUP = Path("/sys/fs/cgroup/memory")
HUNGRY = "x = []\nwhile True: x.append(bytearray(1 << 20))"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Files in place of the kernel's, none of them there yet."""
    monkeypatch.setattr(oom, "_MOUNTS", (f"{tmp_path}/cgroup", f"{tmp_path}/cgroup/unified"))
    monkeypatch.setattr(oom, "_VMSTAT", f"{tmp_path}/vmstat")
    (tmp_path / "cgroup").mkdir()
    return tmp_path


def set_group(monkeypatch, group):
    monkeypatch.setattr(oom, "_own_group", lambda: group)


def events(files, kills, group=""):
    directory = files / "cgroup" / group
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.events").write_text(f"low 0\nhigh 0\nmax 3\noom 2\noom_kill {kills}\noom_group_kill 9\n")


def value(reading):
    return reading % (1 << 48)


def test_the_own_group_is_read(files, monkeypatch):
    set_group(monkeypatch, "/app/web")
    events(files, 5, "app/web")
    events(files, 99)
    assert value(oom.reading()) == 5


@pytest.mark.parametrize("group", ["/", "/docker/0123"])
def test_in_a_container_the_group_is_what_is_mounted(files, monkeypatch, group):
    """Without a cgroup namespace the path is that of the host, which is not there."""
    set_group(monkeypatch, group)
    events(files, 4)
    assert value(oom.reading()) == 4


def test_without_a_unified_group_the_machine_counts(files, monkeypatch):
    (files / "vmstat").write_text("nr_free_pages 1\noom_kill 7\n")
    set_group(monkeypatch, None)
    assert value(oom.reading()) == 7
    set_group(monkeypatch, "/")
    assert value(oom.reading()) == 7


def test_where_nothing_can_be_read_there_is_no_reading(files, monkeypatch):
    set_group(monkeypatch, "/")
    assert oom.reading() == 0
    (files / "vmstat").write_text("oom_kill many\nnonsense")
    assert oom.reading() == 0


def test_two_readings_of_one_counter_are_so_many_kills_apart(files, monkeypatch):
    set_group(monkeypatch, "/")
    events(files, 3)
    before = oom.reading()
    events(files, 5)
    assert oom.kills_between(before, oom.reading()) == 2
    assert oom.kills_between(oom.reading(), before) == 0
    assert oom.latest(before, oom.reading()) == oom.latest(oom.reading(), before) == oom.reading()


def test_readings_of_two_counters_say_nothing(files, monkeypatch):
    set_group(monkeypatch, "/")
    events(files, 3)
    group = oom.reading()
    set_group(monkeypatch, None)
    (files / "vmstat").write_text("oom_kill 100\n")
    machine = oom.reading()
    assert oom.kills_between(group, machine) == oom.kills_between(0, machine) == 0
    assert oom.latest(group, machine) == machine


@pytest.mark.parametrize(
    ("text", "group"),
    [("0::/app/web\n", "/app/web"), ("4:memory:/x\n0::/\n", "/"), ("4:memory:/x\n", None), ("", None)],
)
def test_the_own_group_is_that_of_the_unified_hierarchy(monkeypatch, text, group):
    monkeypatch.setattr(oom, "_read", lambda _path: (1, text.encode()))
    assert oom._own_group() == group


@pytest.fixture
def small_group():
    """A memory cgroup (version 1) of 64 MiB, where this user may make one."""
    directory = GROUP / f"shmetrics-test-{os.getpid()}"
    try:
        directory.mkdir()
        (directory / "memory.limit_in_bytes").write_text(str(64 * 2**20))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield directory
    directory.rmdir()


def test_a_process_that_the_kernel_kills_for_want_of_memory_is_counted(small_group):
    before = oom.reading()
    command = [sys.executable, "-c", HUNGRY]
    join = f'echo $$ > {small_group}/cgroup.procs && exec "$@"'
    done = subprocess.run(["sh", "-c", join, "sh", *command], capture_output=True, timeout=60)
    assert done.returncode == -9
    assert oom.kills_between(before, oom.reading()) >= 1
