"""Commands that a scenario runs."""

import subprocess
import sys

import psutil
import pytest

from shmetrics.benchmarks.commands import finished


def test_what_a_command_wrote_is_told():
    assert finished(["sh", "-c", "echo out; echo err >&2"]) == ("out\n", "err\n")


def test_a_command_that_fails_says_why(capsys):
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        finished(["sh", "-c", "echo no >&2; exit 3"])
    assert capsys.readouterr().err == "no\n"


def test_all_processes_of_a_command_end_with_what_interrupts_us():
    parent = f"""
import os, signal, threading
from shmetrics.benchmarks.commands import finished
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
finished(["sh", "-c", "{sys.executable} -c 'import time; time.sleep(1234.5)'; true"])
"""
    done = subprocess.run([sys.executable, "-c", parent], check=False, stderr=subprocess.DEVNULL)
    assert done.returncode != 0
    assert not [each for each in psutil.process_iter(["cmdline"]) if "time.sleep(1234.5)" in str(each.info["cmdline"])]
