"""Timing, counting exceptions and counting in progress: around blocks, functions and coroutines."""

import asyncio
import inspect

import pytest
from prometheus_client import CollectorRegistry

from shmetrics.exporters.prometheus import Counter, Gauge, Histogram, Summary


@pytest.fixture
def registry(hub):
    return CollectorRegistry()


def test_a_coroutine_function_is_timed_while_it_runs_and_stays_one(registry):
    histogram = Histogram("h", "help", buckets=[0.01, 60], registry=registry)
    running = Gauge("running", "help", registry=registry)
    failed = Counter("failed", "help", registry=registry)
    seen = []

    @failed.count_exceptions(KeyError)
    @running.track_inprogress()
    @histogram.time()
    async def answer(question):
        """Say it."""
        await asyncio.sleep(0.02)
        seen.append(registry.get_sample_value("running", {"worker": "0"}))
        raise KeyError(question)

    async def ask():
        await asyncio.gather(*(answer(n) for n in range(3)), return_exceptions=True)

    assert inspect.iscoroutinefunction(answer)
    assert (answer.__name__, answer.__doc__) == ("answer", "Say it.")
    asyncio.run(ask())
    assert seen == [3.0, 2.0, 1.0]
    assert registry.get_sample_value("failed_total") == 3.0
    assert registry.get_sample_value("h_bucket", {"le": "0.01"}) == 0.0
    assert registry.get_sample_value("h_bucket", {"le": "60.0"}) == 3.0


def test_a_decorated_function_keeps_its_signature_and_result(registry):
    @Summary("s", "help", registry=registry).time()
    def add(a, b=2):
        """Add."""
        return a + b

    assert add(1) == 3
    assert str(inspect.signature(add)) == "(a, b=2)"
    assert registry.get_sample_value("s_count") == 1.0


def test_a_function_that_calls_itself_is_timed_at_each_call(registry):
    @Summary("s", "help", registry=registry).time()
    def down(depth):
        return depth and down(depth - 1)

    down(4)
    assert registry.get_sample_value("s_count") == 5.0


def test_labels_may_be_chosen_while_the_block_runs(registry):
    histogram = Histogram("h", "help", ["code"], registry=registry)
    with histogram.time() as timer:
        timer.labels(code="200")
    assert timer.duration >= 0.0
    assert registry.get_sample_value("h_count", {"code": "200"}) == 1.0


def test_a_gauge_is_set_to_the_time_a_block_took(registry):
    gauge = Gauge("g", "help", registry=registry, multiprocess_mode="max")
    with gauge.time():
        pass
    assert 0.0 <= registry.get_sample_value("g") < 10.0


def test_a_block_that_raises_is_timed_and_ends_in_progress(registry):
    summary = Summary("s", "help", registry=registry)
    gauge = Gauge("g", "help", registry=registry, multiprocess_mode="sum")
    with pytest.raises(OSError, match="why"), summary.time(), gauge.track_inprogress():
        raise OSError("why")
    assert registry.get_sample_value("s_count") == 1.0
    assert registry.get_sample_value("g") == 0.0


def test_only_exceptions_of_the_types_asked_for_are_counted(registry):
    counter = Counter("c", "help", registry=registry)
    for error in (KeyError, ValueError, KeyboardInterrupt):
        with pytest.raises(error), counter.count_exceptions((LookupError, KeyboardInterrupt)):
            raise error
    with counter.count_exceptions():
        pass
    assert registry.get_sample_value("c_total") == 2.0
