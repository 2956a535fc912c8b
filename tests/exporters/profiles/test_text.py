"""A profile as text."""

from shmetrics.exporters.profiles.text import profile_text
from shmetrics.profiling import Profile

PROFILE = Profile(
    {("app:main", "app:run", "numpy"): 60, ("app:main", "app:run"): 30, ("app:main",): 10},
    interval=0.01,
    seconds=1.0,
    idle=12,
    skipped=3,
    cost=0.012,
)


def test_functions_are_listed_by_what_they_took_themselves():
    assert profile_text(PROFILE, "hub resnet, worker 0 (pid 7)").splitlines() == [
        "hub resnet, worker 0 (pid 7)",
        "1 s of worker time sampled at 100 Hz, 100 samples, 12 more of threads that waited, 3 looks left out, "
        "since they would have cost too much, sampling took 1.20 % of a processor",
        "",
        "    own  with callees  function",
        " 60.0 %        60.0 %  numpy",
        " 30.0 %        90.0 %  app:run",
        " 10.0 %       100.0 %  app:main",
        "",
        "the stacks that ran most, the outermost function first",
        " 60.0 %  app:main > app:run > numpy",
        " 30.0 %  app:main > app:run",
        " 10.0 %  app:main",
    ]


def test_of_many_functions_those_that_took_most_are_listed():
    many = Profile({(f"app:f{number}",): number + 1 for number in range(50)}, 0.01, 1.0)
    lines = profile_text(many, "many", rows=10).splitlines()
    assert lines[4].endswith("app:f49")
    assert lines[13].endswith("app:f40")
    assert lines[14] == "... and 40 more"


def test_a_profile_of_nothing_says_so():
    assert profile_text(Profile({}, 0.01, 2.0, idle=200), "idle").splitlines() == [
        "idle",
        "2 s of worker time sampled at 100 Hz, nothing ran, 200 more of threads that waited",
    ]
    assert "0 s of worker time sampled" in profile_text(Profile({}, 0.0, 0.0), "never")
