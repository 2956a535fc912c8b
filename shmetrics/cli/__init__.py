"""The command line: `shmetrics VERB`. One file for each verb; this one only puts them together.

A verb is a module of its name, with ``EXAMPLES``, ``configure(parser)`` and ``run(options) -> exit status``; only the
one that is asked for is imported, since all of them take longer than most do their work in.
Exit status: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any, BinaryIO, Final, TextIO, cast

import shmetrics
from shmetrics.cli.options import UsageError
from shmetrics.errors import ShmetricsError

_VERBS: Final = {
    "demo": "see it work: gunicorn with four workers under load, one of them killed",
    "run": "run a command with a hub, and the aggregator beside it; gunicorn needs no change to be measured",
    "stats": "print the figures of the whole fleet",
    "trends": "say where throughput, latency and errors are going, and what holds the fleet up",
    "profile": "have live workers say where their time goes: collapsed stacks, speedscope, a flame graph, a report",
    "export": "write the whole fleet as JSON, CSV or a page for Prometheus",
    "serve": "run the aggregator: reap dead workers, sample once a second, print a line, serve Prometheus",
    "rules": "check alert rules, test them against series and recordings, export them to Prometheus",
    "bench": "measure what shmetrics costs beside its peers, on this machine",
    "obituaries": "tell of the workers that died: when, how, and over which requests",
    "ls": "list the hubs of this user",
    "rm": "remove hubs that no process uses",
    "doctor": "look shared memory and the hubs over, and say what is wrong and what to do",
    "gc": "remove what serves nobody any more, and say what stays and why",
}
"""Each verb, and what it does."""

_EPILOG: Final = """\
examples:
  shmetrics demo                  see it work: gunicorn, four workers, one of them killed
  shmetrics run -- gunicorn app:app -w 4    measures an unchanged application
  shmetrics ls                    which hubs there are
  shmetrics stats resnet          the fleet's figures, once
  shmetrics stats resnet --watch  and again every second
  shmetrics trends resnet         where it is going, and what holds it up
  shmetrics profile resnet        where the time of its workers goes, without a restart
  shmetrics export resnet         all of it as JSON; or CSV, or what Prometheus reads
  shmetrics serve resnet          the aggregator: reaps dead workers, prints a line a second
  shmetrics serve resnet --port 9464    and serves http://127.0.0.1:9464/metrics to Prometheus
  shmetrics serve resnet --rules rules.toml    and tells somebody when its figures are bad
  shmetrics rules check rules.toml             whether those rules are right
  shmetrics bench write-cost      what a call costs, beside the same work of peers
  shmetrics obituaries resnet     which workers died, how, and over which requests
  shmetrics doctor resnet         what is wrong with it, and what to do
  shmetrics gc                    removes what killed processes left behind

Every flag has an environment variable, SHMETRICS_ and its name: SHMETRICS_JSON=1. NO_COLOR is honoured.
Exit status: 0 done, 1 could not be done, 2 wrong usage, 130 interrupted."""


def build_parser(arguments: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line; given `arguments`, it knows what their verb takes, and no other."""
    parser = argparse.ArgumentParser(
        prog="shmetrics",
        description="Metrics of all worker processes of a server, from one shared-memory hub.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shmetrics {shmetrics.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
    # What stands before the verb takes no value, so the first argument that is no flag is the verb.
    asked = None if arguments is None else next((each for each in arguments if not each.startswith("-")), "")
    for name, text in _VERBS.items():
        sub = verbs.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if asked in (None, name):
            verb = import_module(f"shmetrics.cli.{name}")
            sub.epilog = f"examples:\n{verb.EXAMPLES}"
            verb.configure(sub)
            sub.set_defaults(run=verb.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: PLR0911  one for each way to end
    """Run one command; returns its exit status. The entry point of ``shmetrics`` and ``python -m shmetrics``."""
    _fill_closed_streams()
    output = _Output(sys.stdout)
    try:
        with redirect_stdout(cast(TextIO, output)):
            try:
                arguments = sys.argv[1:] if arguments is None else arguments
                if not arguments:
                    build_parser(arguments).print_help(sys.stderr)
                    return 2
                _check_verb(arguments[0])
                options = build_parser(arguments).parse_args(arguments)
                status: int = options.run(options)
                return status
            finally:
                output.flush()
    except (ShmetricsError, ValueError) as error:
        return _fail(1, str(error))
    except UsageError as error:
        return _fail(2, str(error))
    except KeyboardInterrupt:
        return 130
    except _OutputError as error:
        _discard(sys.stdout)
        if isinstance(error.reason, BrokenPipeError):  # `shmetrics stats | head`: nobody reads on, which is fine
            return 0
        why = error.reason.strerror
        return _fail(1, f"cannot write to standard output: {why}; look at the file or device that it goes to")
    except OSError as error:  # a read-only /dev/shm, no descriptors left
        return _fail(1, str(error))


def _check_verb(verb: str) -> None:
    """UsageError for a word that is none: argparse would list all verbs and leave it to the reader to see which."""
    if verb in _VERBS or verb.startswith("-"):
        return
    near = difflib.get_close_matches(verb, _VERBS, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_VERBS)}; `shmetrics --help` tells of each"
    raise UsageError(f"there is no verb {verb!r}; {hint}")


def _fail(status: int, reason: str) -> int:
    try:
        print(f"shmetrics: {reason}", file=sys.stderr, flush=True)
    except OSError:  # nobody can be told, but the status can be kept
        _discard(sys.stderr)
    return status


# Standard streams -----------------------------------------------------------------------------------------------------


class _OutputError(Exception):
    """Standard output cannot be written, for this reason."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Output:
    """Standard output whose failures are told from all others: a full /dev/shm and a full disk give the same errno."""

    def __init__(self, stream: TextIO | BinaryIO) -> None:
        self._stream: Any = stream

    @property
    def buffer(self) -> "_Output":
        """The same for bytes."""
        return _Output(self._stream.buffer)

    def write(self, content: Any) -> int:
        with _failures_named():
            written: int = self._stream.write(content)
            return written

    def flush(self) -> None:
        with _failures_named():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _OutputError(error) from error


def _fill_closed_streams() -> None:
    """Let /dev/null take the place of a standard stream that was closed: nobody wants what is written there.

    Python has None for such a stream, and print() to a stderr that is None goes to stdout. And the hub, being the next
    file that is opened, would get the number: what a child process writes to its stdout would go into the hub.
    """
    if sys.stdin is not None and sys.stdout is not None and sys.stderr is not None:
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115  it is for ever


def _discard(stream: TextIO) -> None:
    """Send what is in the stream's buffer to nowhere; else Python tries it again at its end, and changes the status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
