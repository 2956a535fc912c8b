"""LLMMetrics: figures against ones worked out by hand, with a clock of the test's own."""

import asyncio
import contextlib
import math

import numpy as np
import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.llm import LLMMetrics
from tests.test_tasks import in_flight

MODEL = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.fixture
def metrics():
    with PerformanceMetrics(max_workers=8) as metrics:
        yield metrics


@pytest.fixture
def llm(metrics, clock):
    return LLMMetrics(metrics, MODEL, clock=clock)


@pytest.fixture
def otel(metrics, clock):
    return LLMMetrics(metrics, MODEL, names="otel", provider="vllm", operation="text_completion", clock=clock)


def figures_of(metrics, **labels):
    """Count and sum, or value, of each metric's series with these labels; of counters and gauges, or of histograms."""
    found = {}
    for name, family in CustomMetrics(metrics).get_all_metrics().items():
        for series in family["series"]:
            if "_overflow" not in series["labels"].values() and labels.items() <= series["labels"].items():
                key = (name, *(series["labels"][key] for key in series["labels"] if key in _OWN_LABELS))
                found[key] = series.get("value", (series.get("count"), pytest.approx(series.get("sum"))))
    return found


_OWN_LABELS = ("finished_reason", "finish_reason", "error_type", "gen_ai_token_type")


def serve_one(llm, clock):
    """A request by the book: queue 2 s, first token after 0.5 s, steps after 0.25 s and 0.75 s, 0.5 s to the end."""
    with llm.request(prompt_tokens=17) as request:
        clock.now += 2.0
        request.started()
        clock.now += 0.5
        request.token()
        clock.now += 0.25
        request.token(3)
        clock.now += 0.75
        request.token()
        clock.now += 0.5


# One request ----------------------------------------------------------------------------------------------------------


def test_the_figures_of_a_request_by_vllms_names(metrics, llm, clock):
    serve_one(llm, clock)
    found = figures_of(metrics, model_name=MODEL, engine="0")
    assert found == {
        ("vllm:num_requests_running",): 0.0,
        ("vllm:num_requests_waiting",): 0.0,
        ("vllm:kv_cache_usage_perc",): 0.0,
        ("vllm:prompt_tokens_total",): 17.0,
        ("vllm:generation_tokens_total",): 5.0,
        ("vllm:request_success_total", "stop"): 1.0,
        ("vllm:request_success_total", "length"): 0.0,
        ("vllm:request_success_total", "abort"): 0.0,
        ("vllm:request_success_total", "error"): 0.0,
        ("vllm:request_success_total", "repetition"): 0.0,
        ("vllm:request_prompt_tokens",): (1, 17.0),
        ("vllm:request_generation_tokens",): (1, 5.0),
        ("vllm:request_max_num_generation_tokens",): (1, 5.0),
        ("vllm:time_to_first_token_seconds",): (1, 2.5),
        ("vllm:inter_token_latency_seconds",): (2, 1.0),
        ("vllm:request_time_per_output_token_seconds",): (1, 0.25),  # 1 s for the 4 tokens after the first
        ("vllm:e2e_request_latency_seconds",): (1, 4.0),
        ("vllm:request_queue_time_seconds",): (1, 2.0),
        ("vllm:request_inference_time_seconds",): (1, 2.0),
        ("vllm:request_prefill_time_seconds",): (1, 0.5),
        ("vllm:request_decode_time_seconds",): (1, 1.0),
    }


def test_the_figures_of_a_request_by_opentelemetrys_names(metrics, otel, clock):
    serve_one(otel, clock)
    labels = {"gen_ai_request_model": MODEL, "gen_ai_provider_name": "vllm", "gen_ai_operation_name": "text_completion"}
    found = figures_of(metrics, **labels)
    assert {key: value for key, value in found.items() if key[0].startswith("gen_ai")} == {
        ("gen_ai_server_request_duration_seconds", ""): (1, 4.0),
        ("gen_ai_server_time_to_first_token_seconds",): (1, 2.5),
        ("gen_ai_server_time_per_output_token_seconds",): (1, 0.25),
        ("gen_ai_client_token_usage", "input"): (1, 17.0),
        ("gen_ai_client_token_usage", "output"): (1, 5.0),
    }
    assert found["llm_request_queue_time_seconds",] == (1, 2.0)
    assert found["llm_inter_token_latency_seconds",] == (2, 1.0)
    assert found["llm_requests_finished_total", "stop"] == 1.0
    assert (found["llm_prompt_tokens_total",], found["llm_generation_tokens_total",]) == (17.0, 5.0)


def test_a_request_is_one_record_whose_total_is_its_latency_and_whose_batch_its_tokens(metrics, llm, clock):
    serve_one(llm, clock)
    figures = metrics.get_statistics()
    assert figures["total_requests"] == 1
    assert (figures["max_inference_time"], figures["max_preprocessing_time"]) == (2.0, 2.0)
    assert (figures["max_total_time"], figures["max_batch_size"]) == (4.0, 5.0)


def test_a_request_waits_then_runs_and_is_in_flight_all_the_while(metrics, llm):
    def states():
        found = figures_of(metrics)
        return found["vllm:num_requests_waiting",], found["vllm:num_requests_running",], in_flight(metrics)

    request = llm.request()
    assert states() == (1.0, 0.0, 1)
    request.started()
    assert states() == (0.0, 1.0, 1)
    request.token()
    assert states() == (0.0, 1.0, 1)
    (worker,) = metrics.get_comprehensive_statistics()["workers"]
    assert [each["label"] for each in worker["requests_in_flight"]] == [MODEL]
    request.finish("length")
    assert states() == (0.0, 0.0, 0)


def test_the_first_token_is_counted_when_it_comes(metrics, llm, clock):
    """A generation of minutes must not hide how long its first token took."""
    request = llm.request(17)
    clock.now += 0.5
    request.token()
    assert figures_of(metrics)["vllm:time_to_first_token_seconds",] == (1, 0.5)
    assert figures_of(metrics)["vllm:prompt_tokens_total",] == 17.0


def test_without_a_word_of_its_start_a_request_never_waited(metrics, llm, clock):
    with llm.request() as request:
        clock.now += 1.0
        request.token()
        assert figures_of(metrics)["vllm:num_requests_running",] == 1.0
    found = figures_of(metrics)
    assert found["vllm:request_queue_time_seconds",] == (1, 0.0)
    assert found["vllm:request_prefill_time_seconds",] == (1, 1.0)


def test_a_request_that_never_started_waited_to_its_end(metrics, llm, clock):
    with llm.request(17):
        clock.now += 3.0
    found = figures_of(metrics)
    assert found["vllm:request_queue_time_seconds",] == (1, 3.0)
    assert found["vllm:request_inference_time_seconds",] == (1, 0.0)
    assert found["vllm:request_prefill_time_seconds",] == (0, 0.0)
    assert found["vllm:prompt_tokens_total",] == 0.0
    assert (found["vllm:num_requests_waiting",], found["vllm:num_requests_running",]) == (0.0, 0.0)


def test_a_request_of_one_token_has_no_time_per_token(metrics, llm):
    with llm.request() as request:
        request.token()
    found = figures_of(metrics)
    assert found["vllm:request_time_per_output_token_seconds",] == (0, 0.0)
    assert found["vllm:request_decode_time_seconds",] == (1, 0.0)


def test_within_a_measured_request_there_is_one_record_and_one_in_flight(metrics, llm, clock):
    with metrics.request() as outer:
        serve_one(llm, clock)
        with llm.request() as request:
            request.token()
            assert in_flight(metrics) == 1
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (1, 0)
    assert (figures["max_inference_time"], figures["max_preprocessing_time"]) == (2.0, 2.0)
    assert figures["max_batch_size"] == 6.0
    assert figures_of(metrics)["vllm:request_success_total", "stop"] == 2.0
    assert outer.done


def test_a_failure_within_a_measured_request_fails_that_one(metrics, llm):
    with metrics.request():
        llm.request().finish("error")
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (1, 1)


def test_a_request_that_outlives_the_one_it_came_in_has_its_own_record(metrics, llm):
    with metrics.request():
        request = llm.request()
    request.finish()
    assert metrics.get_statistics()["total_requests"] == 2


def test_a_clock_that_went_back_raises_nothing_and_leaves_its_times_out(metrics, llm, clock):
    for outer in (False, True):
        with metrics.request() if outer else contextlib.nullcontext(), llm.request() as request:
            clock.now -= 10.0
            request.started()
            request.token()
    found = figures_of(metrics)
    assert found["vllm:request_queue_time_seconds",] == (0, 0.0)
    assert found["vllm:request_success_total", "stop"] == 2.0
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["invalid_records"]) == (2, 1)


# How it ends ----------------------------------------------------------------------------------------------------------


class OutOfMemory(RuntimeError):
    """What an engine raises."""


def fail_after_two_tokens(llm, failure):
    with llm.request(3) as request:
        request.token()
        request.token()
        raise failure


@pytest.mark.parametrize("kind", [OutOfMemory, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_an_exception_is_an_error_and_a_cancellation_an_abort(metrics, llm, otel, kind):
    reason, raised = ("error" if kind is OutOfMemory else "abort"), kind()
    for one in (llm, otel):
        with pytest.raises(kind) as caught:
            fail_after_two_tokens(one, raised)
        assert caught.value is raised
    found = figures_of(metrics)
    assert found["vllm:request_success_total", reason] == 1.0
    assert found["vllm:e2e_request_latency_seconds",] == (1, 0.0)
    assert found["llm_requests_finished_total", reason] == 1.0
    assert found["gen_ai_server_request_duration_seconds", kind.__qualname__] == (1, 0.0)
    assert found["gen_ai_server_time_to_first_token_seconds",] == (0, 0.0), "for successful responses"
    assert found["gen_ai_server_time_per_output_token_seconds",] == (0, 0.0)
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (2, 2 if kind is OutOfMemory else 0)


def test_async_requests_end_like_others(metrics, llm):
    async def serve(kind):
        async with llm.request(1) as request:
            request.started()
            await asyncio.sleep(0)
            request.token()
            if kind == "error":
                raise OutOfMemory
            if kind == "abort":
                asyncio.current_task().cancel()
                await asyncio.sleep(0)
            if kind == "length":
                request.finish("length")

    async def serve_all():
        kinds = ["stop", "error", "abort", "length"] * 250
        return await asyncio.gather(*(serve(kind) for kind in kinds), return_exceptions=True)

    assert len(asyncio.run(serve_all())) == 1000
    found = figures_of(metrics)
    for reason in ("stop", "error", "abort", "length"):
        assert found["vllm:request_success_total", reason] == 250.0
    assert found["vllm:generation_tokens_total",] == 1000.0
    assert (found["vllm:num_requests_waiting",], found["vllm:num_requests_running",]) == (0.0, 0.0)


def test_a_stream_that_its_client_leaves_is_an_abort(metrics, llm):
    def stream():
        with llm.request(1) as request:
            for piece in ("one", "two", "three"):
                request.token()
                yield piece

    pieces = stream()
    assert next(pieces) == "one"
    pieces.close()
    assert figures_of(metrics)["vllm:request_success_total", "abort"] == 1.0


def test_ending_twice_is_ending_once_and_what_comes_later_counts_for_nothing(metrics, llm, clock):
    with llm.request(17) as request:
        request.token()
        request.finish("length")
        before = figures_of(metrics)
        clock.now += 5.0
        request.finish("error")
        request.started()
        request.token()
    assert figures_of(metrics) == before
    assert before["vllm:request_success_total", "length"] == 1.0
    assert metrics.get_statistics()["total_errors"] == 0


def test_starting_twice_is_starting_once(metrics, llm, clock):
    with llm.request() as request:
        request.started()
        clock.now += 1.0
        request.started()
    found = figures_of(metrics)
    assert found["vllm:request_queue_time_seconds",] == (1, 0.0)
    assert found["vllm:num_requests_waiting",] == 0.0


# What it is told ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        {"names": "sglang"},
        {"model": ""},
        {"model": None},
        {"engine": 0},
        {"provider": ""},
        {"operation": 7},
        {"max_model_len": 0},
        {"max_model_len": 1.5},
        {"max_model_len": 1 << 40},
    ],
    ids=str,
)
def test_bad_arguments_are_errors_that_name_them(metrics, arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"{name} must be"):
        LLMMetrics(metrics, **{"model": "llama", **arguments})


def test_a_hub_that_has_one_of_the_names_for_something_else_is_a_clear_error(metrics):
    CustomMetrics(metrics).counter("vllm:num_requests_running", "Mine.")
    with pytest.raises(ValueError, match="vllm:num_requests_running"):
        LLMMetrics(metrics, MODEL)


@pytest.mark.parametrize("count", [-1, 1.5, None, "many", math.nan, 1 << 50], ids=str)
def test_a_number_of_tokens_that_cannot_be_is_left_out_and_said_once(metrics, llm, caplog, count):
    with llm.request(prompt_tokens=count) as request:
        request.token(count)
        request.token(count)
        request.token(2)
    llm.count_tokens(prompt=count, generated=count)
    found = figures_of(metrics)
    assert (found["vllm:prompt_tokens_total",], found["vllm:generation_tokens_total",]) == (0.0, 2.0)
    assert found["vllm:request_prompt_tokens",] == (1, 0.0)
    assert len(caplog.records) == 1
    assert "number of tokens" in caplog.text


def test_integers_of_numpy_are_numbers_of_tokens_and_none_is_no_step(metrics, llm):
    with llm.request(np.int64(17)) as request:
        request.token(np.int32(2))
        request.token(0)
    found = figures_of(metrics)
    assert (found["vllm:prompt_tokens_total",], found["vllm:generation_tokens_total",]) == (17.0, 2.0)
    assert found["vllm:inter_token_latency_seconds",] == (0, 0.0)


@pytest.mark.parametrize("reason", ["tool_calls", "", None, ["stop"]], ids=str)
def test_a_reason_that_is_not_known_is_other(metrics, llm, reason):
    llm.request().finish(reason)
    assert figures_of(metrics)["vllm:request_success_total", "other"] == 1.0


# Engines that keep their own time -------------------------------------------------------------------------------------


def test_what_an_engine_knows_itself_is_recorded_as_a_request_would_be(metrics, llm, clock):
    """The same figures as those of the request by the book."""
    with PerformanceMetrics(max_workers=2) as other:
        serve_one(LLMMetrics(other, MODEL, clock=clock), clock)
        expected = figures_of(other)
    llm.count_tokens(prompt=17, generated=5)
    llm.observe_first_token(2.5)
    llm.observe_inter_token(0.25)
    llm.observe_inter_token(np.float32(0.75))
    llm.record(e2e_time=4.0, queue_time=2.0, prefill_time=0.5, decode_time=1, prompt_tokens=17, generation_tokens=5)
    assert figures_of(metrics) == expected
    assert metrics.get_statistics()["max_total_time"] == 4.0


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf, "soon", None, 1e12], ids=str)
def test_a_time_that_cannot_be_is_left_out_and_the_request_still_counts(metrics, llm, bad):
    llm.observe_first_token(bad)
    llm.observe_inter_token(bad)
    llm.set_cache_usage(bad)
    llm.record(e2e_time=bad, queue_time=1.0, prefill_time=bad, decode_time=bad, generation_tokens=5)
    found = figures_of(metrics)
    for name in ("time_to_first_token", "inter_token_latency", "e2e_request_latency", "request_decode_time"):
        assert found[f"vllm:{name}_seconds",] == (0, 0.0)
    assert found["vllm:request_queue_time_seconds",] == (1, 1.0)
    assert found["vllm:request_generation_tokens",] == (1, 5.0)
    assert found["vllm:request_success_total", "stop"] == 1.0
    assert found["vllm:kv_cache_usage_perc",] == 0.0
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["invalid_records"]) == (1, 1)
