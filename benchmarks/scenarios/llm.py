"""What a token and a request of a language model cost, beside the same figures kept with prometheus_client.

The other side is prometheus_client in multiprocess mode, with the metrics that vLLM has: a histogram and a counter for
each token, and thirteen changes more for a request. A request here has 64 tokens after its first.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.calls import Call, Work
from shmetrics.benchmarks.figures import Figure
from shmetrics.benchmarks.peers import OURS, directory
from shmetrics.benchmarks.peers.prometheus import MULTIPROCESS, kept_as, multiprocess
from shmetrics.benchmarks.progress import Progress, part
from shmetrics.benchmarks.rounds import timed
from shmetrics.benchmarks.tables import beside
from shmetrics.llm import LLMMetrics
from shmetrics.llm_names import VLLM, token_buckets

SUMMARY: Final = "what a token and a request of a language model cost, beside the same with prometheus_client"
TOKENS: Final = 64
TOKEN, REQUEST = "a token", f"a request of {TOKENS + 1} tokens"
State = dict[str, dict[str, Work]]


def configure(_parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


@contextmanager
def setup(_options: argparse.Namespace) -> Iterator[State]:
    """Both sides."""
    with directory() as files, multiprocess(files), PerformanceMetrics(window_size=1000) as metrics:
        yield {OURS: _ours(LLMMetrics(metrics, "llama")), MULTIPROCESS: _incumbent()}


def run(state: State, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Time a token of each, and a request of each."""
    how: dict[str, Any] = {
        "rounds": options.rounds or (5 if options.quick else 25),
        "seconds": 0.005 if options.quick else 0.02,
        "seed": options.seed,
    }
    return {
        case: timed({side: works[case] for side, works in state.items()}, progress=part(progress, at, 2), **how)
        for at, case in enumerate((TOKEN, REQUEST))
    }


def report(results: dict[str, Any]) -> list[Figure]:
    """A table of each."""
    return [beside(case, results[case], OURS) for case in (TOKEN, REQUEST)]


def _ours(llm: LLMMetrics) -> dict[str, Work]:
    running = llm.request(17)
    running.token()

    def request() -> None:
        with llm.request(17) as one:
            one.started()
            for _ in range(TOKENS + 1):
                one.token()

    return {TOKEN: Call("token()", token=running.token), REQUEST: Call("request()", request=request)}


def _incumbent() -> dict[str, Work]:
    with kept_as(MULTIPROCESS):
        series = _series()
    last = time.perf_counter()

    def token() -> None:
        nonlocal last
        now = time.perf_counter()
        series["inter_token"].observe(now - last)
        series["generation_tokens"].inc(1)
        last = now

    def request() -> None:
        series["waiting"].inc()
        series["waiting"].dec()
        series["running"].inc()
        series["first_token"].observe(0.1)
        series["prompt_tokens"].inc(17)
        for _ in range(TOKENS):
            token()
        series["running"].dec()
        series["finished"].inc()
        for figure in ("e2e", "queue", "inference", "prefill", "decode", "per_token"):
            series[figure].observe(0.5)
        for figure in ("prompt_size", "generation_size", "longest_sequence"):
            series[figure].observe(TOKENS)

    return {TOKEN: Call("token()", token=token), REQUEST: Call("request()", request=request)}


def _series() -> dict[str, Any]:
    """The metrics of vLLM, by our names of them."""
    import prometheus_client  # noqa: PLC0415  others do without

    registry = prometheus_client.CollectorRegistry()
    series: dict[str, Any] = {}
    for figure, name in VLLM.names.items():
        labels = [*VLLM.labels, *([name.label] if name.label else [])]
        values = ["llama", "0", *(["stop"] if name.label else [])]
        metric: Any
        if name.kind == "histogram":
            buckets = name.buckets or token_buckets(131_072)
            metric = prometheus_client.Histogram(name.name, name.help, labels, buckets=buckets, registry=registry)
        elif name.kind == "gauge":
            metric = prometheus_client.Gauge(
                name.name, name.help, labels, registry=registry, multiprocess_mode="livesum"
            )
        else:
            metric = prometheus_client.Counter(name.name.removesuffix("_total"), name.help, labels, registry=registry)
        series[figure] = metric.labels(*values)
    return series
