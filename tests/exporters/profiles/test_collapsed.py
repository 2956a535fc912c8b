"""Collapsed stacks: what tools read, whatever functions are called."""

from shmetrics.exporters.profiles.collapsed import collapsed
from shmetrics.profiling import Profile


def test_a_line_for_each_stack_the_most_frequent_first():
    profile = Profile({("app:main",): 30, ("app:main", "app:run", "numpy"): 60}, 0.01, 0.9)
    assert collapsed(profile) == "app:main;app:run;numpy 60\napp:main 30\n"


def test_nothing_ran_gives_nothing():
    assert collapsed(Profile({}, 0.01, 1.0)) == ""


def test_a_name_cannot_pass_for_the_format():
    profile = Profile({("app:a;b", "app:c\nd 7", ""): 2, ("app:a,b", "app:c d 7", "?"): 3}, 0.01, 0.05)
    assert collapsed(profile) == "app:a,b;app:c d 7;? 5\n"
    (line,) = collapsed(profile).splitlines()
    stack, _, samples = line.rpartition(" ")
    assert (stack.split(";"), samples) == (["app:a,b", "app:c d 7", "?"], "5")
