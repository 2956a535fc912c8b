"""The names of LLM figures, against lists written down from their sources; dashboards rest on them."""

import pytest

from shmetrics.families import Definition
from shmetrics.llm_names import FINISH_REASONS, OTEL, VLLM, VOCABULARIES, token_buckets

# vllm/v1/metrics/loggers.py and buckets.py of vllm-project/vllm, read on 2026-11-25.
REQUEST_LATENCY = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680]
TIME_TO_FIRST_TOKEN = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
                       160, 640, 2560]  # fmt: skip
INTER_TOKEN = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
OF_VLLM = {
    "vllm:num_requests_running": ("gauge", []),
    "vllm:num_requests_waiting": ("gauge", []),
    "vllm:kv_cache_usage_perc": ("gauge", []),
    "vllm:prompt_tokens_total": ("counter", []),
    "vllm:generation_tokens_total": ("counter", []),
    "vllm:request_success_total": ("counter", []),
    "vllm:request_prompt_tokens": ("histogram", []),
    "vllm:request_generation_tokens": ("histogram", []),
    "vllm:request_max_num_generation_tokens": ("histogram", []),
    "vllm:time_to_first_token_seconds": ("histogram", TIME_TO_FIRST_TOKEN),
    "vllm:inter_token_latency_seconds": ("histogram", INTER_TOKEN),
    "vllm:request_time_per_output_token_seconds": ("histogram", INTER_TOKEN),
    "vllm:e2e_request_latency_seconds": ("histogram", REQUEST_LATENCY),
    "vllm:request_queue_time_seconds": ("histogram", REQUEST_LATENCY),
    "vllm:request_inference_time_seconds": ("histogram", REQUEST_LATENCY),
    "vllm:request_prefill_time_seconds": ("histogram", REQUEST_LATENCY),
    "vllm:request_decode_time_seconds": ("histogram", REQUEST_LATENCY),
}

# examples/observability/prometheus_grafana/grafana.json of vllm-project/vllm, read on 2026-11-25: what its panels show.
OF_THE_DASHBOARD = {
    "vllm:e2e_request_latency_seconds",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:inter_token_latency_seconds",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:time_to_first_token_seconds",
    "vllm:kv_cache_usage_perc",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:request_success_total",
    "vllm:request_queue_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
    "vllm:request_max_num_generation_tokens",
}

# docs/gen-ai/gen-ai-metrics.md of open-telemetry/semantic-conventions, read on 2026-11-25.
OF_OTEL = {
    "gen_ai_server_request_duration_seconds": [
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
    ],
    "gen_ai_server_time_per_output_token_seconds": [
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
    ],
    "gen_ai_server_time_to_first_token_seconds": [
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
    ],
    "gen_ai_client_token_usage": [
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
    ],
}


def test_vllms_names_kinds_and_buckets_are_vllms():
    assert {name.name: (name.kind, list(name.buckets)) for name in VLLM.names.values()} == OF_VLLM
    assert VLLM.labels == ("model_name", "engine")
    assert VLLM.names["finished"].label == "finished_reason"
    assert FINISH_REASONS == ("stop", "length", "abort", "error", "repetition")


def test_every_panel_of_vllms_dashboard_has_its_metric():
    assert {name.name for name in VLLM.names.values()} >= OF_THE_DASHBOARD


def test_opentelemetrys_names_and_buckets_are_those_of_the_conventions():
    conventional = [name for name in OTEL.names.values() if name.name.startswith("gen_ai_")]
    assert {name.name: list(name.buckets) for name in conventional} == OF_OTEL
    assert {name.kind for name in conventional} == {"histogram"}
    assert OTEL.labels == ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
    assert {(name.label, name.value) for name in conventional if name.label} == {
        ("gen_ai_token_type", "input"),
        ("gen_ai_token_type", "output"),
        ("error_type", ""),
    }


def test_what_the_conventions_have_no_name_for_keeps_out_of_theirs():
    others = {name.name for name in OTEL.names.values()} - OF_OTEL.keys()
    assert others
    assert all(name.startswith("llm_") for name in others)


@pytest.mark.parametrize("names", VOCABULARIES)
def test_every_name_is_one_that_a_metric_can_have(names):
    vocabulary = VOCABULARIES[names]
    for name in vocabulary.names.values():
        labels = (*vocabulary.labels, *([name.label] if name.label else []))
        buckets = (name.buckets or token_buckets(10)) if name.kind == "histogram" else ()
        Definition(name.name, name.kind, name.help, labels=labels, buckets=buckets, merge=name.merge)


def test_figures_that_differ_have_metrics_that_differ():
    for vocabulary in VOCABULARIES.values():
        assert len({(name.name, name.value) for name in vocabulary.names.values()}) == len(vocabulary.names)


@pytest.mark.parametrize(
    ("most", "buckets"),
    [(1, (1.0,)), (100, (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)), (4096, (*(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
                                                                        *(200.0, 500.0, 1000.0, 2000.0)))],
)  # fmt: skip
def test_buckets_for_tokens_are_one_two_five_up_to_the_longest(most, buckets):
    assert token_buckets(most) == buckets
