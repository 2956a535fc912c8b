"""Profiles: what adds up, and how several become one."""

import pytest

from shmetrics.profiling import Profile, merged

PROFILE = Profile(
    {("app:main", "app:work", "numpy"): 60, ("app:main", "app:work"): 30, ("app:main", "app:again", "app:again"): 10},
    interval=0.01,
    seconds=1.0,
)


def test_samples_are_those_of_all_stacks():
    assert PROFILE.samples == 100
    assert Profile({}, interval=0.01, seconds=1.0).samples == 0


def test_what_ran_itself_adds_up_to_all_samples_most_first():
    assert list(PROFILE.own().items()) == [("numpy", 60), ("app:work", 30), ("app:again", 10)]
    assert sum(PROFILE.own().values()) == PROFILE.samples


def test_a_frame_counts_once_in_its_total_however_often_it_stands_in_a_stack():
    assert PROFILE.total() == {"app:main": 100, "app:work": 90, "numpy": 60, "app:again": 10}


def test_the_part_under_a_frame_begins_with_its_outermost_call():
    assert PROFILE.under("app:work").stacks == {("app:work", "numpy"): 60, ("app:work",): 30}
    assert PROFILE.under("app:again").stacks == {("app:again", "app:again"): 10}
    assert PROFILE.under("nobody").samples == 0


def test_a_profile_stays_as_it_was_made():
    stacks = {("app:main",): 1}
    profile = Profile(stacks, interval=0.01, seconds=0.01)
    stacks["app:main",] = 2
    assert profile.samples == 1
    with pytest.raises(TypeError):
        profile.stacks["app:main",] = 3


def test_merging_adds_up_samples_and_seconds():
    other = Profile({("app:main",): 5}, interval=0.0102, seconds=2.0, idle=7, skipped=2, cost=0.1)
    both = merged([PROFILE, other])
    assert both.samples == 105
    assert (both.interval, both.seconds, both.idle, both.skipped, both.cost) == (0.01, 3.0, 7, 2, 0.1)


def test_a_worker_whose_sampler_slowed_down_keeps_its_share_of_the_whole():
    slow = Profile({("app:main", "app:slow"): 25}, interval=0.0401, seconds=1.0, idle=3)
    both = merged([PROFILE, slow])
    assert both.own()["app:slow"] == 100
    assert both.idle == 12


def test_nothing_merges_to_an_empty_profile():
    assert merged([]).samples == 0
    assert merged([Profile({}, interval=0.0, seconds=0.0)]).seconds == 0
