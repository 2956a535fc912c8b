"""`shmetrics doctor`: findings for people and machines, and a status that a script can use."""

import json

import numpy as np

from shmetrics import PerformanceMetrics, segment
from shmetrics.cli import main
from tests.cli import run


def test_a_healthy_hub_is_status_0(hub_name, capsys):
    with PerformanceMetrics(name=hub_name, max_series=8) as metrics:
        metrics.update_inference(0.1)
        assert main(["doctor", hub_name]) == 0
    out = capsys.readouterr().out
    assert "1 of 64 slots have a live worker" in out
    assert "PROBLEM" not in out


def test_a_problem_is_status_1_and_says_what_to_do(make_segment, hub_name, capsys):
    make_segment().header["dropped"] = np.uint64(3)
    assert main(["doctor", hub_name]) == 1
    out = capsys.readouterr().out
    assert "PROBLEM" in out
    assert f"shmetrics rm {hub_name}" in out


def test_json_is_a_list_of_findings(make_segment, hub_name, capsys):
    make_segment().header["dropped"] = np.uint64(3)
    assert main(["doctor", hub_name, "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    keys = {"kind", "level", "subject", "text", "worker", "pid", "value", "threshold"}
    assert all(finding.keys() == keys for finding in findings)
    assert {finding["level"] for finding in findings} <= {"ok", "warning", "problem"}
    assert any(finding["level"] == "problem" and hub_name in finding["subject"] for finding in findings)


def test_without_a_name_it_looks_at_every_hub(make_segment, hub_name, capsys):
    make_segment()
    main(["doctor"])
    assert f"hub {hub_name}" in capsys.readouterr().out


def test_it_changes_nothing(hub_name):
    PerformanceMetrics(name=hub_name, max_series=8).close()
    target = segment.attach(hub_name)
    before = bytes(target.memory)
    assert run("doctor", hub_name).returncode == 0
    assert bytes(target.memory) == before
    target.close()
