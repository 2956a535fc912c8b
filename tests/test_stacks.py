"""What is on the stacks of all threads: whole, or not told at all."""

import gc
import sys
import threading
from contextlib import contextmanager

import pytest

from shmetrics import stacks
from tests.processes import wait_until


def here():
    """The lines that the stack of this thread is at."""
    (stack,) = (stack for stack in stacks.read() if any(line in stacks.lines_of(here.__code__) for line in stack))
    return stack


def deeper(depth, function):
    return function() if depth == 0 else deeper(depth - 1, function)


def places(stack, *functions):
    """Which of these functions each call is one of, where it is one."""
    return [each for line in stack for each in functions if line in stacks.lines_of(each.__code__)]


def test_the_innermost_call_comes_first():
    assert places(deeper(2, here), here, deeper) == [here, deeper, deeper, deeper]


def test_all_threads_are_seen():
    began, over = threading.Event(), threading.Event()

    def wait():
        began.set()
        over.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    began.wait()
    try:
        assert sum(places(stack, wait) == [wait] for stack in stacks.read()) == 1
    finally:
        over.set()
        thread.join()
    assert not any(places(stack, wait) for stack in stacks.read())


def test_more_calls_than_are_told_are_not_told():
    assert deeper(50, stacks.read) is not None
    assert deeper(200, stacks.read) is None


def test_more_threads_than_are_told_are_not_told():
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(120)]
    for thread in threads:
        thread.start()
    try:
        assert stacks.read() is None
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert stacks.read() is not None


def test_without_a_descriptor_nothing_is_told(monkeypatch):
    def refuse(_name):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("os.memfd_create", refuse)
    assert stacks.read() is None


@pytest.mark.parametrize(
    "folder", ["/plain", "/k\u00f6ln", "/\u65e5\u672c", "/\U0001f600", 'a "quoted" one'], ids=ascii
)
def test_lines_are_told_as_they_are_read_whatever_the_name_of_the_file(folder):
    namespace = {"read": stacks.read}
    exec(compile("\n\ndef look():\n    return read()\n", f"{folder}/module.py", "exec"), namespace)
    look = namespace["look"]
    assert any(places(stack, look) == [look] for stack in look())


def test_a_name_that_would_be_cut_is_refused():
    code = compile("x = 1", "/" + 400 * "x", "exec")
    with pytest.raises(ValueError, match="can be 400 characters long"):
        stacks.lines_of(code)


def test_no_frame_of_another_thread_is_touched(monkeypatch):
    """Which since CPython 3.11 may end the process."""
    monkeypatch.delattr(sys, "_current_frames")
    assert deeper(1, here)


# Followed -------------------------------------------------------------------------------------------------------------


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


def wait_deep(over, depth=5):
    if depth:
        wait_deep(over, depth - 1)
    else:
        over.wait()


def waits_deep(walk, ident):
    """Whether that thread has come to where it waits."""
    (_, codes, _, _) = walk(100, {ident}, ())[0]
    return codes.count(wait_deep.__code__) == 6 and codes[0].co_name == "wait"


def test_the_calls_of_a_thread_are_told_with_their_globals_the_innermost_first(walk):
    with threads(1, wait_deep) as (ident,):
        wait_until(lambda: waits_deep(walk, ident))
        ((found, codes, scopes, is_deeper),) = walk(100, {ident}, ())
    assert found == ident
    assert not is_deeper
    assert codes[1:8] == [threading.Event.wait.__code__, *6 * [wait_deep.__code__]]
    assert [scope["__name__"] for scope in scopes[1:8]] == ["threading", *6 * [__name__]]
    assert len(codes) == len(scopes)
    assert (codes[-1].co_name, scopes[-1] is vars(threading)) == ("_bootstrap", True)


@pytest.mark.parametrize("most", [1, 4])
def test_of_a_deep_stack_the_innermost_calls_are_told_and_that_there_is_more(walk, most):
    with threads(1, wait_deep) as (ident,):
        wait_until(lambda: waits_deep(walk, ident))
        (whole,) = walk(100, {ident}, ())
        assert walk(most, {ident}, ()) == [(ident, whole[1][:most], whole[2][:most], True)]
        assert walk(len(whole[1]), {ident}, ()) == [whole]


def test_threads_are_all_told_or_those_that_are_wanted(walk):
    with threads(3, wait_deep) as idents:
        others = {ident for ident, *_ in walk(1, None, idents)}
        assert threading.get_ident() in others
        assert not others & set(idents)
        assert {ident for ident, *_ in walk(1, None, ())} >= set(idents)
        assert {ident for ident, *_ in walk(1, set(idents), [idents[0]])} == set(idents[1:])


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_is_as_it_was_found(walk, collects):
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        walk(100, None, ())
        assert gc.isenabled() == collects
        with pytest.raises(TypeError):
            walk(100, 5, ())
        assert gc.isenabled() == collects
    finally:
        (gc.enable if before else gc.disable)()
