"""Every scenario: its shape, and that it runs to its end, reports what it measured, and leaves nothing."""

import argparse
import json
import os

import psutil
import pytest

from shmetrics import naming
from shmetrics.benchmarks import scenarios
from shmetrics.benchmarks.figures import Claim, Curve, Report, Table
from shmetrics.benchmarks.reports.json_report import json_report
from shmetrics.benchmarks.reports.markdown import markdown
from shmetrics.benchmarks.reports.text import text
from shmetrics.benchmarks.running import run

ROUNDS = 2


def options_of(name, *arguments, **others):
    parser = argparse.ArgumentParser()
    scenarios.load(name).configure(parser)
    known = argparse.Namespace(quick=True, rounds=ROUNDS, seed=1, **others)
    return parser.parse_args(arguments, known)


def ours():
    """What this process may have left: files of its own in /dev/shm, and children."""
    files = [file for file in os.listdir(naming.SHM_DIR) if f"-{os.getpid()}-" in file or f"-{os.getpid()}." in file]
    children = [child.pid for child in psutil.Process().children() if "resource_tracker" not in str(child.cmdline())]
    return sorted(files), children


@pytest.fixture(scope="module", params=scenarios.names())
def ran(request):
    """The name of a scenario, what it came to, and what there was before and after."""
    before = ours()
    chapter = run(request.param, options_of(request.param))
    return request.param, chapter, before, ours()


def test_a_scenario_says_in_a_line_and_in_a_docstring_what_it_measures(ran):
    scenario = scenarios.load(ran[0])
    assert scenario.SUMMARY
    assert "\n" not in scenario.SUMMARY
    assert scenario.SUMMARY[0].islower()
    assert scenario.SUMMARY[-1] != "."
    assert scenario.__doc__


def test_a_scenario_reports_figures_of_a_right_shape(ran):
    _, chapter, _, _ = ran
    assert chapter.figures
    for figure in chapter.figures:
        if isinstance(figure, Table):
            assert figure.rows
            assert {len(row) for row in figure.rows} == {len(figure.columns)}
        elif isinstance(figure, Curve):
            assert all(figure.lines.values())
        else:
            assert isinstance(figure, Claim)
            assert figure.verdict != "not measured" or figure.why


def test_the_report_needs_nothing_but_the_results_and_these_are_json(ran):
    name, chapter, _, _ = ran
    again = json.loads(json.dumps(chapter.results, allow_nan=False))
    assert tuple(scenarios.load(name).report(again)) == chapter.figures


def test_a_scenario_leaves_no_file_and_no_process(ran):
    _, _, before, after = ran
    assert after == before


def test_a_scenario_can_be_written_in_every_format(ran):
    name, chapter, _, _ = ran
    report = Report({"Python": "3"}, (chapter,))
    assert chapter.summary in text(report)
    assert f"## {name}" in markdown(report)
    assert set(json.loads(json_report(report))["scenarios"]) == {name}
