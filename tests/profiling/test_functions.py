"""Profiled functions of every kind: what counts as a call, as time and as an error."""

import asyncio
import contextvars
import functools
import itertools
import os
import pickle
import threading

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.profiling.families import BOUNDS
from shmetrics.profiling.profiler import Profiler
from shmetrics.profiling.slowest import REMEMBERED
from tests.processes import in_forked_child, run_in_threads

pytestmark = pytest.mark.usefixtures("written_in")


def took(profiler, name):
    results = profiler.get_profile_results(name)
    return results["total_calls"], pytest.approx(results["total_time"])


def test_a_function_counts_its_calls_and_their_time(profiler, clock):
    @profiler.profile_function
    def work(seconds, *, answer):
        """Works."""
        clock.now += seconds
        return answer

    assert [work(seconds, answer=seconds) for seconds in (1.0, 2.0, 3.0)] == [1.0, 2.0, 3.0]
    results = profiler.get_profile_results("work")
    assert (results["total_calls"], results["total_time"], results["avg_time_per_call"]) == (3, 6.0, 2.0)
    assert (work.__name__, work.__doc__) == ("work", "Works.")
    assert results["function"].endswith("test_functions:work")


def test_methods_of_all_kinds_are_profiled_with_the_decorators_in_either_order(profiler, clock):
    class Model:
        @profiler.profile_function
        def predict(self, x):
            clock.now += 1.0
            return self, x

        @profiler.profile_function
        @staticmethod
        def above(x):
            return x

        @staticmethod
        @profiler.profile_function
        def below(x):
            return x

        @profiler.profile_function
        @classmethod
        def made(cls):
            return cls

        @classmethod
        @profiler.profile_function
        def made_below(cls):
            return cls

    model = Model()
    assert model.predict(3) == (model, 3)
    assert (Model.above(1), model.above(2), Model.below(3), model.below(4)) == (1, 2, 3, 4)
    assert Model.made() is model.made() is Model.made_below() is model.made_below() is Model
    calls = {
        name: profiler.get_profile_results(f"Model.{name}")["total_calls"]
        for name in ("predict", "above", "below", "made", "made_below")
    }
    assert calls == {"predict": 1, "above": 2, "below": 2, "made": 2, "made_below": 2}


def test_a_recursive_function_counts_each_call_and_its_time_once(profiler, clock):
    @profiler.profile_function
    def fall(depth):
        clock.now += 1.0
        if depth:
            fall(depth - 1)

    fall(4)
    assert took(profiler, "fall") == (5, 5.0)
    results = profiler.get_profile_results("fall")
    assert results["self_time"] == 5.0
    assert results["time_breakdown"] == {"(own code)": 5.0}


def test_functions_that_call_each_other_have_every_moment_once(profiler, clock):
    @profiler.profile_function
    def even(n):
        clock.now += 1.0
        return n == 0 or odd(n - 1)

    @profiler.profile_function
    def odd(n):
        clock.now += 10.0
        return n != 0 and even(n - 1)

    assert even(4)  # even 4, odd 3, even 2, odd 1, even 0
    evens, odds = profiler.get_profile_results("even"), profiler.get_profile_results("odd")
    assert (evens["total_calls"], evens["total_time"], evens["self_time"]) == (3, 23.0, 3.0)
    assert (odds["total_calls"], odds["total_time"], odds["self_time"]) == (2, 22.0, 20.0)
    assert list(evens["time_breakdown"].values()) == [20.0, 3.0]
    assert list(odds["time_breakdown"].values()) == [20.0, 2.0]


def test_what_other_profiled_functions_take_is_not_a_functions_own(profiler, clock):
    @profiler.profile_function
    def inner():
        clock.now += 2.0

    @profiler.profile_function
    def outer():
        clock.now += 1.0
        inner()
        inner()

    outer()
    results = profiler.get_profile_results("outer")
    assert (results["total_time"], results["self_time"]) == (5.0, 1.0)
    assert list(results["time_breakdown"].items()) == [
        (profiler.get_profile_results("inner")["function"], 4.0),
        ("(own code)", 1.0),
    ]


def test_an_exception_goes_through_and_counts_as_an_error(profiler, clock):
    @profiler.profile_function
    def fail():
        clock.now += 2.0
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    results = profiler.get_profile_results("fail")
    assert (results["total_calls"], results["total_errors"], results["total_time"]) == (1, 1, 2.0)
    assert results["slowest_calls"][0]["error"] == "ValueError"


def test_what_an_iterator_says_at_its_end_is_no_error(profiler):
    class Countdown:
        def __iter__(self):
            return self

        @profiler.profile_function
        def __next__(self):
            raise StopIteration

    assert list(Countdown()) == []
    assert profiler.get_profile_results("Countdown.__next__")["total_errors"] == 0


def test_threads_count_together_and_are_in_no_call_of_each_other(metrics):
    profiler = Profiler(metrics)

    @profiler.profile_function
    def inner():
        pass

    @profiler.profile_function
    def outer():
        inner()

    run_in_threads(4, lambda _: [outer() for _ in range(500)])
    assert profiler.get_profile_results("outer")["total_calls"] == 2000
    results = profiler.get_profile_results("inner")
    assert results["total_calls"] == 2000
    assert results["self_time"] == results["total_time"]


def test_a_thread_with_a_copy_of_the_context_is_part_of_the_call_that_waits_for_it(profiler, clock):
    @profiler.profile_function
    def part():
        clock.now += 2.0

    @profiler.profile_function
    def whole():
        thread = threading.Thread(target=contextvars.copy_context().run, args=(part,))
        thread.start()
        thread.join()

    whole()
    assert profiler.get_profile_results("whole")["self_time"] == 0.0


def test_a_call_that_forks_is_counted_by_the_parent_alone(profiler, clock):
    @profiler.profile_function
    def work(child):
        clock.now += 1.0
        return child()

    @profiler.profile_function
    def outer():
        pid = os.fork()
        clock.now += 1.0
        work(lambda: None)
        return pid

    def run():
        pid = outer()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    in_forked_child(run)
    assert took(profiler, "outer") == (1, 2.0)
    assert took(profiler, "work") == (2, 2.0)


def test_a_function_decorated_before_a_fork_counts_in_the_children(profiler, clock):
    @profiler.profile_function
    def work():
        clock.now += 2.0

    work()
    for _ in range(3):
        in_forked_child(lambda: (work(), work()))
    results = profiler.get_profile_results("work")
    assert (results["total_calls"], results["total_time"]) == (7, 14.0)
    assert sorted(row["total_calls"] for row in results["workers"]) == [1, 2, 2, 2]
    assert [call["pid"] for call in results["slowest_calls"]].count(os.getpid()) == 1


def test_the_slowest_calls_are_remembered_with_their_parts(profiler, clock):
    @profiler.profile_function
    def work(seconds):
        with profiler.stage("stage"):
            clock.now += seconds

    for seconds in range(1, 31):
        work(seconds / 10)
    slowest = profiler.get_profile_results("work")["slowest_calls"]
    assert len(slowest) == REMEMBERED
    assert [call["time"] for call in slowest] == pytest.approx([seconds / 10 for seconds in range(30, 20, -1)])
    assert slowest[0]["parts"] == {"stage": pytest.approx(3.0)}
    assert slowest[0]["worker"] == 0


def test_a_clock_that_goes_back_counts_nothing(profiler, clock):
    @profiler.profile_function
    def back():
        clock.now -= 1.0

    back()
    assert took(profiler, "back") == (0, 0.0)


def test_an_interrupted_call_leaves_nothing_under_way(profiler):
    from shmetrics.profiling import calls

    @profiler.profile_function
    def interrupted():
        profiler.stage("left open").__enter__()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert calls.innermost() is None
    assert profiler.get_profile_results("interrupted")["total_errors"] == 1


def test_names_are_given_or_made_of_module_and_function(profiler):
    def named():
        pass

    profiler.profile_function(named)
    profiler.profile_function(name="another name")(named)
    profiler.profile_function(functools.partial(named))
    profiler.profile_function(len, name="length")
    with pytest.raises(KeyError, match=r"another name.*length.*test_functions:named"):
        profiler.get_profile_results("x")
    assert profiler.profile_function(len, name="length")("abc") == 3


def test_what_cannot_be_profiled_is_refused_at_once(profiler):
    with pytest.raises(TypeError, match="wanted a function"):
        profiler.profile_function(3)
    with pytest.raises(TypeError, match=r"wanted a function.*; decorate its methods"):
        profiler.profile_function(Profiler)
    with pytest.raises(TypeError, match="; decorate the function, and make that a property"):
        profiler.profile_function(property(len))
    with pytest.raises(TypeError, match=r"; a name is given as profile_function\(name='predict'\)"):
        profiler.profile_function("predict")
    with pytest.raises(TypeError, match="must be a text"):
        profiler.profile_function(name="")(len)
    with pytest.raises(TypeError, match="wanted PerformanceMetrics"):
        Profiler("resnet")


def test_a_profiled_function_of_a_module_pickles_as_what_it_is(metrics):
    global _picklable  # noqa: PLW0603
    _picklable = Profiler(metrics).profile_function(_picklable)
    assert pickle.loads(pickle.dumps(_picklable)) is _picklable


def _picklable():
    pass


def test_fifty_functions_fit_into_a_default_hub():
    with PerformanceMetrics() as metrics:
        profiler = Profiler(metrics)
        for number in range(50):

            @profiler.profile_function(name=f"package.module_{number}:Class.function")
            def work():
                for stage in "abcde":
                    with profiler.stage(f"stage {stage}"):
                        pass

            work()
        health = metrics.snapshot().health
        assert health.refused_series == 0
        assert health.cells_used < 0.6 * health.cells_total
        assert health.catalog_used < 0.4 * health.catalog_total


def test_a_function_with_parts_without_end_keeps_the_catalog_small(profiler, clock):
    @profiler.profile_function
    def work(number):
        with profiler.stage(f"stage {number}"):
            clock.now += 1.0

    for number in range(60):
        work(number)
    breakdown = profiler.get_profile_results("work")["time_breakdown"]
    assert len(breakdown) == 41
    assert breakdown["(other)"] == 20.0
    assert sum(breakdown.values()) == pytest.approx(60.0)


def test_calls_go_on_when_the_hub_is_full(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=16) as metrics:
        profiler = Profiler(metrics)
        functions = [profiler.profile_function(name=f"f{number}")(lambda: 3) for number in range(5)]
        assert [function() for function in functions] == [3] * 5
        with pytest.raises(KeyError, match=r"no room for 'f4'.*larger max_series"):
            profiler.get_profile_results("f4")


def test_an_object_that_can_be_called_is_what_its_call_is(profiler, clock):
    class Model:
        async def __call__(self, seconds):
            await asyncio.sleep(0)
            clock.now += seconds
            return seconds

    call = profiler.profile_function(name="model")(Model())
    assert asyncio.run(call(2.0)) == 2.0
    assert profiler.kind("model") == "coroutine"
    assert profiler.get_profile_results("model")["total_time"] == 2.0


def test_calls_go_on_when_the_hub_is_closed(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        profiled = Profiler(metrics).profile_function(lambda: 3)
        profiled()
    assert profiled() == 3


def test_bounds_are_ten_to_a_decade():
    assert len(BOUNDS) == 81
    assert (BOUNDS[0], BOUNDS[-1]) == (1e-6, 100.0)
    assert max(above / below for below, above in itertools.pairwise(BOUNDS)) <= 1.2801


def test_what_a_signal_handler_raises_at_the_worst_moment_leaves_no_call_under_way(metrics, clock):
    """Such as while the clock is read at the end of a call, and again while that is dealt with."""
    raising = []

    def interrupted():
        if raising:
            raise TimeoutError
        return clock()

    profiler = Profiler(metrics, clock=interrupted)

    @profiler.profile_function
    def work(soon):
        clock.now += 1.0
        raising.extend([None] * soon)

    @profiler.profile_function
    def steps(soon):
        work(soon)
        yield

    for call in (work, lambda soon: list(steps(soon))):
        with pytest.raises(TimeoutError):
            call(True)
        raising.clear()
        call(False)
    work(False)
    results = profiler.get_profile_results("work")
    assert (results["total_calls"], results["total_time"]) == (3, 3.0)
    assert took(profiler, "steps") == (2, 1.0)


def test_a_stage_that_is_left_open_ends_with_the_call_that_it_is_in(profiler, clock):
    @profiler.profile_function
    def inner():
        profiler.stage("left open").__enter__()
        clock.now += 1.0

    @profiler.profile_function
    def outer():
        inner()
        with profiler.stage("stage"):
            clock.now += 1.0

    outer()
    results = profiler.get_profile_results("outer")
    inner_name = profiler.get_profile_results("inner")["function"]
    assert results["time_breakdown"] == {inner_name: 1.0, "stage": 1.0}
