"""Stacks that are followed in C: no other thread runs, and no frame ends, while one is in hand."""

import gc
import sys
import threading
from contextlib import suppress

import pytest

from shmetrics import native
from tests.test_stacks import threads, wait_deep

if native.IS_BUILT:
    from shmetrics import _native

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here: see tests/test_native.py")


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


def test_threads_that_go_on_are_followed_to_their_beginning_ten_thousand_times():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with threads(3, churn) as idents:
            for _ in range(10_000):
                for _, codes, _, is_deeper in _native.walk(200, set(idents), ()):
                    assert (codes[-1].co_name, is_deeper) == ("_bootstrap", False)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="CPython collects between calls of Python's only")
def test_nothing_is_collected_while_a_frame_is_in_hand():
    """A destructor may give the interpreter's lock up."""
    collected, threshold = [], gc.get_threshold()
    gc.callbacks.append(lambda phase, _: collected.append(phase == "start"))
    gc.freeze()
    try:
        with threads(3, wait_deep):
            gc.set_threshold(1)
            collected.clear()
            _native.walk(200, None, ())
            found = sum(collected)
            gc.set_threshold(*threshold)
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
        gc.callbacks.pop()
    assert found <= 2, "of its arguments, and of what it returned"


def test_no_frame_is_kept():
    with threads(1, wait_deep) as (ident,):
        _native.walk(200, None, ())
        frame = sys._current_frames()[ident]
        assert sys.getrefcount(frame) == 3, "the interpreter's, ours, and that of the question"
    assert threading.get_ident() != ident
