"""Code in a loop of its own."""

import pytest

from shmetrics.benchmarks.calls import Call


class Counted:
    """How often it was called."""

    def __init__(self):
        self.calls = 0

    def inc(self):
        self.calls += 1


def test_the_code_is_run_as_often_as_is_asked_for():
    counter = Counted()
    call = Call("counter.inc()", counter=counter)
    assert call.many(7) >= 0.0
    times = call.each(5)
    assert (counter.calls, len(times)) == (12, 5)
    assert min(times) > 0.0


def test_several_lines_and_blocks_are_one_call():
    one, other = Counted(), Counted()
    Call("for _ in range(3):\n    one.inc()\nother.inc()", one=one, other=other).many(2)
    assert (one.calls, other.calls) == (6, 2)


def test_code_that_is_wrong_says_so_with_the_code():
    with pytest.raises(SyntaxError) as raised:
        Call("counter.inc(")
    assert raised.value.filename == "<counter.inc(>"
