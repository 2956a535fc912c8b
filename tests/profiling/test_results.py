"""Results as arithmetic: percentiles, breakdowns, and the slowest calls of several processes."""

import json

import numpy as np
import pytest

from shmetrics.families import Exemplar
from shmetrics.profiling.families import BOUNDS
from shmetrics.profiling.results import Figures, found, typical
from shmetrics.profiling.slowest import REMEMBERED, SlowCall, labels, slowest


def figures_of(times, **fields):
    buckets = np.searchsorted(BOUNDS, times)
    counts = tuple(np.bincount(buckets, minlength=len(BOUNDS) + 1).tolist())
    return Figures(counts, float(np.sum(times)), **fields)


@pytest.mark.parametrize(
    "times",
    [
        np.random.default_rng(1).lognormal(-4.0, 1.5, 5000),
        np.random.default_rng(2).exponential(0.01, 5000),
        np.random.default_rng(3).uniform(2e-6, 3e-6, 500),
        np.concatenate([np.full(900, 0.003), np.full(100, 2.0)]),
    ],
    ids=["lognormal", "exponential", "narrow", "two peaks"],
)
def test_percentiles_are_within_fourteen_per_cent(times):
    figures = figures_of(times)
    for percent in (50, 90, 95, 99):
        exact = np.percentile(times, percent, method="inverted_cdf")
        assert figures.percentile(percent) == pytest.approx(exact, rel=0.14)


def test_calls_that_all_took_the_same_have_that_as_every_percentile():
    assert figures_of(np.full(7, 0.0111)).percentile(99) == pytest.approx(0.0111)


def test_a_percentile_past_the_last_bound_is_that_bound():
    assert figures_of([1.0, 500.0, 500.0]).percentile(99) == BOUNDS[-1] == typical(len(BOUNDS))


def test_each_breakdown_adds_up_to_the_total():
    figures = figures_of(
        [4.0, 6.0],
        parts={
            "stage": {"a": 5.0, "b": 1.0},
            "call": {"c": 1.0},
            "cprofile": {"numpy": 0.3, "(own code)": 0.1},
            "nested": {"": 2.0},
        },
    )
    assert figures.breakdowns() == {
        "stages": {"a": 5.0, "(outside of stages)": 3.0, "b": 1.0, "c": 1.0},
        "cprofile": {"numpy": pytest.approx(7.5), "(own code)": pytest.approx(2.5)},
    }
    assert figures.breakdown() == figures.breakdowns()["stages"]
    assert figures.own == 7.0


def test_what_was_asked_for_goes_before_what_is_known_anyway():
    figures = figures_of([10.0], parts={"call": {"c": 1.0}, "sampling": {"numpy": 0.5}})
    assert figures.breakdown() == {"numpy": 10.0}
    assert figures.breakdowns()["calls"] == {"(own code)": 9.0, "c": 1.0}


def test_parts_that_are_more_than_the_whole_are_made_to_fit():
    assert figures_of([1.0], parts={"stage": {"a": 3.0, "b": 1.0}}).breakdown() == {"a": 0.75, "b": 0.25}


def test_a_name_may_be_cut_off_at_its_module_or_class():
    known = ["a:Model.predict", "a:load", "b:reload"]
    assert found("predict", known) == "a:Model.predict"
    assert found("load", known) == "a:load"


def test_the_slowest_calls_are_those_of_this_process_and_what_others_left():
    own = [SlowCall(float(seconds), 100.0, 1, parts=(("a", 1.0),)) for seconds in range(1, 8)]
    left = [
        Exemplar(5, 3, value, 99.0, labels(SlowCall(value, 99.0, pid, error)))
        for value, pid, error in ((7.0, 1, ""), (6.5, 2, "ValueError"), (0.5, 3, ""))
    ]
    known = slowest(own, left, {1: 0, 2: 4})
    assert [(call.seconds, call.slot, call.error) for call in known[:3]] == [
        (7.0, 0, ""),
        (6.5, 4, "ValueError"),
        (6.0, 0, ""),
    ]
    assert known[0].parts == (("a", 1.0),)
    assert known[-1] == SlowCall(0.5, 99.0, 3, slot=None)
    assert len(slowest([own[0]._replace(seconds=float(n)) for n in range(50)], left, {})) == REMEMBERED


def test_an_exemplar_that_somebody_else_left_is_shown_as_what_it_says():
    (call,) = slowest([], [Exemplar(5, 3, 1.0, 99.0, {"pid": "x" * 30, "trace_id": "7"})], {})
    assert call == SlowCall(1.0, 99.0, None)


def test_results_are_json(profiler, clock):
    @profiler.profile_function
    def work():
        with profiler.stage("stage"):
            clock.now += 1.0

    work()
    results = profiler.get_profile_results("work")
    assert json.loads(json.dumps(results)) == results
