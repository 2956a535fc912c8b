"""Stages of profiled functions, and how time is divided between them."""

import asyncio
import contextvars
import logging

import pytest

from shmetrics.profiling.profiler import Profiler
from tests.processes import run_in_threads


def breakdown(profiler, name):
    return profiler.get_profile_results(name)["time_breakdown"]


def test_the_time_of_a_function_is_divided_into_its_stages_and_the_rest(profiler, clock):
    @profiler.profile_function
    def work():
        with profiler.stage("features"):
            clock.now += 6.0
        with profiler.stage("inference"):
            clock.now += 3.0
        clock.now += 1.0

    work()
    work()
    assert list(breakdown(profiler, "work").items()) == [
        ("features", 12.0),
        ("inference", 6.0),
        ("(outside of stages)", 2.0),
    ]


def test_a_stages_time_is_without_that_of_the_stages_in_it(profiler, clock):
    @profiler.profile_function
    def work():
        with profiler.stage("outer"):
            clock.now += 1.0
            with profiler.stage("inner"):
                clock.now += 2.0
                with profiler.stage("outer"):
                    clock.now += 4.0
            clock.now += 8.0

    work()
    assert breakdown(profiler, "work") == {"outer": 13.0, "inner": 2.0}


def test_a_stage_has_the_time_of_the_functions_that_it_calls(profiler, clock):
    @profiler.profile_function
    def predict():
        with profiler.stage("matrices"):
            clock.now += 2.0

    @profiler.profile_function
    def handle():
        with profiler.stage("inference"):
            clock.now += 1.0
            predict()
        predict()

    handle()
    name = profiler.get_profile_results("predict")["function"]
    assert breakdown(profiler, "handle") == {"inference": 3.0, name: 2.0}
    assert breakdown(profiler, "predict") == {"matrices": 4.0}
    assert profiler.get_profile_results("handle")["self_time"] == 1.0


def test_a_stage_of_a_recursive_function_has_every_moment_once(profiler, clock):
    @profiler.profile_function
    def walk(depth):
        with profiler.stage("own"):
            clock.now += 1.0
        with profiler.stage("below"):
            clock.now += 10.0
            if depth:
                walk(depth - 1)
        clock.now += 100.0

    walk(2)
    results = profiler.get_profile_results("walk")
    assert results["total_time"] == 333.0
    assert results["time_breakdown"] == {"(outside of stages)": 300.0, "below": 30.0, "own": 3.0}
    assert results["self_time"] == 333.0


def test_stages_of_functions_that_call_each_other_have_every_moment_once(profiler, clock):
    @profiler.profile_function
    def ping(depth):
        with profiler.stage("stage"):
            clock.now += 1.0
            pong(depth)
        clock.now += 2.0

    @profiler.profile_function
    def pong(depth):
        clock.now += 10.0
        if depth:
            ping(depth - 1)

    ping(2)
    results = profiler.get_profile_results("ping")
    assert (results["total_time"], results["self_time"]) == (39.0, 9.0)
    assert results["time_breakdown"] == {"stage": 33.0, "(outside of stages)": 6.0}


def test_an_exception_ends_a_stage(profiler, clock):
    @profiler.profile_function
    def work():
        try:
            with profiler.stage("failing"):
                clock.now += 2.0
                raise ValueError
        except ValueError:
            clock.now += 1.0

    work()
    assert breakdown(profiler, "work") == {"failing": 2.0, "(outside of stages)": 1.0}


def test_stages_of_tasks_that_take_turns_stay_apart(profiler, clock):
    @profiler.profile_function
    async def work(seconds, name):
        with profiler.stage(name):
            await asyncio.sleep(0)
            clock.now += seconds
            await asyncio.sleep(0)
        with profiler.stage("after"):
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(work(1.0, "a"), work(2.0, "b"))

    asyncio.run(main())
    results = profiler.get_profile_results("work")
    assert set(results["time_breakdown"]) <= {"a", "b", "after", "(outside of stages)"}
    assert sum(results["time_breakdown"].values()) == pytest.approx(results["total_time"])
    assert results["time_breakdown"]["a"] == results["time_breakdown"]["b"] == 3.0


def test_threads_with_a_copy_of_the_context_have_stages_of_the_same_call(profiler, clock):
    @profiler.profile_function
    def work():
        contexts = [contextvars.copy_context() for _ in range(4)]

        def part(number):
            with profiler.stage(f"part {number}"):
                pass

        run_in_threads(4, lambda number: contexts[number].run(part, number))
        clock.now += 1.0
        with profiler.stage("end"):
            clock.now += 1.0

    work()
    assert breakdown(profiler, "work") == {"end": 1.0, "(outside of stages)": 1.0}


def test_a_stage_decorates_functions_of_all_kinds(profiler, clock):
    @profiler.stage("plain")
    def plain():
        clock.now += 1.0

    @profiler.stage("values")
    def values():
        clock.now += 2.0
        yield
        clock.now += 2.0

    @profiler.stage("ask")
    async def ask():
        clock.now += 8.0

    @profiler.profile_function
    async def work():
        plain()
        for _ in values():
            clock.now += 16.0
        await ask()

    asyncio.run(work())
    assert breakdown(profiler, "work") == {"(outside of stages)": 16.0, "ask": 8.0, "values": 4.0, "plain": 1.0}


def test_many_stages_in_one_call_are_added_up_on_the_way(profiler, clock):
    from shmetrics.profiling import calls

    kept = []

    @profiler.profile_function
    def work():
        for _ in range(1000):
            with profiler.stage("step"):
                clock.now += 1.0
            kept.append(len(calls.current.get().spent))

    work()
    assert breakdown(profiler, "work") == {"step": 1000.0}
    assert max(kept) < 100


def test_a_stage_outside_of_any_profiled_function_is_mentioned_once(profiler, caplog):
    with caplog.at_level(logging.WARNING), profiler.stage("lost"), profiler.stage("lost"):
        pass
    assert [record.getMessage().count("'lost' outside") for record in caplog.records] == [1]


def test_a_stage_that_another_context_ends_disturbs_nothing(profiler, clock):
    def values():
        with profiler.stage("left"):
            yield

    @profiler.profile_function
    def starts():
        generator = values()
        contextvars.copy_context().run(next, generator)
        return generator

    generator = starts()
    generator.close()
    assert profiler.get_profile_results("starts")["total_calls"] == 1


def test_a_stage_needs_a_name_that_people_can_read(profiler):
    for name in ("", 3, [], "x" * 101):
        with pytest.raises(ValueError, match="1 to 100 characters"):
            profiler.stage(name)


def test_stages_are_kept_while_they_are_not_too_many(profiler):
    assert profiler.stage("a") is profiler.stage("a")
    for number in range(2000):
        profiler.stage(f"stage {number}")
    assert len(profiler._stages) == 1000


def test_two_profilers_of_one_process_see_the_same_calls(metrics, profiler, clock):
    other = Profiler(metrics, clock=clock)

    @profiler.profile_function
    def work():
        with other.stage("stage"):
            clock.now += 1.0

    work()
    assert breakdown(other, "work") == {"stage": 1.0}
