"""LLMMetrics over a fleet: workers that are forked, started, killed; several models; what a page shows."""

import os
import pickle
import signal

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.exporters.prometheus import render
from shmetrics.llm import LLMMetrics
from shmetrics.llm_names import OTEL, VLLM
from tests.processes import START_METHODS, forked, in_forked_child, run_in_processes, wait_until
from tests.test_llm import MODEL, figures_of, serve_one

STEPS = 50


@pytest.fixture
def metrics():
    with PerformanceMetrics(max_workers=8) as metrics:
        yield metrics


def serve_in_worker(llm, worker):
    """Leaves one request waiting and two running."""
    for _ in range(STEPS):
        with llm.request(10) as request:
            request.started()
            request.token(worker + 1)
            request.token()
    llm.set_cache_usage(0.25 * worker)
    left = [llm.request() for _ in range(3)]
    for request in left[:2]:
        request.token()
    return left


def test_four_forked_workers_are_one_fleet_and_a_killed_ones_requests_vanish(metrics):
    llm = LLMMetrics(metrics, MODEL)
    ready = [os.pipe() for _ in range(4)]

    def work(worker):
        left = serve_in_worker(llm, worker)
        os.write(ready[worker][1], b"x")
        signal.pause()
        return left

    pids = [forked(lambda worker=worker: work(worker)) for worker in range(4)]
    for reading, _ in ready:
        assert os.read(reading, 1) == b"x"
    found = figures_of(metrics)
    assert found["vllm:prompt_tokens_total",] == 4 * STEPS * 10
    assert found["vllm:generation_tokens_total",] == STEPS * (2 + 3 + 4 + 5) + 4 * 2
    assert found["vllm:request_success_total", "stop"] == 4 * STEPS
    assert (found["vllm:num_requests_waiting",], found["vllm:num_requests_running",]) == (4.0, 8.0)
    assert found["vllm:kv_cache_usage_perc",] == (0.0 + 0.25 + 0.5 + 0.75) / 4
    os.kill(pids[3], signal.SIGKILL)
    os.waitpid(pids[3], 0)
    wait_until(lambda: metrics.get_statistics()["active_workers"] == 3)
    found = figures_of(metrics)
    assert (found["vllm:num_requests_waiting",], found["vllm:num_requests_running",]) == (3.0, 6.0)
    assert found["vllm:kv_cache_usage_perc",] == 0.25
    assert found["vllm:generation_tokens_total",] == STEPS * (2 + 3 + 4 + 5) + 4 * 2
    assert metrics.get_statistics()["total_requests"] == 4 * STEPS
    for pid in pids[:3]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for pipe in ready:
        for descriptor in pipe:
            os.close(descriptor)


@pytest.mark.parametrize("method", START_METHODS)
def test_workers_of_every_start_method_share_what_was_made_before(metrics, method):
    run_in_processes(method, 3, serve_and_leave, LLMMetrics(metrics, MODEL, max_model_len=4096))
    found = figures_of(metrics)
    assert found["vllm:request_success_total", "stop"] == 3 * STEPS
    assert (found["vllm:num_requests_waiting",], found["vllm:num_requests_running",]) == (0.0, 0.0)


def serve_and_leave(llm, worker):
    serve_in_worker(llm, worker)


def test_it_pickles_with_all_it_was_made_with(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        llm = LLMMetrics(metrics, MODEL, names="otel", provider="mine", operation="chat", max_model_len=10)
        copy = pickle.loads(pickle.dumps(llm))
        with copy.request(1) as request:
            request.token()
        assert figures_of(metrics, gen_ai_provider_name="mine")["llm_requests_finished_total", "stop"] == 1.0
        copy.metrics.close()


def test_a_fork_in_the_middle_of_a_request_leaves_it_to_the_parent(metrics):
    llm = LLMMetrics(metrics, MODEL)
    with llm.request() as request:
        request.started()
        in_forked_child(lambda: llm.request().finish())
        assert figures_of(metrics)["vllm:num_requests_running",] == 1.0
    found = figures_of(metrics)
    assert found["vllm:request_success_total", "stop"] == 2.0
    assert found["vllm:num_requests_running",] == 0.0


def test_models_and_engines_are_told_apart(metrics, clock):
    for model, engine in (("a", "0"), ("a", "1"), ("b", "0")):
        serve_one(LLMMetrics(metrics, model, engine=engine, clock=clock), clock)
    assert figures_of(metrics, model_name="a", engine="1")["vllm:generation_tokens_total",] == 5.0
    page = render(metrics).decode()
    assert page.count("vllm:prompt_tokens_total{") == 3


@pytest.mark.parametrize("vocabulary", [VLLM, OTEL], ids=["vllm", "otel"])
def test_a_page_shows_every_metric_by_its_exact_name(metrics, clock, vocabulary):
    serve_one(LLMMetrics(metrics, MODEL, names="vllm" if vocabulary is VLLM else "otel", clock=clock), clock)
    lines = render(metrics).decode().splitlines()
    for name in vocabulary.names.values():
        suffix = "_bucket" if name.kind == "histogram" else ""
        assert any(line.startswith(f"{name.name}{suffix}{{") for line in lines), name.name
        assert f"# TYPE {name.name} {name.kind}" in lines


def test_a_hub_without_room_fails_no_request(clock):
    with PerformanceMetrics(max_workers=2, max_series=8) as metrics:
        llm = LLMMetrics(metrics, MODEL, clock=clock)
        serve_one(llm, clock)
        assert metrics.get_statistics()["max_total_time"] == 4.0
