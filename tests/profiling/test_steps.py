"""Generators, coroutines and asynchronous generators that are profiled: what of their time counts, and where."""

import asyncio
import gc
import inspect
import types

import pytest

from shmetrics.profiling import calls
from tests.processes import in_forked_child

pytestmark = pytest.mark.usefixtures("written_in")


def took(profiler, name):
    results = profiler.get_profile_results(name)
    return results["total_calls"], pytest.approx(results["total_time"])


def test_of_a_generator_the_time_within_it_counts_and_not_its_consumers(profiler, clock):
    @profiler.profile_function
    def values():
        clock.now += 1.0
        got = yield "a"
        clock.now += 2.0
        yield got
        return "end"

    def consume():
        generator = values()
        assert next(generator) == "a"
        clock.now += 100.0
        assert generator.send("sent") == "sent"
        clock.now += 100.0
        with pytest.raises(StopIteration, match="end"):
            next(generator)

    consume()
    assert took(profiler, "values") == (1, 3.0)
    for _ in values():
        break
    results = profiler.get_profile_results("values")
    assert (results["total_calls"], results["total_errors"]) == (2, 0)
    assert inspect.isgeneratorfunction(values)


def test_a_recursive_generator_counts_its_time_once(profiler, clock):
    @profiler.profile_function
    def walk(depth):
        clock.now += 1.0
        yield depth
        if depth:
            yield from walk(depth - 1)

    assert list(walk(3)) == [3, 2, 1, 0]
    assert took(profiler, "walk") == (4, 4.0)


def test_two_generators_whose_steps_alternate_do_not_disturb_each_other(profiler, clock):
    @profiler.profile_function
    def steps(seconds):
        for _ in range(3):
            clock.now += seconds
            yield

    for _ in zip(steps(1.0), steps(10.0), strict=True):
        clock.now += 100.0
    assert took(profiler, "steps") == (2, 33.0)


def test_a_coroutine_counts_from_its_start_to_its_end(profiler, clock):
    @profiler.profile_function
    async def ask(seconds):
        clock.now += seconds
        await asyncio.sleep(0)
        clock.now += seconds
        return seconds

    assert asyncio.run(ask(1.0)) == 1.0
    assert took(profiler, "ask") == (1, 2.0)
    assert inspect.iscoroutinefunction(ask)


def test_tasks_know_which_call_they_are_part_of(profiler, clock):
    @profiler.profile_function
    async def part(seconds):
        for _ in range(3):
            await asyncio.sleep(0)
        clock.now += seconds

    @profiler.profile_function
    async def whole():
        await part(1.0)
        clock.now += 1.0

    async def main():
        await asyncio.gather(whole(), whole(), part(5.0))

    asyncio.run(main())
    assert profiler.get_profile_results("part")["total_calls"] == 3
    results = profiler.get_profile_results("whole")
    assert results["total_calls"] == 2
    assert set(results["time_breakdown"]) == {profiler.get_profile_results("part")["function"], "(own code)"}
    assert sum(results["time_breakdown"].values()) == pytest.approx(results["total_time"])


def test_parts_that_ran_at_the_same_time_share_the_time_of_the_call(profiler, clock):
    @profiler.profile_function
    async def part():
        await asyncio.sleep(0)
        clock.now += 1.0
        await asyncio.sleep(0)

    @profiler.profile_function
    async def whole():
        await asyncio.gather(*[part() for _ in range(5)])

    asyncio.run(whole())
    results = profiler.get_profile_results("whole")
    assert results["total_time"] == 5.0
    assert results["time_breakdown"] == {profiler.get_profile_results("part")["function"]: 5.0}
    assert results["self_time"] == 0.0


def test_a_task_that_outlives_the_call_that_started_it_counts_by_itself(profiler, clock):
    @profiler.profile_function
    async def late():
        await asyncio.sleep(0)
        clock.now += 3.0

    @profiler.profile_function
    async def starts():
        clock.now += 1.0
        return asyncio.create_task(late())

    async def main():
        await (await starts())

    asyncio.run(main())
    assert (took(profiler, "starts"), took(profiler, "late")) == ((1, 1.0), (1, 3.0))


def test_calls_that_start_one_another_for_ever_do_not_hang_together(profiler):
    depths = []

    @profiler.profile_function
    async def link(left):
        if left:
            await asyncio.sleep(0)
            depth, call = 0, calls.current.get()
            while call is not None:
                depth, call = depth + 1, call.outer
            depths.append(depth)
            return asyncio.create_task(link(left - 1))

    async def main():
        task = asyncio.create_task(link(200))
        while task is not None:
            task = await task

    asyncio.run(main())
    assert max(depths) < 5


def test_tasks_that_start_one_another_from_deep_within_for_ever_do_not_hang_together(profiler):
    """Each begins all its calls while those of the one before are under way, so none begins around what is over."""
    kept = []

    def under_way():
        gc.collect()
        return sum(isinstance(each, calls.Call | calls.Span) for each in gc.get_objects())

    @profiler.profile_function
    async def link(left):
        await start(left)

    @profiler.profile_function
    async def start(left):
        with profiler.stage("starting"):
            task = asyncio.create_task(link(left - 1)) if left else None
            for _ in range(3):
                await asyncio.sleep(0)
            tasks.append(task)
        if left % 50 == 0:
            kept.append(under_way())

    tasks = []

    async def main():
        tasks.append(asyncio.create_task(link(200)))
        while (task := tasks.pop(0)) is not None:
            await task

    asyncio.run(main())
    assert len(kept) == 5
    assert max(kept) < min(kept) + 20


@pytest.mark.parametrize("level_that_waits", [1, 2])
def test_of_a_recursive_task_that_outlives_its_starter_the_time_counts_once(profiler, clock, level_that_waits):
    """Whether the call within began after the starter had ended, or before."""

    @profiler.profile_function
    async def work(level):
        clock.now += 1.0
        if level == 0:
            task = asyncio.create_task(work(1))
            await asyncio.sleep(0)
            return task
        if level == level_that_waits:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        if level == 1:
            await within(2)
        clock.now += 1.0

    @profiler.profile_function
    async def within(level):
        await work(level)
        part()

    @profiler.profile_function
    def part():
        clock.now += 1.0

    async def main():
        starter = asyncio.create_task(work(0))
        await (await starter)
        assert starter.done()

    asyncio.run(main())
    began_together = 2.0 if level_that_waits == 1 else 3.0
    by_itself = 5.0
    assert took(profiler, "work") == (3, began_together + by_itself)
    assert took(profiler, "part") == (1, 1.0)


def test_a_generator_of_many_steps_keeps_few_times_of_what_it_calls(profiler, clock):
    @profiler.profile_function
    def part():
        clock.now += 1.0

    @profiler.profile_function
    def numbers():
        for number in range(500):
            part()
            yield number

    generator = numbers()
    for _ in range(400):
        next(generator)
    assert len(generator.gi_frame.f_locals["call"]._spent) <= 64
    generator.close()
    assert took(profiler, "numbers") == (1, 400.0)
    part_name = profiler.get_profile_results("part")["function"]
    assert profiler.get_profile_results("numbers")["time_breakdown"] == {part_name: 400.0}


def test_a_generator_that_is_under_way_at_a_fork_is_counted_by_the_parent_alone(profiler, clock):
    @profiler.profile_function
    def numbers():
        for number in range(3):
            clock.now += 1.0
            yield number

    generator = numbers()
    next(generator)
    in_forked_child(lambda: list(generator))
    assert list(generator) == [1, 2]
    assert took(profiler, "numbers") == (1, 3.0)


def test_a_generator_that_can_be_awaited_is_profiled_as_the_coroutine_that_it_is(profiler, clock):
    @profiler.profile_function
    @types.coroutine
    def switch():
        clock.now += 1.0
        yield

    async def main():
        await switch()

    asyncio.run(main())
    assert took(profiler, "switch") == (1, 1.0)


def test_an_asynchronous_generator_is_profiled_like_a_generator(profiler, clock):
    @profiler.profile_function
    async def values():
        for value in range(3):
            clock.now += 1.0
            yield value

    async def main():
        return [(value, setattr(clock, "now", clock.now + 100.0))[0] async for value in values()]

    assert asyncio.run(main()) == [0, 1, 2]
    assert took(profiler, "values") == (1, 3.0)
    assert inspect.isasyncgenfunction(values)


def test_a_generator_that_nobody_finishes_counts_when_it_is_let_go_of(profiler, clock):
    @profiler.profile_function
    def values():
        clock.now += 1.0
        yield 1
        yield 2

    generator = values()
    next(generator)
    del generator
    assert took(profiler, "values") == (1, 1.0)


def test_functions_of_different_kinds_may_have_one_name(profiler, clock):
    @profiler.profile_function(name="ask")
    def ask():
        clock.now += 1.0

    @profiler.profile_function(name="ask")
    async def ask_too():
        await asyncio.sleep(0)
        clock.now += 2.0

    ask()
    asyncio.run(ask_too())
    assert took(profiler, "ask") == (2, 3.0)
