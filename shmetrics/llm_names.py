"""What the figures of a language model server are called: two vocabularies that dashboards know. Pure data.

``vllm``: names, labels and buckets of vLLM's V1 engine, as its main branch had them on 2026-11-25 (vllm-project/vllm:
``vllm/v1/metrics/loggers.py``, ``vllm/v1/metrics/buckets.py`` at 139b1c3f; ``vllm/v1/engine/__init__.py`` for the
reasons). Its per-token histogram was ``vllm:time_per_output_token_seconds`` before version 0.11; that name is not here.

``otel``: the OpenTelemetry semantic conventions for generative AI, model server metrics and
``gen_ai.client.token.usage``, with their recommended buckets; status: development (open-telemetry/semantic-conventions
at 01d94504, ``docs/gen-ai/gen-ai-metrics.md``, read on 2026-11-25; the same text is now also in
open-telemetry/semantic-conventions-genai). Spelled as OpenTelemetry's "Prometheus and OpenMetrics Compatibility" says:
dots become underscores, the unit ``s`` the suffix ``_seconds``, and ``{token}`` none. Figures for which the conventions
have no name are called ``llm_...``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FINISH_REASONS: Final = ("stop", "length", "abort", "error", "repetition")
"""Why a request ends, as vLLM has it: a stop token or text, max_tokens, the client, a failure, a loop of tokens."""

UNSUCCESSFUL: Final = ("abort", "error")

OTHER: Final = "other"
"""What every other reason is called: a label must not take any text."""

_LATENCY: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_OTEL_FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
_FIRST_TOKEN: Final = (*_OTEL_FIRST_TOKEN, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)
_OTEL_PER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_PER_TOKEN: Final = (*_OTEL_PER_TOKEN, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_OTEL_DURATION: Final = tuple(0.01 * 2**power for power in range(14))  # 10 ms to 81.92 s
_OTEL_TOKENS: Final = tuple(4.0**power for power in range(14))  # 1 to 67,108,864


@dataclass(frozen=True)
class Name:
    """What one figure is called."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    help: str
    buckets: tuple[float, ...] = ()
    """Of a histogram; none where they are `token_buckets`."""
    merge: str = ""
    """Of a gauge."""
    label: str = ""
    """A label that this metric has besides those of the vocabulary."""
    value: str = ""
    """What that label is, where it is always the same."""


@dataclass(frozen=True)
class Vocabulary:
    """One way to call everything."""

    labels: tuple[str, ...]
    """Labels that every metric has."""
    successes_only: bool
    """Whether times to the first token and per token are of requests that succeeded, and so counted at their end."""
    names: Mapping[str, Name]
    """By figure."""


def _counter(name: str, text: str, label: str = "") -> Name:
    return Name(name, "counter", text, label=label)


def _gauge(name: str, text: str, merge: str) -> Name:
    return Name(name, "gauge", text, merge=merge)


def _histogram(name: str, text: str, buckets: tuple[float, ...] = (), label: str = "", value: str = "") -> Name:
    return Name(name, "histogram", text, buckets, label=label, value=value)


VLLM: Final = Vocabulary(
    labels=("model_name", "engine"),
    successes_only=False,
    names={
        "running": _gauge("vllm:num_requests_running", "Requests being served.", "live_sum"),
        "waiting": _gauge("vllm:num_requests_waiting", "Requests waiting to be served.", "live_sum"),
        "cache_usage": _gauge("vllm:kv_cache_usage_perc", "KV cache in use; 1 is all of it.", "live_mean"),
        "prompt_tokens": _counter("vllm:prompt_tokens_total", "Prompt tokens processed."),
        "generation_tokens": _counter("vllm:generation_tokens_total", "Tokens generated."),
        "finished": _counter("vllm:request_success_total", "Requests that ended, by the reason.", "finished_reason"),
        "prompt_size": _histogram("vllm:request_prompt_tokens", "Prompt tokens of a request."),
        "generation_size": _histogram("vllm:request_generation_tokens", "Tokens generated for a request."),
        "longest_sequence": _histogram(
            "vllm:request_max_num_generation_tokens", "Tokens of a request's longest sequence; it has one."
        ),
        "first_token": _histogram("vllm:time_to_first_token_seconds", "Arrival to first token.", _FIRST_TOKEN),
        "inter_token": _histogram("vllm:inter_token_latency_seconds", "One step to the next.", _PER_TOKEN),
        "per_token": _histogram(
            "vllm:request_time_per_output_token_seconds", "Mean time per token after the first.", _PER_TOKEN
        ),
        "e2e": _histogram("vllm:e2e_request_latency_seconds", "Arrival to end.", _LATENCY),
        "queue": _histogram("vllm:request_queue_time_seconds", "Arrival to start.", _LATENCY),
        "inference": _histogram("vllm:request_inference_time_seconds", "Start to end.", _LATENCY),
        "prefill": _histogram("vllm:request_prefill_time_seconds", "Start to first token.", _LATENCY),
        "decode": _histogram("vllm:request_decode_time_seconds", "First to last token.", _LATENCY),
    },
)

OTEL: Final = Vocabulary(
    labels=("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    successes_only=True,
    names={
        "e2e": _histogram("gen_ai_server_request_duration_seconds", "Arrival to end.", _OTEL_DURATION, "error_type"),
        "first_token": _histogram(
            "gen_ai_server_time_to_first_token_seconds", "Arrival to first token, if it succeeded.", _OTEL_FIRST_TOKEN
        ),
        "per_token": _histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time per token after the first, if it succeeded.",
            _OTEL_PER_TOKEN,
        ),
        "prompt_size": _histogram(
            "gen_ai_client_token_usage", "Tokens of a request.", _OTEL_TOKENS, "gen_ai_token_type", "input"
        ),
        "generation_size": _histogram(
            "gen_ai_client_token_usage", "Tokens of a request.", _OTEL_TOKENS, "gen_ai_token_type", "output"
        ),
        "running": _gauge("llm_requests_running", "Requests being served.", "live_sum"),
        "waiting": _gauge("llm_requests_waiting", "Requests waiting to be served.", "live_sum"),
        "cache_usage": _gauge("llm_kv_cache_usage_ratio", "KV cache in use; 1 is all of it.", "live_mean"),
        "prompt_tokens": _counter("llm_prompt_tokens_total", "Prompt tokens processed."),
        "generation_tokens": _counter("llm_generation_tokens_total", "Tokens generated."),
        "finished": _counter("llm_requests_finished_total", "Requests that ended, by the reason.", "finish_reason"),
        "inter_token": _histogram("llm_inter_token_latency_seconds", "One step to the next.", _OTEL_PER_TOKEN),
        "queue": _histogram("llm_request_queue_time_seconds", "Arrival to start.", _OTEL_DURATION),
        "inference": _histogram("llm_request_inference_time_seconds", "Start to end.", _OTEL_DURATION),
        "prefill": _histogram("llm_request_prefill_time_seconds", "Start to first token.", _OTEL_DURATION),
        "decode": _histogram("llm_request_decode_time_seconds", "First to last token.", _OTEL_DURATION),
    },
)

VOCABULARIES: Final[Mapping[str, Vocabulary]] = {"vllm": VLLM, "otel": OTEL}


def token_buckets(most: int) -> tuple[float, ...]:
    """Buckets for numbers of tokens as vLLM makes them: 1, 2, 5, 10, 20, 50, ... up to a model's greatest length."""
    steps = (float(digit * 10**power) for power in range(10) for digit in (1, 2, 5))
    return tuple(step for step in steps if step <= most)
