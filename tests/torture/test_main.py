"""`python -m tests.torture`: what it prints, and its status."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from shmetrics import naming
from tests.torture.progress import Progress
from tests.torture.report import BROKEN, Report


def _torture(*options):
    command = [sys.executable, "-m", "tests.torture", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_run_prints_every_figure_and_a_verdict():
    done = _torture("--seconds", "2", "--workers", "2", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("seed 7, ")
    for kind in BROKEN:
        assert kind.replace("_", " ") in done.stdout
    assert done.stdout.splitlines()[-1] == "verdict: every promise held"


@pytest.mark.parametrize("options", [("--seconds", "0"), ("--seconds", "nan"), ("--workers", "0")], ids=" ".join)
def test_a_run_that_would_check_nothing_is_refused(options):
    done = _torture("--seconds", "1", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"argument {options[0]}: " in done.stderr


def test_a_mutant_ends_the_run_with_status_1_and_json_says_why():
    done = _torture("--seconds", "60", "--workers", "2", "--mutant", "one row too many", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["torn"]
    assert not report["good"]
    assert report["broken_after"] < 60.0


@pytest.mark.parametrize("what", ["--seconds=60", "--mutants"])
def test_ended_by_a_signal_it_leaves_nothing_behind(what):
    process = subprocess.Popen([sys.executable, "-m", "tests.torture", what], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60.0
    while not any(
        f"sem.shmetrics.{os.geteuid()}.torture-{process.pid}." in file for file in os.listdir(naming.SHM_DIR)
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60.0) == 130
    assert not [file for file in os.listdir(naming.SHM_DIR) if f"torture-{process.pid}" in file]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_progress_bar_is_for_terminals():
    file, terminal = io.StringIO(), _Terminal()
    for stream in (file, terminal):
        Progress(stream)(0.5, Report(seed=1, deaths=1234))
    assert file.getvalue() == ""
    assert "50 %" in terminal.getvalue()
    assert "1,234 deaths" in terminal.getvalue()
