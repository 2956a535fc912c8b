"""What is under way: calls that are over stay in their context, and are passed over there."""

import asyncio
import contextvars
import gc
import weakref

import pytest

from shmetrics.profiling import calls
from tests.processes import run_in_threads

pytestmark = pytest.mark.usefixtures("written_in")


def took(profiler, name):
    results = profiler.get_profile_results(name)
    return results["total_calls"], pytest.approx(results["total_time"]), pytest.approx(results["self_time"])


def test_after_a_call_nothing_is_under_way_however_deep_it_went(profiler):
    @profiler.profile_function
    def fall(depth):
        if depth:
            fall(depth - 1)

    @profiler.profile_function
    def other():
        fall(3)
        assert calls.innermost() is not None

    other()
    assert calls.innermost() is None


def test_a_call_in_a_context_that_was_copied_after_one_was_over_is_in_no_other(profiler, clock):
    @profiler.profile_function
    def work(seconds):
        clock.now += seconds

    work(1.0)
    contexts = [contextvars.copy_context() for _ in range(4)]
    run_in_threads(4, lambda number: contexts[number].run(work, 0.0))
    work(2.0)
    assert took(profiler, "work") == (6, 3.0, 3.0)


def test_a_copy_of_a_context_that_was_made_after_an_inner_call_is_in_the_one_around_it(profiler, clock):
    @profiler.profile_function
    def inner():
        clock.now += 1.0

    @profiler.profile_function
    def outer():
        inner()
        contextvars.copy_context().run(inner)
        inner()
        clock.now += 1.0

    outer()
    assert took(profiler, "inner") == (3, 3.0, 3.0)
    assert took(profiler, "outer") == (1, 4.0, 1.0)


def test_calls_of_tasks_that_wait_for_one_another_are_each_in_their_own(profiler, clock):
    @profiler.profile_function
    def step():
        clock.now += 1.0

    @profiler.profile_function
    async def ask(seconds):
        for _ in range(3):
            step()
            await asyncio.sleep(0)
        clock.now += seconds

    async def main():
        step()
        await asyncio.gather(ask(0.0), ask(0.0))
        step()

    asyncio.run(main())
    calls_, _, own = took(profiler, "step")
    assert (calls_, own) == (8, 8.0)
    parts = profiler.get_profile_results("ask")["time_breakdown"]
    assert parts[profiler.get_profile_results("step")["function"]] == 6.0


def test_a_coroutine_that_a_call_begins_and_leaves_counts_when_it_is_let_go_of(profiler, clock):
    @profiler.profile_function
    async def ask():
        clock.now += 1.0
        await asyncio.sleep(0)

    @profiler.profile_function
    def begins():
        coroutine = ask()
        coroutine.send(None)
        return coroutine

    begins().close()
    assert took(profiler, "ask") == (1, 1.0, 1.0)
    assert profiler.get_profile_results("ask")["total_errors"] == 0
    assert took(profiler, "begins") == (1, 1.0, 1.0)
    assert calls.innermost() is None


def test_of_a_coroutine_that_is_cancelled_the_call_counts_and_is_no_error(profiler, clock):
    @profiler.profile_function
    async def wait():
        clock.now += 1.0
        await asyncio.sleep(3600)

    @profiler.profile_function
    async def fail():
        raise ValueError("no")

    async def main():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, fail(), return_exceptions=True)

    asyncio.run(main())
    assert took(profiler, "wait") == (1, 1.0, 1.0)
    errors = {name: profiler.get_profile_results(name)["total_errors"] for name in ("wait", "fail")}
    assert errors == {"wait": 0, "fail": 1}


def test_what_a_call_was_given_is_not_kept_after_it(profiler):
    class Large:
        pass

    @profiler.profile_function
    def work(_given):
        return None

    large = Large()
    work(large)
    gone = weakref.ref(large)
    del large
    gc.collect()
    assert gone() is None


def test_parts_that_are_more_than_one_are_each_written(profiler, clock):
    functions = []
    for number in range(3):

        @profiler.profile_function(name=f"part {number}")
        def part(seconds):
            clock.now += seconds

        functions.append(part)

    @profiler.profile_function
    def whole(times):
        for _ in range(times):
            for number, part in enumerate(functions):
                part(2.0**number)

    whole(1)
    whole(100)
    breakdown = profiler.get_profile_results("whole")["time_breakdown"]
    assert [breakdown[f"part {number}"] for number in range(3)] == [101.0, 202.0, 404.0]
    assert took(profiler, "whole") == (2, 707.0, 0.0)
