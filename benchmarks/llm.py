"""What a token and a request cost, beside the same figures kept with prometheus_client, in one interleaved run.

    python -m benchmarks.llm [--rounds 15] [--json]

The other side is prometheus_client in multiprocess mode, with the metrics that vLLM has: a histogram and a counter for
each token, and thirteen changes more for a request. A request here has 64 tokens. Ratios of the medians are the
figures; the microseconds are this machine's and this minute's.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.timing import interleaved
from shmetrics.llm import LLMMetrics
from shmetrics.llm_names import VLLM, token_buckets

TOKENS = 64
CASES = ("a token", "a request")


def incumbent() -> dict[str, Callable[[], None]]:
    """A token, and a whole request, with prometheus_client."""
    import prometheus_client  # noqa: PLC0415  reads PROMETHEUS_MULTIPROC_DIR at import

    registry = prometheus_client.CollectorRegistry()
    series = {}
    for figure, name in VLLM.names.items():
        labels = [*VLLM.labels, *([name.label] if name.label else [])]
        values = ["llama", "0", *(["stop"] if name.label else [])]
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

    return dict(zip(CASES, (token, request), strict=True))


def ours(llm: LLMMetrics) -> dict[str, Callable[[], None]]:
    """The same with LLMMetrics."""
    running = llm.request(17)
    running.token()

    def request() -> None:
        with llm.request(17) as one:
            one.started()
            for _ in range(TOKENS + 1):
                one.token()

    return dict(zip(CASES, (running.token, request), strict=True))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=20_000, help="tokens per round and candidate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        with PerformanceMetrics(window_size=1000) as metrics:
            theirs, mine = incumbent(), ours(LLMMetrics(metrics, "llama"))
            timings = {}
            for case, calls in zip(CASES, (options.calls, max(10, options.calls // TOKENS)), strict=True):
                candidates = {f"prometheus_client {case}": theirs[case], f"shmetrics {case}": mine[case]}
                timings.update(interleaved(candidates, calls, options.rounds))
    ratios = {case: timings[f"prometheus_client {case}"].median / timings[f"shmetrics {case}"].median for case in CASES}
    if options.json:
        microseconds = {name: vars(timing) for name, timing in timings.items()}
        print(json.dumps({"python": platform.python_version(), "cpus": os.cpu_count(), "tokens": TOKENS,
                          "microseconds": microseconds, "ratios": ratios}, indent=2))  # fmt: skip
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs; a request has {TOKENS} tokens after its first")
    print(f"{options.rounds} interleaved rounds; medians, us per call")
    print(f"{'':14}{'incumbent':>10}{'shmetrics':>10}{'ratio':>8}")
    for case in CASES:
        print(
            f"{case:14}{timings[f'prometheus_client {case}'].median:10.2f}"
            f"{timings[f'shmetrics {case}'].median:10.2f}{ratios[case]:8.1f}"
        )


if __name__ == "__main__":
    main()
