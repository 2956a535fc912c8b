"""A program of the operator's: run for each alert, which it gets as JSON on its standard input.

For those who do not read JSON the environment says it too: SHMETRICS_ALERT_TYPE, _SEVERITY, _STATE, _MESSAGE, _HUB,
_VALUE, _THRESHOLD and _FINGERPRINT.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from shmetrics.alerting.outbox import Announcement, Backoff

TIMEOUT: Final = 30.0
"""Seconds a program may take; then it is killed, with all that it started."""
_VARIABLES: Final = {"type": "TYPE", "severity": "SEVERITY", "state": "STATE", "message": "MESSAGE", "hub": "HUB",
                     "current_value": "VALUE", "threshold": "THRESHOLD", "fingerprint": "FINGERPRINT"}  # fmt: skip
_MOST_OF_OUTPUT: Final = 200


class Command:
    """Runs a program. ``arguments``: its path and arguments; no shell sees them. A status other than 0 is a failure."""

    def __init__(self, arguments: Sequence[str], *, timeout: float = TIMEOUT) -> None:
        if not arguments or not all(isinstance(argument, str) and argument for argument in arguments):
            raise ValueError(f'a command is a list such as ["/usr/local/bin/page", "--team", "ml"], not {arguments!r}')
        self._arguments = list(arguments)
        self._timeout = timeout
        self.backoff = Backoff()

    def __call__(self, alert: Announcement) -> None:
        """Run it. OSError when it cannot be run, fails, or takes too long."""
        told = {f"SHMETRICS_ALERT_{name}": _variable(alert[key]) for key, name in _VARIABLES.items()}
        # A file rather than a pipe, whose end is not reached while something is left running in the background.
        with (
            tempfile.TemporaryFile() as complaints,
            subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env={**os.environ, **told},
                start_new_session=True,
            ) as process,
        ):
            try:
                process.communicate(json.dumps(dict(alert)).encode(), self._timeout)
            except subprocess.TimeoutExpired:
                raise OSError(f"{self._arguments[0]} took longer than {self._timeout:g} s and was killed") from None
            finally:
                if process.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # our own child's session, which it leads
            if process.returncode != 0:
                complaints.seek(0)
                text = complaints.read(_MOST_OF_OUTPUT).decode("utf-8", "replace").strip()
                raise OSError(
                    f"{self._arguments[0]} ended with status {process.returncode}" + (f": {text}" if text else "")
                )


def _variable(value: object) -> str:
    """A value as a variable of the environment can hold it."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode().replace("\0", "")
