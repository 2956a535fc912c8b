"""Where the time of a function goes, found out by itself: by cProfile, and by looking."""

import asyncio
import cProfile
import functools
import json
import re
import signal
import sys
import threading
import time

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.profiling import statistical
from shmetrics.profiling.choosing import Share
from shmetrics.profiling.profiler import Profiler
from shmetrics.profiling.statistical import Watch
from tests.processes import in_forked_child, run_in_processes, wait_until
from tests.profiling.workloads import shared_account

MEANS = ("cprofile", "sampling")
ROUNDS = 8
"""A sample comes the nearer to the truth the larger it is; on a machine that is busy with other things it takes longer.
"""
SPLIT = {"features": 0.6, "inference": 0.3, "(own code)": 0.1}
CLOCKS = {"cprofile": time.process_time, "sampling": time.perf_counter}
"""cProfile counts by the clock that it is given; a sampler looks at time that passes, whoever has the processor."""


def lookers():
    """What the threads that look are doing."""
    return [frame for frame in sys._current_frames().values() if outermost(frame).f_code is Watch._run.__code__]


def outermost(frame):
    while frame.f_back is not None:
        frame = frame.f_back
    return frame


@pytest.fixture(autouse=True)
def _no_thread_of_another_test():
    yield
    wait_until(lambda: not lookers())


def burn(seconds):
    """Work for so much processor time of this process, however many others want the processor meanwhile."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def features(seconds):
    burn(seconds)


def inference(seconds):
    burn(seconds)


def work(seconds, clock=time.process_time, account=None):
    """Its processor time divides 60/30/10. ``account``: to what is added how much passed in each part by the clock."""
    begun = clock()
    features(0.6 * seconds)
    then = clock()
    inference(0.3 * seconds)
    last = clock()
    end = time.process_time() + 0.1 * seconds
    while time.process_time() < end:
        pass
    if account is not None:
        for at, passed in enumerate((then - begun, last - then, clock() - last)):
            account[at] += passed


def profiled(metrics, means, account=None):
    """`work`, and its profiler."""
    profiler = Profiler(metrics, clock=CLOCKS[means])
    options = {"share": 1.0} if means == "cprofile" else {}
    call = profiler.profile_function(name="work", breakdown=means, **options)(work)
    return profiler, functools.partial(call, clock=CLOCKS[means], account=account)


def shares(results, means):
    breakdown = results["breakdowns"][means]
    assert sum(breakdown.values()) == pytest.approx(results["total_time"])
    found = {}
    for name, seconds in breakdown.items():
        short = name.rpartition(":")[2]
        short = "(own code)" if short == "time" else short  # the clock that it looks at
        found[short] = found.get(short, 0.0) + seconds / results["total_time"]
    return found


def is_right(results, means, accounts):
    """Whether a breakdown is right to five points, and the one that is shown."""
    found = shares(results, means)
    assert results["time_breakdown"] == results["breakdowns"][means]
    passed = [sum(parts) for parts in zip(*accounts, strict=True)]
    true = {name: seconds / sum(passed) for name, seconds in zip(SPLIT, passed, strict=True)}
    print(means, found, true)  # shown where a test fails
    if means == "cprofile":
        assert true == pytest.approx(SPLIT, abs=0.02)
    return all(abs(found.get(name, 0.0) - share) < 0.05 for name, share in true.items())


@pytest.mark.parametrize("means", MEANS)
def test_a_known_split_is_reported_within_five_points(metrics, means):
    account = shared_account()
    profiler, call = profiled(metrics, means, account)
    for _ in range(ROUNDS):
        for _ in range(8):
            call(0.2)
        if is_right(profiler.get_profile_results("work"), means, [account]):
            return
    pytest.fail("it is not")


def _worker(name, means, accounts, index):
    with PerformanceMetrics.attach(name) as metrics:
        _, call = profiled(metrics, means, accounts[index])
        for _ in range(6):
            call(0.25)


@pytest.mark.parametrize("means", MEANS)
def test_a_known_split_over_four_forked_workers_is_reported_within_five_points(metrics, means):
    accounts = [shared_account() for _ in range(4)]
    for done in range(1, ROUNDS + 1):
        run_in_processes("fork", 4, _worker, metrics.name, means, accounts)
        results = Profiler(metrics).get_profile_results("work")
        assert results["total_calls"] == 24 * done
        if is_right(results, means, accounts):
            return
    pytest.fail("it is not")


@pytest.mark.parametrize("means", MEANS)
def test_a_function_that_was_decorated_before_the_fork_is_looked_at_in_the_children(metrics, means):
    profiler, call = profiled(metrics, means)
    call(0.05)
    before = profiler.get_profile_results("work")["breakdowns"].get(means, {})

    def seen():
        in_forked_child(lambda: call(0.4))
        found = profiler.get_profile_results("work")["breakdowns"].get(means, {})
        more = {name.rpartition(":")[2] for name, seconds in found.items() if seconds > before.get(name, 0.0)}
        return {"features", "inference"} <= more

    wait_until(seen)


@pytest.mark.parametrize("means", MEANS)
def test_what_is_called_of_a_library_is_one_component(metrics, means):
    profiler = Profiler(metrics, clock=time.process_time, rate=500)

    @functools.partial(profiler.profile_function, breakdown=means, **({"share": 1.0} if means == "cprofile" else {}))
    def parse(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            json.loads(json.dumps(list(range(2000)), indent=1))

    def seen():
        parse(0.3)
        return means in profiler.get_profile_results("parse")["breakdowns"]

    wait_until(seen)
    found = shares(profiler.get_profile_results("parse"), means)
    assert found.keys() <= {"json", "(own code)"}
    if means == "cprofile":
        assert found["json"] > 0.8, found


def test_a_profiled_function_is_a_component_by_its_own_name_and_not_by_its_wrapper(metrics):
    profiler = Profiler(metrics, clock=time.process_time)
    inner = profiler.profile_function(features)

    @profiler.profile_function(name="outer", breakdown="cprofile", share=1.0)
    def outer():
        inner(0.04)
        inference(0.02)

    outer()
    found = shares(profiler.get_profile_results("outer"), "cprofile")
    assert found["features"] == pytest.approx(0.66, abs=0.1)
    assert found["inference"] == pytest.approx(0.33, abs=0.1)


def test_a_recursive_function_is_broken_down_once(metrics):
    profiler = Profiler(metrics, clock=time.process_time)

    @profiler.profile_function(name="fall", breakdown="cprofile", share=1.0)
    def fall(depth):
        features(0.006)
        inference(0.003)
        if depth:
            fall(depth - 1)

    fall(5)
    results = profiler.get_profile_results("fall")
    assert (results["total_calls"], results["sampled_calls"], results["skipped_calls"]) == (6, 1, 0)
    assert shares(results, "cprofile")["features"] == pytest.approx(0.66, abs=0.1)


def test_an_exception_passes_through_a_call_that_is_looked_at(metrics):
    profiler = Profiler(metrics)
    for means, options in (("cprofile", {"share": 1.0}), ("sampling", {})):

        @profiler.profile_function(name=means, breakdown=means, **options)
        def fail():
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            fail()
        assert profiler.get_profile_results(means)["total_errors"] == 1
    assert sys.getprofile() is None
    cProfile.Profile().runcall(len, "")  # nothing is active any more


def test_calls_beside_another_profiler_are_made_and_counted_as_skipped(metrics):
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="cprofile", share=1.0)(lambda x: x)
    sys.setprofile(lambda *_: None)
    try:
        assert call(1) == 1
    finally:
        sys.setprofile(None)
    other = cProfile.Profile()
    assert other.runcall(call, 2) == 2
    assert call(3) == 3
    results = profiler.get_profile_results("work")
    assert (results["total_calls"], results["sampled_calls"], results["skipped_calls"]) == (3, 1, 2)


def test_a_profile_that_ran_out_of_memory_is_no_error_of_the_call(metrics, monkeypatch):
    class Exhausted(cProfile.Profile):
        def disable(self):
            super().disable()
            raise MemoryError("memory was exhausted while profiling")

    monkeypatch.setattr(cProfile, "Profile", Exhausted)
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="cprofile", share=1.0)(lambda x: x)
    assert call(1) == 1
    results = profiler.get_profile_results("work")
    assert (results["total_calls"], results["total_errors"], results["skipped_calls"]) == (1, 0, 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in Python 3.12")
def test_calls_beside_a_tool_that_monitors_are_made_and_counted_as_skipped(metrics):
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="cprofile", share=1.0)(lambda x: x)
    sys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, "another")
    try:
        assert call(1) == 1
    finally:
        sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)
    results = profiler.get_profile_results("work")
    assert (results["sampled_calls"], results["skipped_calls"]) == (0, 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, cProfile sees one thread")
def test_calls_while_other_threads_run_are_left_out(metrics):
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="cprofile", share=1.0)(burn)
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            burn(0.001)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        call(0.1)
    finally:
        stop.set()
        thread.join()
    results = profiler.get_profile_results("work")
    assert (results["total_calls"], results["sampled_calls"], results["skipped_calls"]) == (1, 0, 1)


def test_threads_that_are_profiled_at_the_same_time_disturb_no_call(metrics):
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="cprofile", share=1.0)(lambda x: (features(0.001), x)[1])
    answers = []
    threads = [threading.Thread(target=lambda: answers.extend(call(x) for x in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results = profiler.get_profile_results("work")
    assert sorted(answers) == sorted([*range(20)] * 4)
    assert results["sampled_calls"] + results["skipped_calls"] == results["total_calls"] == 80


def test_of_a_coroutine_what_it_waits_for_is_no_ones_time(metrics):
    profiler = Profiler(metrics)

    @profiler.profile_function(name="ask", breakdown="sampling")
    async def ask():
        await asyncio.sleep(0.4)
        features(0.3)

    asyncio.run(ask())
    results = profiler.get_profile_results("ask")
    assert shares(results, "sampling")["features"] > 0
    assert results["breakdowns"]["sampling"]["(waiting)"] > 0.1  # seconds; it is 0.4 where looks are not late


def test_a_generator_is_looked_at_while_it_runs(metrics):
    profiler = Profiler(metrics, clock=time.process_time, rate=500)

    @profiler.profile_function(name="values", breakdown="sampling")
    def values():
        for _ in range(4):
            features(0.06)
            yield

    def seen():
        for _ in values():
            burn(0.02)
        return "sampling" in profiler.get_profile_results("values")["breakdowns"]

    wait_until(seen)
    assert shares(profiler.get_profile_results("values"), "sampling")["features"] > 0.9


def test_a_function_that_says_of_no_module_is_found_in_stacks(metrics):
    profiler = Profiler(metrics, rate=500)
    namespace = {"burn": burn}
    exec("def made(seconds):\n    burn(seconds)", namespace)
    namespace["made"].__module__ = None
    call = profiler.profile_function(name="made", breakdown="sampling")(namespace["made"])

    def seen():
        call(0.05)
        return "sampling" in profiler.get_profile_results("made")["breakdowns"]

    wait_until(seen)


def interrupted(call, times):
    """Call on and on, so many times until a signal handler raises, each time a little later."""

    class Stopped(BaseException):
        pass

    def stop(*_):
        raise Stopped

    def go_on(seconds):
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)  # again, where the interpreter could not raise it
            while True:
                call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for number in range(times):
            with pytest.raises(Stopped):
                go_on(0.0002 + number % 300 * 1e-6)
            yield
    finally:
        signal.signal(signal.SIGALRM, before)


def steps():
    yield 1
    yield 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before, a signal handler may raise where nothing is called")
# It may raise while a generator is closed that nobody has any more:
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("function", [lambda: (), steps])
def test_calls_that_a_signal_handler_ends_wherever_they_are_leave_nobody_looking_and_others_are_looked_at(
    metrics, function, monkeypatch
):
    monkeypatch.setattr(statistical, "_LINGER", 0.0)  # so that whoever looks comes and goes all the time
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="sampling")(function)
    for _ in interrupted(lambda: list(call()), 300):
        pass
    wait_until(lambda: not lookers())
    profiler.profile_function(name="other work", breakdown="sampling")(wait_until)(lookers)


# It may raise in a callback of weakref, of what a collection takes away meanwhile:
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_cprofile_is_at_work_no_more_after_calls_that_a_signal_handler_ended_wherever_they_were(metrics):
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="cprofile", share=1.0)(lambda: None)
    for _ in interrupted(call, 500):
        cProfile.Profile().runcall(len, "")  # ValueError where it is at work, from Python 3.12 on
        assert sys.getprofile() is None
    skipped = profiler.get_profile_results("work")["skipped_calls"]
    call()
    assert profiler.get_profile_results("work")["skipped_calls"] == skipped


def test_what_cprofile_finds_is_of_no_coroutine_that_the_call_began_and_left(metrics):
    profiler = Profiler(metrics)

    @profiler.profile_function(name="ask")
    async def ask():
        await asyncio.sleep(0)

    @profiler.profile_function(name="begins", breakdown="cprofile", share=1.0)
    def begins():
        coroutine = ask()
        coroutine.send(None)
        return coroutine

    begins().close()
    assert "cprofile" not in profiler.get_profile_results("ask")["breakdowns"]


def test_nobody_looks_while_no_such_function_is_under_way(metrics):
    profiler = Profiler(metrics)
    call = profiler.profile_function(name="work", breakdown="sampling")(burn)
    assert lookers() == []
    call(0.02)
    assert len(lookers()) == 1
    wait_until(lambda: not lookers())
    call(0.02)
    assert len(lookers()) == 1
    wait_until(lambda: not lookers())


def test_a_slow_call_that_was_looked_at_says_where_its_time_went(metrics):
    profiler = Profiler(metrics, clock=time.process_time)
    call = profiler.profile_function(name="work", breakdown="cprofile", share=1.0)(work)
    call(0.05)
    (slow,) = profiler.get_profile_results("work")["slowest_calls"]
    assert sum(slow["parts"].values()) == pytest.approx(slow["time"])
    assert any(name.endswith(":features") for name in slow["parts"])


def test_the_first_call_of_a_process_stands_for_itself_and_the_others_for_all_that_are_not_chosen(metrics):
    share = Share(0.1)
    assert share.take() == 1.0
    weights = [share.take() for _ in range(10_000)]
    assert set(weights) == {0.0, 10.0}
    assert 800 < sum(weight > 0 for weight in weights) < 1200
    assert {Share(1).take() for _ in range(3)} == {1.0}

    def begins_anew():
        assert share.take() == 1.0

    in_forked_child(begins_anew)


def test_what_no_breakdown_can_be_is_refused_at_once(metrics):
    profiler = Profiler(metrics)
    with pytest.raises(ValueError, match="breakdown must be 'cprofile', 'sampling' or None, not 'pyspy'"):
        profiler.profile_function(breakdown="pyspy")
    for share in (0, -0.5, 1.5, True, "all"):
        with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
            profiler.profile_function(breakdown="cprofile", share=share)(work)
    with pytest.raises(ValueError, match="share is of the calls"):
        profiler.profile_function(share=0.5)
    with pytest.raises(TypeError, match=re.escape("is a coroutine; use 'sampling'")):

        @profiler.profile_function(breakdown="cprofile")
        async def ask():
            pass

    with pytest.raises(TypeError, match="written in Python"):
        profiler.profile_function(breakdown="sampling")(len)
