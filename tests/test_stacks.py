"""What is on the stacks of all threads: whole, or not told at all."""

import sys
import threading

import pytest

from shmetrics import stacks


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
