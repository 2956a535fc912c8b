"""The command line: `shmetrics VERB`. One file for each verb; this one only puts them together.

A verb is a module with ``HELP`` (one line), ``EXAMPLES``, ``configure(parser)`` and ``run(options) -> exit status``.
Exit status: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import shmetrics
from shmetrics.cli import demo, doctor, export, gc, ls, rm, serve, stats
from shmetrics.cli.options import UsageError
from shmetrics.errors import ShmetricsError

_VERBS: Final = {
    "demo": demo,
    "stats": stats,
    "export": export,
    "serve": serve,
    "ls": ls,
    "rm": rm,
    "doctor": doctor,
    "gc": gc,
}

_EPILOG: Final = """\
examples:
  shmetrics demo                  see it work: gunicorn, four workers, one of them killed
  shmetrics ls                    which hubs there are
  shmetrics stats resnet          the fleet's figures, once
  shmetrics stats resnet --watch  and again every second
  shmetrics export resnet         all of it as JSON; or CSV, or what Prometheus reads
  shmetrics serve resnet          the aggregator: reaps dead workers, prints a line a second
  shmetrics serve resnet --port 9464    and serves http://127.0.0.1:9464/metrics to Prometheus
  shmetrics doctor resnet         what is wrong with it, and what to do
  shmetrics gc                    removes what killed processes left behind

Every flag has an environment variable, SHMETRICS_ and its name: SHMETRICS_JSON=1. NO_COLOR is honoured.
Exit status: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="shmetrics",
        description="Metrics of all worker processes of a server, from one shared-memory hub.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shmetrics {shmetrics.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
    for name, verb in _VERBS.items():
        sub = verbs.add_parser(
            name,
            help=verb.HELP,
            description=verb.HELP[0].upper() + verb.HELP[1:] + ".",
            epilog=f"examples:\n{verb.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.configure(sub)
        sub.set_defaults(run=verb.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. The entry point of ``shmetrics`` and ``python -m shmetrics``."""
    if sys.stdout is None:  # closed by the caller: `shmetrics ls >&-`
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  for as long as the process lives
    try:
        try:
            options = build_parser().parse_args(arguments)
            status: int = options.run(options)
            return status
        finally:
            sys.stdout.flush()
    except (ShmetricsError, ValueError) as error:
        print(f"shmetrics: {error}", file=sys.stderr)
        return 1
    except UsageError as error:
        print(f"shmetrics: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `shmetrics stats | head`: nobody reads on, which is fine
        _print_nowhere()
        return 0
    except OSError as error:  # a full disk behind stdout, a read-only /dev/shm, no descriptors left
        print(f"shmetrics: {error}", file=sys.stderr)
        _print_nowhere()
        return 1


def _print_nowhere() -> None:
    """Spare the interpreter a second attempt at what could not be printed, when it ends."""
    with suppress(OSError):  # no descriptors left: then it was not the output that failed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
