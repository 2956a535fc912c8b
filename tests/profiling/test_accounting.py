"""Every moment belongs to what it should, whatever calls what: held against a simple account of random programs."""

from collections import Counter
from itertools import takewhile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmetrics.profiling.profiler import Profiler
from tests.conftest import FakeClock

FUNCTIONS, STAGES = ("f", "g", "h"), ("x", "y")
pytestmark = pytest.mark.usefixtures("written_in")

PROGRAMS = st.recursive(
    st.integers(1, 9),
    lambda inner: st.tuples(st.sampled_from((*FUNCTIONS, *STAGES)), st.lists(inner, min_size=1, max_size=4)),
    max_leaves=25,
)
"""A moment of so many seconds, or a function or stage and what is in it."""


def moments(program, stack=()):
    """Each moment of a program with the functions and stages that it is in, outermost first."""
    if isinstance(program, int):
        yield program, stack
        return
    name, inner = program
    for each in inner:
        yield from moments(each, (*stack, name))


def component(function, stack):
    """What of a function a moment belongs to."""
    at = len(stack) - 1 - stack[::-1].index(function)
    within = stack[at + 1 :]
    stages = list(takewhile(STAGES.__contains__, within))
    return stages[-1] if stages else within[0] if within else ""


def account(program):
    """Of each function the calls, the time, its own time, and its time by component."""
    total, own, parts = Counter(), Counter(), {name: Counter() for name in FUNCTIONS}
    for seconds, stack in moments(program):
        functions = [name for name in stack if name in FUNCTIONS]
        for name in set(functions):
            total[name] += seconds
            parts[name][component(name, stack)] += seconds
        if functions:
            own[functions[-1]] += seconds
    return total, own, parts


def runs(profiler, clock, program, functions):
    if isinstance(program, int):
        clock.now += program
        return
    name, inner = program
    if name in FUNCTIONS:
        functions[name](inner)
    else:
        with profiler.stage(name):
            for each in inner:
                runs(profiler, clock, each, functions)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.tuples(st.just("f"), st.lists(PROGRAMS, min_size=1, max_size=4)))
def test_every_moment_of_any_program_counts_once_and_where_it_belongs(metrics, program):
    clock = FakeClock()
    profiler = Profiler(metrics, clock=clock)
    functions = {}
    for name in FUNCTIONS:

        @profiler.profile_function(name=name)
        def work(inner):
            for each in inner:
                runs(profiler, clock, each, functions)

        functions[name] = work
    before = {name: profiler.results(name).fleet for name in FUNCTIONS}
    runs(profiler, clock, program, functions)
    total, own, parts = account(program)
    for name in FUNCTIONS:
        was, figures = before[name], profiler.results(name).fleet
        assert figures.seconds - was.seconds == pytest.approx(total[name], abs=1e-6)
        assert figures.own - was.own == pytest.approx(own[name], abs=1e-6)
        for part in (*STAGES, *FUNCTIONS):
            means = "stage" if part in STAGES else "call"
            took = [each.parts.get(means, {}).get(part, 0.0) for each in (was, figures)]
            assert took[1] - took[0] == pytest.approx(parts[name][part], abs=1e-6)
