"""What is measured: a module for each scenario, found by listing this folder, and called by its name with dashes.

A scenario is a module that has

- ``SUMMARY``, a line; its docstring tells more;
- ``configure(parser)``, which adds its own flags (all scenarios have ``--quick``, ``--rounds`` and ``--seed``);
- ``setup(options)``, a context manager: what must exist for it, and must be gone afterwards, whatever happens;
- ``run(state, options, progress)``, which measures, and returns JSON;
- ``report(results)``, which makes figures of that, and measures nothing.
"""

import argparse
import pkgutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol, cast

from shmetrics.benchmarks.figures import Figure
from shmetrics.benchmarks.progress import Progress


class Scenario(Protocol):
    """What a module of this package is."""

    SUMMARY: str
    __doc__: str | None

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add flags."""

    def setup(self, options: argparse.Namespace) -> AbstractContextManager[Any]:
        """Have what is needed."""

    def run(self, state: Any, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
        """Measure."""

    def report(self, results: dict[str, Any]) -> Sequence[Figure]:
        """Say what it comes to."""


def names() -> list[str]:
    """All scenarios, as they are called on the command line."""
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)]


def load(name: str) -> Scenario:
    """One of `names`."""
    return cast(Scenario, import_module(f"{__name__}.{name.replace('-', '_')}"))
