"""From a profiler to the data of its report, and to the page."""

import sys

import pytest

from shmetrics import OutputError, PerformanceMetrics, PerformanceProfiler
from shmetrics.exporters.profiles.gathering import report_of
from tests.processes import in_forked_child


@pytest.fixture
def profiler(hub_name, clock):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=64) as metrics:
        yield PerformanceProfiler(metrics, clock=clock)


def test_a_report_has_all_that_is_known_of_every_function(profiler, clock):
    @profiler.profile_function(name="service:predict")
    def predict(seconds):
        with profiler.stage("inference"):
            clock.now += 0.75 * seconds
        clock.now += 0.25 * seconds
        if seconds > 5:
            raise TimeoutError

    @profiler.profile_function(name="service:ask")
    async def ask():
        pass

    for _ in range(9):
        predict(1.0)

    def fail():
        with pytest.raises(TimeoutError):
            predict(11.0)

    in_forked_child(fail)
    data = report_of(profiler)
    assert [function.name for function in data.functions] == ["service:ask", "service:predict"]
    unused, used = data.functions
    assert (unused.kind, unused.calls, unused.seconds, unused.maximum) == ("coroutine", 0, 0.0, 0.0)
    assert (used.kind, used.calls, used.errors, used.seconds, used.own) == ("function", 10, 1, 20.0, 20.0)
    assert (used.minimum, used.p50, used.maximum) == (pytest.approx(1.0, rel=0.14),) * 2 + (11.0,)
    assert [(bucket.above, bucket.upto, bucket.calls) for bucket in used.buckets] == [(0.8, 1.0, 9), (10.0, 12.5, 1)]
    (breakdown,) = used.breakdowns
    assert (breakdown.means, breakdown.note) == ("stages", "Of every call.")
    assert {each.name: each.seconds for each in breakdown.components} == {
        "inference": pytest.approx(15.0),
        "(outside of stages)": pytest.approx(5.0),
    }
    assert [(row.calls, row.errors, row.alive) for row in used.workers] == [(9, 0, True), (1, 1, False)]
    slow = used.slowest
    assert (slow[0].seconds, slow[0].error, slow[0].detail) == (11.0, "TimeoutError", "")
    assert (slow[1].seconds, slow[1].slot, slow[1].detail) == (1.0, 0, "inference 75 %, (outside of stages) 25 %")
    assert (data.hub, data.live_workers, data.workers_seen) == (profiler._metrics.name, 1, 2)


def test_what_a_slow_call_did_in_no_profiled_function_is_its_own_and_what_is_0_percent_is_left_out(profiler, clock):
    def took(seconds, *callees):
        clock.now += seconds
        for callee in callees:
            callee()

    fast = profiler.profile_function(name="service:fast")(lambda: took(0.004))
    slow = profiler.profile_function(name="service:slow")(lambda: took(0.196))
    profiler.profile_function(name="service:call")(lambda: took(0.8, fast, slow))()
    details = {function.name: function.slowest[0].detail for function in report_of(profiler).functions}
    assert details == {"service:call": "(own code) 80 %, service:slow 20 %", "service:fast": "", "service:slow": ""}


def test_a_process_that_nobody_named_has_no_name_in_a_report(profiler):
    profiler.profile_function(name="service:predict")(len)("")
    assert profiler.get_profile_results("predict")["workers"][0]["role"] == "MainProcess"
    assert report_of(profiler).functions[0].workers[0].role == ""


def test_a_report_says_that_the_hub_had_no_room(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=16) as metrics:
        profiler = PerformanceProfiler(metrics)
        profiler.profile_function(name="service:predict")(len)("")
        assert "larger max_series" in report_of(profiler).notes[0]


def test_the_report_is_a_file_that_appears_whole_or_not_at_all(profiler, tmp_path):
    profiler.profile_function(name="service:predict")(len)("")
    profiler.generate_detailed_report(tmp_path / "report.html")
    assert "service:" in (tmp_path / "report.html").read_text()
    with pytest.raises(OutputError):
        profiler.generate_detailed_report(tmp_path / "missing" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_says_which_calls_a_breakdown_is_from(profiler):
    profiler = PerformanceProfiler(profiler._metrics)  # whose time passes by itself
    call = profiler.profile_function(name="service:predict", breakdown="cprofile", share=1.0)(lambda: sorted([2, 1]))
    for _ in range(3):
        call()
    sys.setprofile(lambda *_: None)
    try:
        call()
    finally:
        sys.setprofile(None)
    (breakdown,) = report_of(profiler).functions[0].breakdowns
    assert breakdown.means == "cProfile"
    assert breakdown.note == "From 3 of 4 calls; 1 more were left out, since something else was at work."
