"""Running `shmetrics run`, and what there is of it: its hub, its aggregator, and what its command heard."""

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress

import psutil

from shmetrics import naming
from shmetrics.hub import Hub
from shmetrics.supervisor import PASSED_ON
from tests.cli import PATIENCE, command, environment, until

RECORD = """
from shmetrics import PerformanceMetrics
metrics = PerformanceMetrics()
metrics.update_inference(0.01)
"""
"""What an application does that says nothing of hubs."""

LISTEN = """
import os, pathlib, signal, sys, time

def heard(number, frame):
    with open("heard", "a") as file:
        file.write(signal.Signals(number).name + chr(10))
    if number == signal.SIGTERM:
        sys.exit(5)

for name in sys.argv[1:]:
    signal.signal(signal.Signals[name], heard)
pathlib.Path("ready").touch()
while True:
    time.sleep(60)
"""
"""Writes down the signals that it gets, and ends with status 5 at SIGTERM."""


def script(code, *arguments):
    return [sys.executable, "-c", textwrap.dedent(code), *arguments]


@contextmanager
def running(directory, *arguments, **more):
    """`shmetrics run` in a session of its own, with this working directory; all of it is ended afterwards.

    It ignores no signal unless `preexec_fn` has it so, whatever the tests run under, nohup say.
    """
    prepare = more.pop("preexec_fn", lambda: None)

    def preexec():
        for number in PASSED_ON:
            signal.signal(number, signal.SIG_DFL)
        prepare()

    options = {"cwd": directory, "start_new_session": True, "stderr": subprocess.PIPE, "text": True, **more}
    options["preexec_fn"] = preexec
    process = subprocess.Popen(command("run", *arguments), env=options.pop("env", environment()), **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def hub_of(process):
    """The name of the hub of a `run`, when there is one."""
    return until(lambda: next((name for name in naming.hub_names() if naming.owner_of(name) == process.pid), None))


def files_of(name):
    return [file for file in os.listdir(naming.SHM_DIR) if naming.segment_file(name) in file]


def aggregator_of(process, name=None):
    """The aggregator of a `run`, when it leads. ``name``: of its hub, where it was given one."""
    name = name or hub_of(process)

    def leading():
        with Hub.attach(name) as hub:
            return hub.has_aggregator

    until(leading)
    (found,) = [child for child in psutil.Process(process.pid).children() if "serve" in child.cmdline()]
    return found


def heard(directory):
    return (directory / "heard").read_text().split() if (directory / "heard").exists() else []
