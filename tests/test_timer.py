"""Blocks and calls that are timed into a histogram or a summary."""

import asyncio
import itertools

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.timer import Timer


class Told(list):
    """What was observed, by a clock that ticks once a look."""

    def timer(self):
        return Timer(self.append, itertools.count().__next__)


@pytest.fixture
def told():
    return Told()


def test_a_block_tells_its_seconds(told):
    with told.timer():
        pass
    assert told == [1]


def test_a_block_that_raises_is_timed_and_raises(told):
    with pytest.raises(ZeroDivisionError), told.timer():
        raise ZeroDivisionError
    assert told == [1]


def test_each_call_of_a_function_tells_its_seconds_and_stays_the_function_that_it_was(told):
    @told.timer()
    def double(number):
        """Twice as much."""
        return 2 * number

    assert (double(2), double(number=3)) == (4, 6)
    assert told == [1, 1]
    assert (double.__name__, double.__doc__) == ("double", "Twice as much.")


def test_calls_of_one_function_at_once_are_timed_each_for_itself(told):
    @told.timer()
    def descend(levels):
        if levels:
            descend(levels - 1)

    descend(2)
    assert told == [1, 3, 5]


def test_a_call_that_raises_is_timed(told):
    @told.timer()
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert told == [1]


def test_a_coroutine_is_timed_while_it_runs_and_not_while_it_is_made(told):
    @told.timer()
    async def answer():
        await asyncio.sleep(0)
        return 42

    coroutine = answer()
    assert told == []
    assert asyncio.run(coroutine) == 42
    assert told == [1]


def test_a_generator_is_timed_once_without_what_its_consumer_does(told):
    @told.timer()
    def tokens():
        yield "a"
        yield "b"

    assert list(tokens()) == ["a", "b"]
    assert told == [3]  # of each step one tick: two values, and the end


@pytest.mark.parametrize("kind", ["histogram", "summary"])
def test_histograms_and_summaries_time_with_labels_and_without(kind):
    with PerformanceMetrics(window_size=16, max_workers=2) as metrics:
        custom = CustomMetrics(metrics)
        alone = getattr(custom, kind)("seconds_alone")
        labelled = getattr(custom, kind)("seconds_labelled", labels=["model"])
        with alone.time():
            pass
        with labelled.labels(model="a").time():
            pass
        labelled.labels(model="a").time()(lambda: None)()
        found = custom.get_all_metrics()
        assert [found[name]["series"][0]["count"] for name in ("seconds_alone", "seconds_labelled")] == [1, 2]


def test_what_cannot_be_called_cannot_be_timed(told):
    with pytest.raises(TypeError, match="only functions can be decorated, not 3"):
        told.timer()(3)
