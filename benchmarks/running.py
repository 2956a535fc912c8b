"""One scenario from its setup to its figures, on a machine that is watched meanwhile."""

import argparse
from collections.abc import Callable
from typing import Any

from shmetrics.benchmarks import scenarios
from shmetrics.benchmarks.figures import Chapter
from shmetrics.benchmarks.machine import Watch
from shmetrics.benchmarks.progress import Bar


def run(name: str, options: argparse.Namespace, check: Callable[[], None] = lambda: None) -> Chapter:
    """Measure, and report. What the scenario needed is gone afterwards, also when it was interrupted.

    ``check``: called at every step; what it raises interrupts.
    """
    scenario = scenarios.load(name)
    watch = Watch()
    results: dict[str, Any]
    with Bar(name, check) as progress, scenario.setup(options) as state:
        results = scenario.run(state, options, progress)
    return Chapter(name, scenario.SUMMARY, tuple(scenario.report(results)), watch.conditions(), results)
