"""`shmetrics run`: run a command with a hub, and the aggregator beside it."""

import argparse
import json
import os
import signal
import sys
import time
from functools import partial
from typing import Final

from shmetrics import endings, hub, inventory, naming, segment
from shmetrics.attachment import PROFILING_VARIABLE
from shmetrics.cli import serve
from shmetrics.cli.options import UsageError, add_dimensions, add_json, add_switch, variable
from shmetrics.cli.telling import STDERR, TWO_LINES, tell
from shmetrics.errors import ShmetricsError
from shmetrics.hub import View
from shmetrics.layout import Layout
from shmetrics.metrics import HUB_VARIABLE, default_hub
from shmetrics.supervisor import Supervisor, start_over_with_signals_blocked
from shmetrics.texts import counted
from shmetrics.workers.gunicorn.command import measured

EXAMPLES: Final = """\
  shmetrics run -- gunicorn app:app -w 4                      measures an application that knows nothing of it
  shmetrics run --port 9464 -- gunicorn app:app -w 4          and serves it to Prometheus
  shmetrics run --name resnet -- uvicorn app:app --workers 4  a named hub stays, totals and all
  shmetrics run --profiling -- gunicorn app:app -w 4          lets `shmetrics profile` look into its workers
  shmetrics run -- python train.py                            what it records goes into the hub in SHMETRICS_HUB
Ends with the command's exit status, 128 and the number of the signal that killed it, 127 when there is no such command,
126 when it cannot be executed, and 125 when the hub cannot be made. Signals are passed on to the command."""

_CANNOT: Final = 125  # these three as env(1), nohup(1) and timeout(1) have them
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127
_ORDERLY: Final = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)
"""How commands end of which nobody would say that they failed."""
_DYING: Final = 0.3
"""Seconds for which what a command began may outlive it without anybody being told."""
_DIMENSIONS: Final = ("window_size", "max_workers", "max_series")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "--name",
        default=os.environ.get(variable("--name")) or None,
        metavar="NAME",
        help=f"the hub, which is made if there is none, and stays (default: {HUB_VARIABLE} where it is set, else one "
        f"that goes with the command; {variable('--name')})",
    )
    add_switch(parser, "--keep", "let a hub without a name stay as well, until `shmetrics gc`")
    add_switch(parser, "--profiling", "let `shmetrics profile` look into the workers while they run")
    add_json(parser)
    add_dimensions(parser)
    serve.configure_aggregator(parser)
    parser.add_argument("command", metavar="CMD", nargs=argparse.REMAINDER, help="the command and its arguments")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns its exit status."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise UsageError("run what? Give a command: shmetrics run -- gunicorn app:app -w 4")
    start_over_with_signals_blocked()
    try:
        run = _Run(options, command)
    except (ShmetricsError, ValueError, OSError) as error:
        tell(STDERR, f"shmetrics: {error}")
        return _CANNOT
    return run.to_its_end()


class _Run:
    """One command, and its hub."""

    def __init__(self, options: argparse.Namespace, command: list[str]) -> None:
        self._options = options
        self._command = command
        given = options.name or default_hub()
        self._stays = given is not None or options.keep
        if given is None:
            inventory.remove_predecessors()
        asked = {key: getattr(options, key) for key in _DIMENSIONS if getattr(options, key) is not None}
        self._hub = segment.create_or_attach(given or naming.run_name(command[0]), Layout(**asked), any_dimensions=True)
        found = self._hub.layout
        if any(getattr(found, key) != value for key, value in asked.items()):
            self._say(f"hub {self._hub.name!r} exists with {found}, which stands; remove it to change that")
        self._seen_before = self._seen()

    def to_its_end(self) -> int:
        """Start everything, wait, and leave nothing but a hub that is to stay."""
        supervisor = Supervisor(self._say, self._lives_on, partial(endings.report_end, self._hub))
        try:
            self._command, environment = measured(self._command, os.environ)
            os.environ.update(environment, **{HUB_VARIABLE: self._hub.name})
            if self._options.profiling:
                os.environ[PROFILING_VARIABLE] = "1"
            try:
                supervisor.start(self._command)
            except OSError as error:
                return self._not_started(error)
            supervisor.accompany(self._aggregator())
            status = supervisor.wait()
            supervisor.stop_companion()
            if status in _ORDERLY:
                self._look_back()
            else:
                self._leave_it_to_whoever_goes_on(status)
            return status
        finally:
            self._close()

    def _aggregator(self) -> list[str]:
        options = ["--quiet", *(["--json"] if self._options.json else [])]
        options += serve.arguments_of_aggregator(self._options)
        return [sys.executable, "-m", "shmetrics", "serve", *options, self._hub.name]

    def _seen(self) -> int:
        """Workers that there ever were."""
        return View(self._hub).snapshot().workers_seen

    def _lives_on(self) -> bool:
        return hub.live_workers(self._hub) > 0

    def _not_started(self, error: OSError) -> int:
        program = self._command[0]
        if isinstance(error, FileNotFoundError):
            self._say(f"cannot run {program!r}: there is no such command, or not the interpreter that it names")
            return _NOT_FOUND
        self._say(f"cannot run {program!r}: {error.strerror}")
        return _NOT_EXECUTABLE

    def _look_back(self) -> None:
        """Say what is not as it was meant to be, or is left."""
        name = self._hub.name
        if self._seen() == self._seen_before:
            self._say(f"nothing was recorded in hub {name!r}; {TWO_LINES}")
        if naming.owner_of(name) is not None and self._stays:
            self._say(f"hub {name!r} is kept: `shmetrics stats {name}` shows it, `shmetrics gc` removes it")

    def _leave_it_to_whoever_goes_on(self, status: int) -> None:
        """Let the hub stay where a server that was killed has left workers: they may serve for long yet."""
        deadline = time.monotonic() + _DYING
        while self._lives_on() and time.monotonic() < deadline:
            time.sleep(_DYING / 20)
        left = [str(worker.pid) for worker in View(self._hub).snapshot().workers if worker.alive]
        if left:
            name = self._hub.name
            until = "" if self._stays else f"; hub {name!r} stays for them, until `shmetrics gc` after their end"
            self._stays = True
            self._say(
                f"the command has ended with status {status}, and left {counted(len(left), 'worker')}: process "
                f"{', '.join(left)}; `shmetrics stats {name}` shows what becomes of them{until}"
            )

    def _close(self) -> None:
        self._hub.close()
        if self._stays:
            return
        try:
            hub.remove(self._hub.name, force=True)  # somebody killed a moment ago may still hold a slot
        except (ShmetricsError, OSError) as error:
            self._say(f"hub {self._hub.name!r} stays (`shmetrics gc` removes it): {error}")

    def _say(self, text: str) -> None:
        event = {"event": "run", "hub": self._hub.name, "text": text}
        tell(STDERR, json.dumps(event) if self._options.json else f"shmetrics: {text}")
