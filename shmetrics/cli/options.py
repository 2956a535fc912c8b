"""Flags, each with its environment variable: `--interval` is SHMETRICS_INTERVAL. A flag given beats the variable."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Final

from shmetrics import naming
from shmetrics.evidence import STUCK_AFTER
from shmetrics.layout import Layout
from shmetrics.metrics import HUB_VARIABLE, default_hub

_ON: Final = ("1", "true", "yes", "on", "t", "y")
_OFF: Final = ("0", "false", "no", "off", "f", "n", "")

_LONGEST: Final = 1e9
"""Seconds: thirty years."""
_SHORTEST: Final = 0.01
"""Seconds between two looks, at least."""
STDOUT: Final = "-"
"""What `--output` calls standard output."""


class UsageError(Exception):
    """The command line lacks something that argparse cannot know of."""


def variable(flag: str) -> str:
    """The environment variable of a flag."""
    return "SHMETRICS_" + flag.lstrip("-").replace("-", "_").upper()


def add_seconds(
    parser: argparse.ArgumentParser,
    flag: str,
    default: float | None,
    text: str,
    kind: Callable[[str], float] | None = None,
) -> None:
    """A flag that takes a number of seconds. argparse converts a default that is a string as it would a value given."""
    parser.add_argument(
        flag,
        type=kind or positive,
        default=os.environ.get(variable(flag)) or default,
        metavar="SECONDS",
        help=f"{text} ({'' if default is None else f'default: {default}; '}{variable(flag)})",
    )


def add_interval(parser: argparse.ArgumentParser, text: str) -> None:
    """`--interval`, for verbs that look again and again."""
    add_seconds(parser, "--interval", 1.0, text, interval)


def add_stuck_after(parser: argparse.ArgumentParser) -> None:
    """`--stuck-after`, for whatever tells of findings."""
    add_seconds(parser, "--stuck-after", STUCK_AFTER, "seconds after which a request in flight is a finding")


def add_port(parser: argparse.ArgumentParser, text: str) -> None:
    """`--port` and `--host`, for servers."""
    known = os.environ.get(variable("--port")) or None
    if known is not None and "://" in known:
        known = None  # Kubernetes puts tcp://10.0.0.1:80 there where a Service is called shmetrics
    parser.add_argument(
        "--port", type=_port, default=known, metavar="PORT", help=f"{text}; 0 takes a free one ({variable('--port')})"
    )
    parser.add_argument(
        "--host",
        default=os.environ.get(variable("--host")) or "127.0.0.1",
        metavar="ADDRESS",
        help=f"where to listen (default: 127.0.0.1; {variable('--host')})",
    )


def add_dimensions(parser: argparse.ArgumentParser) -> None:
    """The dimensions of a hub that is made; what is not asked for is as `PerformanceMetrics` has it."""
    for flag, text in (
        ("--window-size", "records of each worker that the window of a new hub holds"),
        ("--max-workers", "workers that a new hub has slots for"),
        ("--max-series", "series of custom metrics that a new hub has room for"),
    ):
        default = getattr(Layout, flag.lstrip("-").replace("-", "_"))
        add_count(parser, flag, None, f"{text}; default: {default}")


def add_count(parser: argparse.ArgumentParser, flag: str, default: int | None, text: str) -> argparse.Action:
    """A flag that takes a whole number above zero."""
    return parser.add_argument(
        flag,
        type=_whole,
        default=os.environ.get(variable(flag)) or default,
        metavar="N",
        help=f"{text} ({'' if default is None else f'default: {default}; '}{variable(flag)})",
    )


def add_counts(parser: argparse.ArgumentParser, flag: str, text: str, most: int) -> None:
    """A flag that takes whole numbers from 0 to `most`, with commas between them; None when it is not given."""

    def counts(given: str) -> tuple[int, ...]:
        parts = [part.strip() for part in given.split(",")]
        if not all(part.isascii() and part.isdigit() and int(part) <= most for part in parts):
            raise argparse.ArgumentTypeError(
                f"a flag or its variable must be whole numbers up to {most} with commas between them, not {given!r}"
            )
        return tuple(sorted({int(part) for part in parts}))

    parser.add_argument(
        flag,
        type=counts,
        default=os.environ.get(variable(flag)) or None,
        metavar="N,N",
        help=f"{text} ({variable(flag)})",
    )


def add_switch(parser: argparse.ArgumentParser, flag: str, text: str) -> argparse.Action:
    """A flag without a value; its variable says yes or no, and what says neither is refused, not guessed."""
    switch = parser.add_argument(
        flag, action="store_true", default=os.environ.get(variable(flag), ""), help=f"{text} ({variable(flag)})"
    )
    switch.type = yes_or_no  # for the default alone, which argparse converts since it is a string
    return switch


def add_choice(parser: argparse.ArgumentParser, flag: str, choices: Sequence[str], default: str, text: str) -> None:
    """A flag that takes one of `choices`."""

    def chosen(value: str) -> str:  # argparse checks its own `choices` for a flag given, and not for a default
        if value not in choices:
            raise argparse.ArgumentTypeError(
                f"a flag or its variable must be one of {', '.join(choices)}, not {value!r}"
            )
        return value

    parser.add_argument(
        flag,
        type=chosen,
        default=os.environ.get(variable(flag)) or default,
        metavar="|".join(choices),
        help=f"{text} (default: {default}; {variable(flag)})",
    )


def add_text(parser: argparse.ArgumentParser, flag: str, text: str, metavar: str = "TEXT") -> argparse.Action:
    """A flag that takes any text; None when it is not given."""
    return parser.add_argument(
        flag, default=os.environ.get(variable(flag)) or None, metavar=metavar, help=f"{text} ({variable(flag)})"
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """`--output`: a file, or standard output."""
    parser.add_argument(
        "-o",
        "--output",
        default=os.environ.get(variable("--output")) or STDOUT,
        metavar="FILE",
        help=f"where to; {STDOUT} (the default) is standard output, and a file appears whole or not at all "
        f"({variable('--output')})",
    )


def add_directory(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    """A flag that takes a directory; none unless it is given."""
    parser.add_argument(
        flag, default=os.environ.get(variable(flag)) or None, metavar="DIR", help=f"{text} ({variable(flag)})"
    )


def add_history(parser: argparse.ArgumentParser, text: str) -> None:
    """`--history`: a file of `shmetrics serve --history`."""
    parser.add_argument(
        "--history",
        default=os.environ.get(variable("--history")) or None,
        metavar="FILE",
        help=f"{text} ({variable('--history')})",
    )


def add_json(parser: argparse.ArgumentParser) -> argparse.Action:
    """`--json`, which every verb that prints takes."""
    return add_switch(parser, "--json", "print JSON, for machines")


def add_hub(parser: argparse.ArgumentParser) -> None:
    """The hub's name, or SHMETRICS_HUB."""
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help=f"the hub (default: {HUB_VARIABLE}, where it is set)",
    )


def hub_given(options: argparse.Namespace) -> str | None:
    """The hub that was named, or that SHMETRICS_HUB names; None when neither does."""
    return default_hub() if options.name is None else str(options.name)


def hub_name(options: argparse.Namespace) -> str:
    """The hub that was named, or that SHMETRICS_HUB names; UsageError when neither does."""
    name = hub_given(options)
    if name is None:
        raise UsageError(f"which hub? Give its name, or set {HUB_VARIABLE}; there are: {naming.known_hubs()}")
    return name


def yes_or_no(text: str) -> bool:
    """What the variable of a switch says."""
    if text.lower() in _ON:
        return True
    if text.lower() in _OFF:
        return False
    raise argparse.ArgumentTypeError(f"its variable must be 1 or 0, yes or no, true or false, on or off, not {text!r}")


def positive(text: str, most: float = _LONGEST) -> float:
    """A number above zero; unless given, no more than the system can sleep."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number <= most:
        raise argparse.ArgumentTypeError(
            f"a flag or its variable must be a number above 0 and at most {most:g}, not {text!r}"
        )
    return number


def interval(text: str) -> float:
    """Seconds between two looks."""
    number = positive(text)
    if number < _SHORTEST:
        raise argparse.ArgumentTypeError(
            f"a flag or its variable must be {_SHORTEST} seconds or more, not {text!r}: to look more often costs a CPU"
        )
    return number


def _whole(text: str) -> int:
    """A whole number above zero; what is too much, the hub says."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"a flag or its variable must be a whole number above 0, not {text!r}")
    return int(text)


def _port(text: str) -> int:
    """A port, or 0."""
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port must be a number from 0 to 65535, not {text!r}")
    return int(text)
