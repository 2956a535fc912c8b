"""The supervisor, as `shmetrics run` makes one: signals, orphans and successors, and being process 1."""

import fcntl
import os
import re
import signal
import subprocess
import termios

import psutil
import pytest

from shmetrics.hub import Hub
from shmetrics.supervisor import PASSED_ON
from tests.cli import PATIENCE, command, environment, run, until
from tests.hazards.unshared import why_not
from tests.runs import LISTEN, RECORD, aggregator_of, files_of, heard, hub_of, running, script

# Signals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", PASSED_ON, ids=lambda number: number.name)
def test_a_signal_to_it_reaches_the_command_once(tmp_path, number):
    with running(tmp_path, "--", *script(LISTEN, number.name, "SIGTERM")) as process:
        until((tmp_path / "ready").exists)
        process.send_signal(number)
        until(lambda: heard(tmp_path))
        if number != signal.SIGTERM:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5
    assert heard(tmp_path) == ([number.name, "SIGTERM"] if number != signal.SIGTERM else ["SIGTERM"])


def test_what_a_terminal_sends_reaches_the_command_once_and_not_the_aggregator(tmp_path):
    """Both are in its foreground process group. The number is written by the terminal itself, at Ctrl-C."""
    master, slave = os.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    names = ("SIGINT", "SIGQUIT", "SIGTERM")
    options = {"start_new_session": False, "preexec_fn": take_terminal, "stdin": slave}
    with running(tmp_path, "--", *script(LISTEN, *names), **options) as process:
        until((tmp_path / "ready").exists)
        aggregator = aggregator_of(process)
        for character, name in (b"\x03", "SIGINT"), (b"\x1c", "SIGQUIT"):
            os.write(master, character)
            until(lambda name=name: name in heard(tmp_path))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5
        assert not aggregator.is_running()
    os.close(master)
    os.close(slave)
    assert heard(tmp_path) == list(names)


def test_a_signal_that_was_ignored_from_the_first_is_not_passed_on(tmp_path):
    """As under nohup(1)."""
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with running(tmp_path, "--", *script(LISTEN, "SIGHUP", "SIGUSR1", "SIGTERM"), **ignoring) as process:
        until((tmp_path / "ready").exists)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        until(lambda: heard(tmp_path))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5
    assert heard(tmp_path) == ["SIGUSR1", "SIGTERM"]


def test_children_that_whoever_started_it_did_not_want_to_know_of_are_waited_for():
    """With SIGCHLD ignored the kernel would keep no status."""
    done = subprocess.run(
        command("run", "--", *script("raise SystemExit(7)")), env=environment(), timeout=PATIENCE,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )  # fmt: skip
    assert done.returncode == 7


# Orphans and successors -----------------------------------------------------------------------------------------------


def test_orphans_are_adopted_and_reaped(tmp_path):
    code = """
        import os, pathlib, subprocess, time
        subprocess.Popen(["sh", "-c", "sleep 0.2 & echo $! > orphan"]).wait()
        time.sleep(60)
    """
    with running(tmp_path, "--", *script(code)) as process:
        until(lambda: (tmp_path / "orphan").exists() and (tmp_path / "orphan").read_text().strip())
        orphan = int((tmp_path / "orphan").read_text())
        until(lambda: not os.path.exists(f"/proc/{orphan}"))
        assert process.poll() is None


def test_it_stays_with_a_successor_that_the_command_leaves(tmp_path):
    """As gunicorn's arbiter leaves one (USR2): it records in the hub, gets the signals, and its status is the last."""
    successor = RECORD + LISTEN
    code = f"""
        import os, pathlib, subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", {successor!r}, "SIGUSR1", "SIGTERM"])
        while not pathlib.Path("ready").exists():
            time.sleep(0.01)
    """
    with running(tmp_path, "--", *script(code)) as process:
        told = process.stderr.readline()
        assert told.startswith("shmetrics: the command has ended, and what it started goes on: process ")
        with Hub.attach(hub_of(process)) as hub:
            assert hub.statistics()["active_workers"] == 1
        process.send_signal(signal.SIGUSR1)
        until(lambda: heard(tmp_path) == ["SIGUSR1"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5


def test_it_does_not_wait_for_a_stray_process_that_records_nothing(tmp_path):
    with running(tmp_path, "--", "sh", "-c", "sleep 60 & exit 0") as process:
        assert process.wait(PATIENCE) == 0


def test_it_does_not_wait_for_workers_of_a_command_that_was_killed(tmp_path, hub_name):
    """Whoever supervises us is to know at once."""
    worker = RECORD + "import pathlib, time; pathlib.Path('ready').touch(); time.sleep(60)"
    code = f"""
        import os, pathlib, signal, subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", {worker!r}])
        while not pathlib.Path("ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with running(tmp_path, "--name", hub_name, "--", *script(code)) as process:
        assert process.wait(PATIENCE) == 137
        with Hub.attach(hub_name) as hub:
            assert hub.statistics()["active_workers"] == 1


@pytest.mark.parametrize("options", [["--pid", "--fork"], ["--pid", "--fork", "--mount-proc"]])
def test_it_serves_as_process_1_of_a_container(tmp_path, options):
    """Where signals without a handler do nothing, and every orphan is process 1's."""
    if reason := why_not(*options):
        pytest.skip(reason)
    code = (
        "import os, subprocess\nsubprocess.Popen(['sh', '-c', 'sleep 0.1 &']).wait()\nprint(os.getppid(), flush=True)"
    )
    shell = ["unshare", *options, *command("run", "--", *script(code + LISTEN, "SIGTERM"))]
    with subprocess.Popen(
        shell, env=environment(), cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == "1\n"
        until((tmp_path / "ready").exists)
        (inner,) = psutil.Process(process.pid).children()
        inner.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 5


def test_process_1_of_a_container_that_is_started_again_removes_what_its_predecessor_left():
    if reason := why_not("--pid", "--fork"):
        pytest.skip(reason)
    shell = ["unshare", "--pid", "--fork", *command("run", "--keep", "--", *script(RECORD))]
    names = []
    for _ in range(2):
        done = subprocess.run(shell, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
        names += re.findall(r"hub '(run-.+-1-[0-9a-f]+)' is kept", done.stderr)
    assert len(names) == 2
    try:
        assert (files_of(names[0]), len(files_of(names[1])) > 0) == ([], True)
    finally:
        run("rm", "--force", names[1])
