"""Running `shmetrics` as its users do: as a process of its own, with a bound on everything that is waited for."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

PATIENCE = 30.0
_UNWANTED = ("SHMETRICS_", "NO_COLOR", "TERM", "PYTHONUNBUFFERED")


def environment(**more):
    """The environment without what changes how shmetrics or Python writes, and with `more`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_UNWANTED)}
    return kept | {"TERM": "xterm"} | more


def command(*arguments):
    return [sys.executable, "-m", "shmetrics", *arguments]


def run(*arguments, program=command, **more):
    """The finished command, its output as text."""
    return subprocess.run(
        program(*arguments), env=environment(**more), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@contextmanager
def started(*arguments, stdout, **more):
    """The running command; ended when it is still running afterwards."""
    with subprocess.Popen(
        command(*arguments), env=environment(**more), stdout=stdout, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def writing_to(path, *arguments, **more):
    """The running command, its output going to a file."""
    with path.open("w") as file, started(*arguments, stdout=file, **more) as process:
        yield process


def run_into_closed_pipe(*arguments):
    """The status and the complaints of a command that nobody listens to."""
    reading, writing = os.pipe()
    os.close(reading)
    with started(*arguments, stdout=writing) as process:
        os.close(writing)
        complaints = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, complaints


_STRUCK = """
import signal, sys
from shmetrics.cli import main

number, when, *arguments = sys.argv[1:]

class Struck:
    def __del__(self):
        signal.raise_signal(int(number))

class Output:
    when = when

    def write(self, text):
        if self.when in text:
            self.when = "once is enough"
            Struck()  # and gone
        return sys.__stdout__.write(text)

    def __getattr__(self, name):
        return getattr(sys.__stdout__, name)

sys.stdout = Output()
sys.exit(main(arguments))
"""


def struck(number, when):
    """As `command`, of a process that gets a signal in a destructor, where exceptions are lost, as it prints `when`."""
    return lambda *arguments: [sys.executable, "-c", _STRUCK, str(int(number)), when, *arguments]


def run_redirected(redirections, *arguments, **more):
    """The finished command with what a shell makes of `redirections`, such as ">&-"."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *command(*arguments)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def run_on_terminal(*arguments, enough=None, **more):
    """All that a command writes to a terminal; it gets SIGINT when what it wrote is `enough`."""
    master, slave = pty.openpty()
    text, deadline = "", time.monotonic() + PATIENCE
    with started(*arguments, stdout=slave, **more) as process:
        os.close(slave)
        try:
            while select.select([master], [], [], deadline - time.monotonic())[0]:
                text += os.read(master, 65536).decode()
                if enough is not None and enough(text):
                    process.send_signal(signal.SIGINT)
                    enough = None
        except OSError:  # EIO: the other end was closed
            return text
        finally:
            os.close(master)
    raise AssertionError(f"still writing after {PATIENCE} s: {text[-500:]!r}")


def until(condition, patience=PATIENCE, pause=0.005):
    """Poll for a condition that another process brings about; returns the first true value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {patience} s"
        time.sleep(pause)
    return value


def strict_json(text):
    """What JSON text stands for; NaN and Infinity, which are not JSON, fail."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
