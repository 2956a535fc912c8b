"""`metrics.request` and `@metrics.measure`: requests that no server's wrapper measures."""

import asyncio
import concurrent.futures
import functools
import gc
import inspect
import logging
import os
import signal
import time

import pytest

from shmetrics import PerformanceMetrics
from tests.processes import forked, in_forked_child, run_in_processes, run_in_threads


@pytest.fixture
def metrics(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        metrics.claim()
        yield metrics


def totals(metrics):
    figures = metrics.get_statistics()
    return figures["total_requests"], figures["total_errors"]


def batch_size(metrics):
    """Of the one request there is."""
    figures = metrics.get_statistics()
    assert figures["total_requests"] == 1
    return figures["max_batch_size"]


def in_flight(metrics):
    return sum(len(worker.in_flight) for worker in metrics.snapshot().workers)


# A block --------------------------------------------------------------------------------------------------------------


def test_a_block_is_one_request_with_its_time(metrics):
    with metrics.request(batch_size=8) as request:
        assert metrics.current_request is request
        assert (totals(metrics), in_flight(metrics)) == ((0, 0), 1)
    assert (totals(metrics), in_flight(metrics)) == ((1, 0), 0)
    assert metrics.current_request is None
    figures = metrics.get_statistics()
    assert figures["max_batch_size"] == 8.0
    assert figures["max_inference_time"] == pytest.approx(request.elapsed)
    assert request.elapsed > 0.0


def test_what_the_block_says_of_its_request_counts(metrics):
    with metrics.request(batch_size=8) as request:
        request.batch_size, request.preprocessing_time, request.inference_time = 3, 0.25, 0.5
    figures = metrics.get_statistics()
    assert (figures["max_batch_size"], figures["max_preprocessing_time"], figures["max_inference_time"]) == (
        3,
        0.25,
        0.5,
    )


def test_a_request_that_is_discarded_is_not_recorded(metrics):
    with metrics.request() as request:
        request.discard()
        request.fail()
    request.fail()
    assert (totals(metrics), in_flight(metrics)) == ((0, 0), 0)


@pytest.mark.parametrize(
    ("error", "errors"),
    [
        (ValueError("x"), 1),
        (SystemExit(1), 1),
        (KeyboardInterrupt(), 1),
        (asyncio.CancelledError(), 0),
        (GeneratorExit(), 0),
        (concurrent.futures.CancelledError(), 1),  # an Exception: of something else that was cancelled
    ],
    ids=repr,
)
def test_an_exception_is_an_error_unless_it_stops_the_block_from_outside(metrics, error, errors):
    with pytest.raises(type(error)) as caught, metrics.request():
        raise error
    assert caught.value is error
    assert totals(metrics) == (1, errors)
    assert in_flight(metrics) == 0


def test_a_block_within_a_request_is_its_inference_stage(metrics):
    with metrics.request() as outer:
        for _ in range(2):
            with metrics.request(batch_size=8) as inner:
                assert inner is outer
        with pytest.raises(ValueError, match="x"), metrics.request():
            raise ValueError("x")  # which the outer one gets over
    assert totals(metrics) == (1, 0)
    assert batch_size(metrics) == 16.0
    assert metrics.get_statistics()["max_inference_time"] < outer.elapsed


def test_a_batch_size_that_is_no_number_is_an_error_before_anything_begins(metrics):
    with pytest.raises(TypeError):
        metrics.request(batch_size="x")
    with pytest.raises(TypeError, match="must be a number"):
        metrics.measure(batch_size="x")(len)
    assert (totals(metrics), in_flight(metrics)) == ((0, 0), 0)


# Functions ------------------------------------------------------------------------------------------------------------


def test_each_call_of_a_function_is_a_request(metrics):
    @metrics.measure(batch_size=len)
    def double(batch):
        """Doc."""
        return batch * 2

    assert [double([1]), double(batch=[2, 3])] == [[1, 1], [2, 3, 2, 3]]
    assert totals(metrics) == (2, 0)
    figures = metrics.get_statistics()
    assert (figures["min_batch_size"], figures["max_batch_size"]) == (1.0, 2.0)
    assert (double.__name__, double.__doc__) == ("double", "Doc.")


def test_a_number_is_a_batch_size_too(metrics):
    metrics.measure(batch_size=4)(lambda: None)()
    assert batch_size(metrics) == 4.0


def test_a_method_is_measured_like_a_function(metrics):
    class Model:
        @metrics.measure(batch_size=lambda self, batch: len(batch))
        def predict(self, batch):
            return self, batch

    model = Model()
    assert model.predict([1, 2]) == (model, [1, 2])
    assert batch_size(metrics) == 2.0


@pytest.mark.parametrize("garbage", [lambda batch: 1 / 0, lambda: 1, lambda batch: "many", lambda batch: None])
def test_a_batch_size_that_cannot_be_told_never_reaches_the_request(metrics, garbage, caplog):
    with caplog.at_level(logging.WARNING, "shmetrics"):
        assert metrics.measure(batch_size=garbage)(len)([1, 2, 3]) == 3
    assert batch_size(metrics) == 1.0
    assert "batch size of a measured call" in caplog.text


def test_an_exception_is_an_error_and_passes_unchanged(metrics):
    error = ValueError("x")

    @metrics.measure
    def fail():
        raise error

    with pytest.raises(ValueError, match="x") as caught:
        fail()
    assert caught.value is error
    assert totals(metrics) == (1, 1)


@pytest.mark.parametrize("nothing", [5, "preprocessing", None, []], ids=repr)
def test_what_cannot_be_called_cannot_be_decorated(metrics, nothing):
    with pytest.raises(TypeError, match="only functions can be decorated"):
        metrics.stage("inference")(nothing)
    if nothing is not None:
        with pytest.raises(TypeError, match="only functions can be decorated"):
            metrics.measure(nothing)


def test_measured_functions_that_call_each_other_are_one_request(metrics):
    @metrics.stage("preprocessing")
    def prepare(batch):
        return batch

    @metrics.measure(batch_size=len)
    def part(batch):
        return sum(prepare(batch))

    @metrics.measure
    def whole(batch):
        return part(batch[:2]) + part(batch[2:])

    assert whole([1, 2, 3]) == 6
    assert totals(metrics) == (1, 0)
    assert batch_size(metrics) == 3.0
    assert metrics.get_statistics()["max_preprocessing_time"] > 0.0


# Coroutines -----------------------------------------------------------------------------------------------------------


def test_each_call_of_a_coroutine_function_is_a_request(metrics):
    @metrics.measure(batch_size=len)
    async def double(batch):
        with metrics.stage("preprocessing"):
            await asyncio.sleep(0.001)
        assert metrics.current_request is not None
        return batch * 2

    async def main():
        assert await asyncio.gather(*(double([number]) for number in range(500))) == [[n, n] for n in range(500)]
        assert metrics.current_request is None

    assert inspect.iscoroutinefunction(double)
    asyncio.run(main())
    assert totals(metrics) == (500, 0)
    assert metrics.get_statistics()["min_preprocessing_time"] >= 0.001
    assert in_flight(metrics) == 0


def test_a_partial_of_a_coroutine_function_is_one_too(metrics):
    async def answer(value):
        await asyncio.sleep(0)
        return value

    measured = metrics.measure(functools.partial(answer, 5))
    assert asyncio.run(measured()) == 5
    assert totals(metrics) == (1, 0)


def test_a_cancelled_coroutine_is_a_request_and_no_error(metrics):
    @metrics.measure
    async def hang():
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert (totals(metrics), in_flight(metrics)) == ((1, 0), 0)


# Generators -----------------------------------------------------------------------------------------------------------


def conversation():
    """A generator that answers what it is sent, and what is thrown into it."""
    said = yield "begun"
    while said != "end":
        try:
            said = yield said
        except KeyError as error:
            said = yield repr(error)
    return "ended"


def talk(generator):
    """All that such a generator says."""
    heard = [next(generator), generator.send("one"), generator.throw(KeyError("two")), generator.send("three")]
    with pytest.raises(StopIteration) as stop:
        generator.send("end")
    return [*heard, stop.value.value]


def test_a_generator_is_one_request_and_works_as_before(metrics):
    measured = metrics.measure(conversation)
    assert inspect.isgeneratorfunction(measured)
    generator = measured()
    assert (totals(metrics), in_flight(metrics)) == ((0, 0), 0)
    assert talk(generator) == talk(conversation())
    assert (totals(metrics), in_flight(metrics)) == ((1, 0), 0)


def test_a_generator_is_in_flight_while_its_consumer_works_and_not_charged_for_it(metrics):
    @metrics.measure
    def generate():
        for _ in range(3):
            with metrics.stage("preprocessing"):
                pass
            yield

    for _ in generate():
        assert metrics.current_request is None
        assert in_flight(metrics) == 1  # which takes long, and is not the generator's time
        time.sleep(0.02)
    figures = metrics.get_statistics()
    assert figures["total_requests"] == 1
    assert figures["max_total_time"] < 3 * 0.02


def test_a_generator_that_its_consumer_leaves_is_recorded_and_no_error(metrics):
    measured = metrics.measure(conversation)
    generator = measured()
    next(generator)
    generator.close()
    generator = measured()
    next(generator)
    del generator
    gc.collect()
    measured().close()  # never begun: no request
    assert (totals(metrics), in_flight(metrics)) == ((2, 0), 0)


def test_an_exception_in_a_generator_is_an_error(metrics):
    @metrics.measure
    def fail():
        yield 1
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        list(fail())
    generator = metrics.measure(conversation)()
    next(generator)
    with pytest.raises(TypeError):
        generator.throw(TypeError("not expected"))
    assert (totals(metrics), in_flight(metrics)) == ((2, 2), 0)


def test_an_asynchronous_generator_is_one_request_and_works_as_before(metrics):
    closed = []

    async def conversation():
        said = yield "begun"
        try:
            while said != "end":
                try:
                    said = yield said
                except KeyError as error:
                    said = yield repr(error)
        finally:
            await asyncio.sleep(0)
            closed.append(said)

    async def talk(generator):
        heard = [await generator.asend(None), await generator.asend("one"), await generator.athrow(KeyError("two"))]
        assert metrics.current_request is None
        with pytest.raises(StopAsyncIteration):
            await generator.asend("end")
        return heard

    async def main():
        measured = metrics.measure(conversation)
        assert inspect.isasyncgenfunction(measured)
        assert await talk(measured()) == await talk(conversation())
        assert (totals(metrics), in_flight(metrics)) == ((1, 0), 0)
        generator = measured()
        await anext(generator)
        await generator.asend("left")
        assert in_flight(metrics) == 1
        await generator.aclose()
        with pytest.raises(ZeroDivisionError):
            async for _ in metrics.measure(failing)():
                pass

    async def failing():
        yield 1
        raise ZeroDivisionError

    asyncio.run(main())
    assert closed == ["end", "end", "left"]
    assert (totals(metrics), in_flight(metrics)) == ((3, 1), 0)


def test_a_decorated_stage_has_all_four_kinds(metrics):
    preprocessing = metrics.stage("preprocessing")

    @preprocessing
    def function():
        return metrics.current_request

    @preprocessing
    async def coroutine():
        return metrics.current_request

    @preprocessing
    def generator():
        yield metrics.current_request

    @preprocessing
    async def asynchronous_generator():
        yield metrics.current_request

    async def main():
        with metrics.request() as request:
            found = [function(), await coroutine(), *generator(), *[item async for item in asynchronous_generator()]]
            assert found == [request] * 4

    asyncio.run(main())
    assert metrics.get_statistics()["max_preprocessing_time"] > 0.0


# Threads and processes ------------------------------------------------------------------------------------------------


def test_threads_measure_apart_from_each_other(metrics):
    @metrics.measure(batch_size=lambda index: index)
    def work(index):
        with metrics.stage("preprocessing"):
            assert metrics.current_request is not None

    run_in_threads(8, lambda index: [work(index) for _ in range(200)])
    assert totals(metrics) == (1600, 0)
    assert in_flight(metrics) == 0


def _measure(metrics, index):
    for _ in range(10):
        with metrics.request(batch_size=index):
            pass


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_start_method_measure(metrics, method):
    run_in_processes(method, 3, _measure, metrics)
    assert totals(metrics) == (30, 0)


def test_a_child_forked_within_a_request_measures_requests_of_its_own(metrics):
    """The parent's is the parent's: what took itself for a part of it in the child would never be recorded."""
    with metrics.request(), metrics.stage("preprocessing"):
        in_forked_child(lambda: _measure(metrics, 1))
        assert metrics.current_request is not None
    assert totals(metrics) == (11, 0)


def test_a_request_that_returned_survives_sigkill(metrics):
    def die():
        with metrics.request():
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(die), 0)[1]) == -signal.SIGKILL
    assert totals(metrics) == (1, 0)
