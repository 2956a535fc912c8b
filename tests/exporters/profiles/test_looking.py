"""Reports with flame graphs of live workers."""

import re

import pytest

from shmetrics import PerformanceMetrics, PerformanceProfiler
from shmetrics.exporters.profiles.gathering import report_of
from shmetrics.exporters.profiles.looking import look
from tests.profiling.listening import workers
from tests.profiling.workloads import work


def test_all_live_workers_are_sampled_at_once(hub_name):
    with workers(hub_name, count=2), PerformanceMetrics.attach(hub_name) as metrics:
        seen = look(metrics, 1.0)
    assert seen.notes == ()
    assert seen.profile.seconds > 1.0  # more than of one
    assert any(name.endswith(":features") for name in seen.profile.total())


def test_the_shortest_look_is_one_that_workers_understand(hub_name):
    with workers(hub_name), PerformanceMetrics.attach(hub_name) as metrics:
        assert look(metrics, 1e-9).notes == ()


def test_workers_that_do_not_listen_are_named(hub_name):
    with workers(hub_name, enabled=False), PerformanceMetrics.attach(hub_name) as metrics:
        seen = look(metrics, 1.0)
    assert seen.profile is None
    assert re.match(
        r"Of 1 workers 1 could not be sampled to the end: worker 0 \(pid \d+\) has not enabled", seen.notes[0]
    )


def test_a_fleet_without_workers_is_said_to_have_none(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        assert look(metrics, 0.5) == (None, ("No worker was live, so none was sampled.",))
        assert look(metrics, 0.0) == (None, ())


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), 1e9])
def test_no_time_at_all_and_too_much_of_it_are_refused(hub_name, seconds, tmp_path):
    with (
        PerformanceMetrics(name=hub_name) as metrics,
        pytest.raises(ValueError, match="seconds must be from 0 to 3600"),
    ):
        PerformanceProfiler(metrics).generate_detailed_report(tmp_path / "report.html", seconds=seconds)


@pytest.mark.parametrize(
    ("path", "seconds", "what"),
    [
        (None, 1.0, "the path of a report must be .* not None"),
        ("report.html", "1", "seconds must be a number .* not '1'"),
    ],
)
def test_what_is_no_path_and_what_is_no_number_are_refused(hub_name, path, seconds, what):
    with PerformanceMetrics(name=hub_name) as metrics, pytest.raises(TypeError, match=what):
        PerformanceProfiler(metrics).generate_detailed_report(path, seconds=seconds)


def test_a_report_has_flame_graphs_of_its_workers_and_of_its_functions(hub_name, tmp_path):
    def profiled(metrics):
        profiler = PerformanceProfiler(metrics)
        serve_profiled = profiler.profile_function(serve_one)
        metrics.claim()
        while True:
            serve_profiled()

    with workers(hub_name, function=profiled), PerformanceMetrics.attach(hub_name) as metrics:
        profiler = PerformanceProfiler(metrics)
        profiler.generate_detailed_report(tmp_path / "report.html", seconds=1.0)
        data = report_of(profiler, look(metrics, 0.5))
    page = (tmp_path / "report.html").read_text()
    assert page.count('<svg class="graph"') == 2
    (name,) = (function.name for function in data.functions)
    assert name.endswith(":serve_one")
    assert data.profile.under(name).samples > 0.8 * data.profile.samples


def serve_one():
    work()
