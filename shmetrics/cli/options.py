"""Flags, each with its environment variable: `--interval` is SHMETRICS_INTERVAL. A flag given beats the variable."""

import argparse
import os

from shmetrics.metrics import HUB_VARIABLE


def variable(flag: str) -> str:
    """The environment variable of a flag."""
    return "SHMETRICS_" + flag.lstrip("-").replace("-", "_").upper()


def add_seconds(parser: argparse.ArgumentParser, flag: str, default: float | None, text: str) -> None:
    """A flag that takes a number of seconds. argparse converts a default that is a string as it would a value given."""
    parser.add_argument(
        flag,
        type=positive,
        default=os.environ.get(variable(flag)) or default,
        metavar="SECONDS",
        help=f"{text} (default: {default}; {variable(flag)})",
    )


def add_switch(parser: argparse.ArgumentParser, flag: str, text: str) -> None:
    """A flag without a value; its variable is on unless empty, 0, no, false or off."""
    setting = os.environ.get(variable(flag), "").lower()
    parser.add_argument(
        flag,
        action="store_true",
        default=setting not in ("", "0", "no", "false", "off"),
        help=f"{text} ({variable(flag)})",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`, which every verb that prints takes."""
    add_switch(parser, "--json", "print JSON, for machines")


def add_hub(parser: argparse.ArgumentParser) -> None:
    """The hub's name, or SHMETRICS_HUB."""
    default = os.environ.get(HUB_VARIABLE) or None
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?" if default else None,
        default=default,
        help=f"the hub (default: {HUB_VARIABLE}, where it is set)",
    )


def positive(text: str) -> float:
    """A number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a flag or its variable must be a number above 0, not {text!r}")
    return number
