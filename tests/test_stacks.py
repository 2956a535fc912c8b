"""What is on the stacks of threads, followed in Python and in C: the same, and harmless to threads that go on."""

import gc
import sys
import threading
from contextlib import contextmanager, suppress

import pytest

from shmetrics import stacks
from tests.processes import in_forked_child, wait_until

DEEP = 5


@pytest.fixture
def walk(written_in):
    """What follows frames, in Python and in C."""
    return stacks.walker()


@contextmanager
def threads(number, function):
    """The idents of so many threads, in a function that gets an event and goes on until that is set."""
    over = threading.Event()
    running = [threading.Thread(target=function, args=(over,)) for _ in range(number)]
    for thread in running:
        thread.start()
    try:
        yield [thread.ident for thread in running]
    finally:
        over.set()
        for thread in running:
            thread.join()


def wait_deep(over, depth=DEEP):
    if depth:
        wait_deep(over, depth - 1)
    else:
        over.wait()


@contextmanager
def waiting_deep(walk, number=1):
    """The idents of so many threads that wait in `wait_deep`."""

    def waits(ident):
        ((_, calls),) = walk(100, {ident}, ())
        codes = [code for code, _ in calls]
        return codes.count(wait_deep.__code__) == DEEP + 1 and codes[0].co_name == "wait"

    with threads(number, wait_deep) as idents:
        for ident in idents:
            wait_until(lambda ident=ident: waits(ident))
        yield idents


def test_the_calls_of_a_thread_are_told_with_their_globals_the_innermost_first(walk):
    with waiting_deep(walk) as (ident,):
        ((found, calls),) = walk(100, {ident}, ())
    assert found == ident
    assert [code for code, _ in calls[1 : DEEP + 3]] == [
        threading.Event.wait.__code__,
        *(DEEP + 1) * [wait_deep.__code__],
    ]
    assert [scope["__name__"] for _, scope in calls[1 : DEEP + 3]] == ["threading", *(DEEP + 1) * [__name__]]
    outermost, scope = calls[-1]
    assert outermost.co_name == "_bootstrap"
    assert scope is vars(threading)


def test_the_calls_of_the_thread_that_asks_are_told(walk):
    ((_, calls),) = walk(100, {threading.get_ident()}, ())
    here = sys._getframe()
    codes = [code for code, _ in calls]
    assert here.f_code in codes
    while here.f_back is not None:
        here = here.f_back
    assert codes[-1] is here.f_code


@pytest.mark.parametrize("most", [1, 4])
def test_of_a_deep_stack_the_innermost_calls_are_told(walk, most):
    with waiting_deep(walk) as (ident,):
        ((_, whole),) = walk(sys.maxsize, {ident}, ())
        assert walk(most, {ident}, ()) == [(ident, whole[:most])]
        assert walk(len(whole), {ident}, ()) == [(ident, whole)]


def test_however_deep_a_stack_is_it_is_told_to_its_beginning(walk):
    def deeper(depth):
        return walk(sys.maxsize, {threading.get_ident()}, ()) if depth == 0 else deeper(depth - 1)

    ((_, calls),) = deeper(500)
    assert [code for code, _ in calls].count(deeper.__code__) == 501


def test_threads_are_all_told_or_those_that_are_wanted(walk):
    with waiting_deep(walk, 3) as idents:
        others = {ident for ident, _ in walk(1, None, idents)}
        assert threading.get_ident() in others
        assert not others & set(idents)
        assert {ident for ident, _ in walk(1, None, ())} >= set(idents)
        assert {ident for ident, _ in walk(1, dict.fromkeys(idents), [idents[0]])} == set(idents[1:])
        assert walk(1, (), ()) == []


def churn(over):
    """Calls, generators and exceptions without end, so that frames end in every way that there is."""

    def numbers(depth):
        if depth:
            yield from numbers(depth - 1)
        yield depth

    def fail(depth):
        if depth:
            fail(depth - 1)
        raise LookupError

    while not over.is_set():
        sum(numbers(10))
        with suppress(LookupError):
            fail(10)


def test_threads_that_go_on_are_followed_to_their_beginning_ten_thousand_times(walk):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with threads(3, churn) as idents:
            for _ in range(10_000):
                for _, calls in walk(200, set(idents), ()):
                    assert calls[-1][0].co_name == "_bootstrap"
    finally:
        sys.setswitchinterval(interval)


@contextmanager
def collector(is_on):
    """The collector on or off."""
    before = gc.isenabled()
    (gc.enable if is_on else gc.disable)()
    yield is_on
    (gc.enable if before else gc.disable)()


@pytest.fixture(params=[True, False], ids=["collecting", "not collecting"])
def collects(request):
    """Whether the collector is on."""
    with collector(request.param) as is_on:
        yield is_on


def test_the_collector_is_off_in_c_while_a_frame_is_in_hand_and_as_it_was_afterwards(
    walk, written_in, monkeypatch, collects
):
    """A destructor may give the interpreter's lock up. Python cannot turn it off for one thread, and leaves it."""
    ask, was_on = sys._current_frames, []

    def frames():
        was_on.append(gc.isenabled())
        return ask()

    monkeypatch.setattr(sys, "_current_frames", frames)
    assert walk(100, None, ())
    assert was_on == [collects and written_in == "Python"]
    assert gc.isenabled() == collects


def test_the_collector_is_as_it_was_where_frames_cannot_be_had(walk, monkeypatch, collects):
    def refuse():
        raise RuntimeError("no")

    with pytest.raises(TypeError):
        walk(100, 5, ())
    assert gc.isenabled() == collects
    monkeypatch.setattr(sys, "_current_frames", refuse)
    with pytest.raises(RuntimeError, match="no"):
        walk(100, None, ())
    assert gc.isenabled() == collects


def test_the_collector_stays_on_whoever_asks_at_once_and_in_children_forked_meanwhile(walk):
    """Each looks where all are; and a child has only the thread that forked it."""

    def ask(over):
        while not over.is_set():
            walk(100, None, ())

    def is_on():
        assert gc.isenabled()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with collector(True):
            with threads(3, ask):
                for _ in range(100):
                    in_forked_child(is_on)
            is_on()
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("most", [3, 100], ids=["cut", "whole"])
def test_nothing_is_kept_also_where_nothing_is_collected(walk, most):
    def references(frame):
        found = []
        while frame is not None:
            found += [sys.getrefcount(thing) for thing in (frame, frame.f_code, frame.f_globals)]
            frame = frame.f_back
        return found

    with waiting_deep(walk) as (ident,), collector(False):
        before = references(sys._current_frames()[ident])
        for _ in range(100):
            walk(most, None, ())
        after = references(sys._current_frames()[ident])
    assert max(now - then for now, then in zip(after, before, strict=True)) < 50
