"""What a stage and a request outside of servers cost, beside one `update_inference`.

Stages are entered within a request that is being measured, as an application does; requests outside of any.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.figures import Figure
from shmetrics.benchmarks.peers import MEASUREMENT
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import timed
from shmetrics.benchmarks.tables import beside

SUMMARY: Final = "what a stage and a request outside of servers cost, beside one update_inference"
BASE: Final = "update_inference"
WITHIN: Final = "within a request that is being measured"
OUTSIDE: Final = "outside of any request"


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[PerformanceMetrics]:
    """A hub with a declared stage."""
    with PerformanceMetrics(window_size=1000) as metrics:
        metrics.add_stages("tokenization")
        yield metrics


def run(metrics: PerformanceMetrics, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Time stages, and requests."""
    how: dict[str, Any] = {
        "rounds": options.rounds or (5 if options.quick else 25),
        "seconds": 0.005 if options.quick else 0.02,
        "seed": options.seed,
    }
    base: dict[str, Work] = {BASE: Call(f"update{MEASUREMENT}", update=metrics.update_inference)}
    with metrics.request():
        within = timed({**base, **_stages(metrics)}, progress=part(progress, 0, 2), **how)
    outside = timed({**base, **_requests(metrics)}, progress=part(progress, 1, 2), **how)
    return {WITHIN: within, OUTSIDE: outside}


def _stages(metrics: PerformanceMetrics) -> dict[str, Work]:
    @metrics.stage("preprocessing")
    def decorated() -> None:
        pass

    stage: Any = {"stage": metrics.stage}
    return {
        "with metrics.stage(...)": Call("with stage('preprocessing'):\n    pass", **stage),
        "with a stage that is kept": Call("with kept:\n    pass", kept=metrics.stage("preprocessing")),
        "a stage within a stage": Call("with stage('inference'), stage('preprocessing'):\n    pass", **stage),
        "a declared stage, with its histogram": Call("with stage('tokenization'):\n    pass", **stage),
        "@metrics.stage(...)": Call("decorated()", decorated=decorated),
    }


def _requests(metrics: PerformanceMetrics) -> dict[str, Work]:
    @metrics.measure
    def measured() -> None:
        pass

    return {
        "with metrics.request(...)": Call("with request(batch_size=8):\n    pass", request=metrics.request),
        "@metrics.measure": Call("measured()", measured=measured),
    }


def report(results: dict[str, Any]) -> list[Figure]:
    """A table of each."""
    return [beside(title, results[title], BASE) for title in (WITHIN, OUTSIDE)]
