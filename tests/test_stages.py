"""Stages: what `metrics.stage` adds to the request that is being measured, in threads, tasks and generators."""

import asyncio
import contextvars
import logging
import threading

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.measurement import RequestMeasurement, Source, innermost
from tests.processes import in_forked_child, run_in_processes, run_in_threads


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=64) as metrics:
        metrics.claim()
        yield metrics


class Request:
    """A request being measured on the test's clock, as a server's wrapper measures it."""

    def __init__(self, metrics, clock):
        self.measurement = RequestMeasurement(Source(metrics.recorder, clock))

    def __enter__(self):
        self.measurement.begin()
        return self.measurement

    def __exit__(self, *_):
        self.measurement.finish()


@pytest.fixture
def request_(metrics, clock):
    return Request(metrics, clock)


def recorded(metrics):
    """The measures of the one request there is."""
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["window_count"]) == (1, 1)
    return {
        name: figures[f"max_{name}"]
        for name in ("inference_time", "preprocessing_time", "quantization_time", "batch_size")
    }


# Time -----------------------------------------------------------------------------------------------------------------


def test_each_stage_is_a_measure_of_its_request(metrics, clock, request_):
    with request_:
        clock.sleep(8.0)
        with metrics.stage("preprocessing"):
            clock.sleep(1.0)
        with metrics.stage("inference", batch_size=16):
            clock.sleep(2.0)
        with metrics.stage("quantization"):
            clock.sleep(4.0)
    assert recorded(metrics) == {
        "inference_time": 2.0,
        "preprocessing_time": 1.0,
        "quantization_time": 4.0,
        "batch_size": 16.0,
    }


def test_without_an_inference_stage_what_the_others_leave_is_inference(metrics, clock, request_):
    metrics.add_stages("tokenization")
    with request_:
        clock.sleep(8.0)
        with metrics.stage("preprocessing"):
            clock.sleep(1.0)
        with metrics.stage("tokenization"):
            clock.sleep(2.0)
    assert recorded(metrics)["inference_time"] == 8.0


def test_a_stage_entered_often_adds_up(metrics, clock, request_):
    with request_:
        for _ in range(1000):
            with metrics.stage("preprocessing", batch_size=2):
                clock.sleep(0.5)
    assert recorded(metrics)["preprocessing_time"] == 500.0
    assert recorded(metrics)["batch_size"] == 2000.0


def test_time_in_a_stage_within_a_stage_counts_once_for_the_inner_one(metrics, clock, request_):
    with request_, metrics.stage("inference"):
        clock.sleep(1.0)
        with metrics.stage("preprocessing"):
            clock.sleep(2.0)
            with metrics.stage("quantization"):
                clock.sleep(4.0)
            clock.sleep(8.0)
        clock.sleep(16.0)
    assert recorded(metrics) == {
        "inference_time": 17.0,
        "preprocessing_time": 10.0,
        "quantization_time": 4.0,
        "batch_size": 1.0,
    }


def test_a_stage_may_be_entered_within_itself(metrics, clock, request_):
    stage = metrics.stage("inference")
    with request_, stage:
        clock.sleep(1.0)
        with stage:
            clock.sleep(2.0)
    assert recorded(metrics)["inference_time"] == 3.0


def test_what_the_application_says_itself_is_added(metrics, clock, request_):
    with request_ as request:
        request.preprocessing_time = 0.25
        request.inference_time = 0.5
        request.batch_size = 3
        for name in ("preprocessing", "inference"):
            with metrics.stage(name, batch_size=100):
                clock.sleep(1.0)
    assert recorded(metrics)["preprocessing_time"] == 1.25
    assert recorded(metrics)["inference_time"] == 1.5
    assert recorded(metrics)["batch_size"] == 3.0


def test_an_exception_passes_and_its_time_counts(metrics, clock, request_):
    error = ValueError("x")

    def fail():
        clock.sleep(1.0)
        raise error

    with request_, pytest.raises(ValueError, match="x") as caught, metrics.stage("preprocessing"):
        fail()
    assert caught.value is error
    assert recorded(metrics)["preprocessing_time"] == 1.0
    assert metrics.get_statistics()["total_errors"] == 0


# Names ----------------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_an_error_that_lists_those_known(metrics):
    metrics.add_stages("tokenization")
    with pytest.raises(ValueError, match=r"preprocessing, inference, quantization, tokenization") as caught:
        metrics.stage("preprocesing")
    assert "Did you mean 'preprocessing'?" in str(caught.value)
    assert "metrics.add_stages('preprocesing')" in str(caught.value)


@pytest.mark.parametrize("name", ["", "x" * 101, 5, None, "_overflow"], ids=repr)
def test_what_is_no_name_cannot_be_declared(metrics, name):
    with pytest.raises(ValueError, match="cannot be a stage"):
        metrics.add_stages("fine", name)
    with pytest.raises(ValueError, match="there is no stage 'fine'"):
        metrics.stage("fine")


def test_a_batch_size_that_is_no_number_is_an_error(metrics):
    with pytest.raises(TypeError):
        metrics.stage("inference", batch_size=[1])


def test_a_declared_stage_has_a_histogram_in_and_out_of_requests(metrics, clock, request_):
    metrics.add_stages("tokenization", "rendering")
    with request_, metrics.stage("tokenization"):
        clock.sleep(0.02)
        with metrics.stage("preprocessing"):
            clock.sleep(1.0)
    with metrics.stage("rendering"):
        pass
    found = CustomMetrics(metrics).get_all_metrics()["stage_duration_seconds"]
    series = {each["labels"]["stage"]: each for each in found["series"] if each["count"]}
    assert set(series) == {"tokenization", "rendering"}
    assert series["tokenization"]["sum"] == pytest.approx(0.02)


def test_what_another_process_declared_is_known_here(metrics):
    in_forked_child(lambda: metrics.add_stages("tokenization"))
    with metrics.stage("tokenization"):
        pass


def test_a_metric_of_another_shape_under_the_histograms_name_is_left_alone(metrics, caplog):
    CustomMetrics(metrics).counter("stage_duration_seconds")
    metrics.add_stages("tokenization")
    with metrics.request(), metrics.stage("tokenization"):
        pass
    assert "not recorded" in caplog.text
    assert metrics.get_statistics()["total_requests"] == 1


# Where ----------------------------------------------------------------------------------------------------------------


def test_a_stage_outside_of_any_request_is_told_once(metrics, caplog):
    with caplog.at_level(logging.WARNING, "shmetrics"):
        for _ in range(3):
            with metrics.stage("preprocessing"):
                pass
    assert caplog.text.count("outside of any request") == 1
    assert metrics.get_statistics()["total_requests"] == 0


def test_a_stage_of_a_request_that_is_over_is_outside_of_any(metrics, clock, request_, caplog):
    """As in a task that goes on in the background."""
    with request_:
        context = contextvars.copy_context()

    def late():
        with metrics.stage("preprocessing"):
            clock.sleep(1.0)

    context.run(late)
    assert recorded(metrics)["preprocessing_time"] == 0.0
    assert "outside of any request" in caplog.text


def test_a_stage_belongs_to_the_request_of_its_own_hub(metrics, clock, request_):
    with PerformanceMetrics(max_workers=2) as other, request_, Request(other, clock), metrics.stage("preprocessing"):
        clock.sleep(1.0)
        with other.stage("quantization"):
            clock.sleep(2.0)
        assert other.get_statistics()["total_requests"] == 0
    assert recorded(metrics)["preprocessing_time"] == 3.0
    assert recorded(metrics)["quantization_time"] == 0.0


def test_objects_of_one_hub_share_their_requests(metrics, clock, request_, hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=64) as same:
        with request_, same.stage("preprocessing"):
            clock.sleep(1.0)
        assert recorded(same)["preprocessing_time"] == 1.0


def test_nothing_is_current_after_a_request(metrics, request_):
    with request_:
        assert metrics.current_request is request_.measurement
        with metrics.stage("inference"):
            assert metrics.current_request is request_.measurement
    assert metrics.current_request is None
    assert innermost(metrics.recorder) is None


def test_spans_that_end_out_of_order_leave_nothing_behind(metrics, clock, request_):
    """As where a generator is in the middle of a stage while its consumer enters and leaves others."""

    def generate():
        with metrics.stage("preprocessing"):
            clock.sleep(1.0)
            yield
            clock.sleep(2.0)

    with request_:
        for _ in range(3):
            generator = generate()
            next(generator)
            with metrics.stage("quantization"):
                next(generator, None)
                clock.sleep(4.0)
        assert innermost(metrics.recorder) is request_.measurement
        assert request_.measurement.before is None
    # Neither is in the other, so that each has the two seconds in which they overlap.
    assert recorded(metrics)["quantization_time"] == 3 * 6.0
    assert recorded(metrics)["preprocessing_time"] == 3 * 3.0


# Threads, tasks, processes --------------------------------------------------------------------------------------------


def test_threads_of_one_request_lose_no_time(metrics, clock, request_):
    """The clock stands, so each stage takes nothing; what is added to the request by hand must all arrive."""
    with request_ as request:
        context = contextvars.copy_context()

        def work(_index):
            mine = context.copy()
            for _ in range(2000):
                mine.run(stage)

        def stage():
            with metrics.stage("inference", batch_size=1):
                request.spend("preprocessing", 0.25)

        run_in_threads(8, work)
    assert recorded(metrics)["batch_size"] == 16000.0
    assert recorded(metrics)["preprocessing_time"] == 4000.0


def test_another_thread_is_in_no_request(metrics, request_):
    seen = []
    with request_:
        thread = threading.Thread(target=lambda: seen.append(metrics.current_request))
        thread.start()
        thread.join()
    assert seen == [None]


def test_tasks_that_take_turns_keep_their_stages_apart(metrics, clock):
    """A thousand tasks, each in a stage of its own request while all others are in one of theirs."""

    async def serve(number):
        with Request(metrics, clock) as request:
            with metrics.stage("preprocessing", batch_size=number):
                await asyncio.sleep(0)
                assert metrics.current_request is request
                with metrics.stage("quantization"):
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert request.batch_size is None
        return request

    async def main():
        return await asyncio.gather(*(serve(number) for number in range(1000)))

    asyncio.run(main())
    figures = metrics.get_statistics()
    assert figures["total_requests"] == 1000
    assert figures["max_batch_size"] == 999.0


def test_stages_of_tasks_within_a_request_add_up_and_the_rest_is_never_negative(metrics, clock, request_):
    async def part():
        with metrics.stage("preprocessing"):
            await asyncio.sleep(0)
            clock.sleep(1.0)

    async def main():
        with request_, metrics.stage("inference"):
            await asyncio.gather(part(), part(), part())

    asyncio.run(main())
    figures = recorded(metrics)
    assert figures["preprocessing_time"] == 1.0 + 2.0 + 3.0  # each waits while the others compute
    assert figures["inference_time"] == 0.0


def _measure(metrics, index):
    metrics.add_stages("tokenization")
    with metrics.request(batch_size=index + 1), metrics.stage("tokenization"):
        pass
    return metrics.current_request is None


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_stages_work_in_processes_of_every_start_method(metrics, method):
    assert run_in_processes(method, 2, _measure, metrics) == [True, True]
    assert metrics.get_statistics()["total_requests"] == 2
    found = CustomMetrics(metrics).get_all_metrics()["stage_duration_seconds"]
    assert sum(each["count"] for each in found["series"]) == 2
