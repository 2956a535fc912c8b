"""Rules as Prometheus': promtool finds nothing wrong with them, and they fire when ours do."""

import json
import re

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.alerting.definition import parse
from shmetrics.alerting.sources import FINDINGS, FLEET, HUB, WINDOWED, WORKER
from shmetrics.exporters.prometheus import render
from shmetrics.exporters.prometheus.rules import export_rules
from tests.exporters import services

SOURCES = [
    *(f'statistic = "{key}"\nabove = 0.5' for key in (*FLEET, *HUB)),
    *(f'statistic = "{key}"\nwindow = "5m"\nbelow = 0.5\nmin_samples = 20' for key in WINDOWED),
    'statistic = "p99.9_batch_size"\nwindow = "90s"\nabove = 3',
    *(f'worker = "{key}"\nabove = 0.5\nfor = "1m"\nkeep_firing_for = "90s"' for key in WORKER),
    *(f'finding = "{kind}"' for kind in FINDINGS),
    *(f'metric = "m"\nof = "{of}"\nseries = {{ a = "x\\"y" }}\nabove = 1' for of in ("value", "rate", "mean", "p95")),
    'statistic = "error_rate"\nlast = 50\nabove = 0.5',
]
OBJECTIVES = """
[[slo]]
name = "A"
objective = 0.999
[[slo]]
name = "L"
objective = 0.99
measure = "total_time"
under = 0.25
"""
ALL = "".join(f'[[rule]]\nname = "R{at}"\n{source}\n' for at, source in enumerate(SOURCES)) + OBJECTIVES


def rules(text):
    file = parse(text)
    assert file.page.report() == []
    return file.rules


def write(directory, text, **options):
    """The exported rules as a file."""
    path = directory / "rules.yml"
    path.write_text(export_rules(rules(text), **options).text)
    return path


def test_promtool_accepts_every_rule_that_has_a_form(tmp_path):
    export = export_rules(rules(ALL), match='job="r",env=~"a|b"', prefix="p_")
    path = tmp_path / "rules.yml"
    path.write_text(export.text)
    assert f"SUCCESS: {export.text.count('- alert: ')} rules found" in services.promtool("check", "rules", str(path))
    assert export.text.count("- alert: ") > 60
    assert export.text.count('p_errors_total{job="r",env=~"a|b"}') > 2


def test_every_series_that_rules_name_is_on_a_page(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2) as metrics:
        metrics.update_inference(0.01)
        page = render(metrics).decode()
    on_page = set(re.findall(r"^(\w+)[ {]", page, re.MULTILINE))
    text = "\n".join(re.findall(r"^    expr: .*", export_rules(rules(ALL)).text, re.MULTILINE))
    named = set(re.findall(r"\b((?:shmetrics_|\w+_duration_|batch_size_|requests_|errors_|cache_)\w+)", text))
    assert len(named) > 30
    assert named <= on_page


def test_what_has_no_form_is_a_comment_and_told():
    export = export_rules(rules(ALL))
    assert (
        f"R{ALL.count('[[rule]]') - 1}: Prometheus does not know the last 50 measurements; give it a window"
        in export.left_out
    )
    for text in export.left_out:
        assert f"# left out: {text}\n" in export.text
        assert f"- alert: {text.split(':')[0]}\n" not in export.text


def test_an_empty_export_is_a_file_all_the_same(tmp_path):
    path = write(tmp_path, '[[rule]]\nname = "R"\nstatistic = "error_rate"\nlast = 50\nabove = 0.5\n')
    assert "SUCCESS: 0 rules found" in services.promtool("check", "rules", str(path))


def test_texts_of_all_kinds_are_quoted_right(tmp_path):
    summary = r"it's\n'{value}'\u0007\u007f\u0085\ufeff\uffff é😀"
    text = f"[[rule]]\nname = 'R'\nstatistic = 'error_rate'\nabove = 0.5\nsummary = \"{summary}\"\n"
    path = write(tmp_path, text + "annotations = { a = \"x: 'y' # z\" }\n")
    assert "SUCCESS: 1 rules found" in services.promtool("check", "rules", str(path))


def test_braces_are_no_templates_there_as_they_are_none_here(tmp_path):
    text = "[[rule]]\nname = 'R'\nstatistic = 'error_rate'\nabove = 0.5\nlabels = { team = '{{ x' }\n"
    path = write(tmp_path, text + "summary = '{{value}} {'\nannotations = { a = '{{ nothing }} }} {{' }\n")
    assert "SUCCESS: 1 rules found" in services.promtool("check", "rules", str(path))


def test_a_finding_says_what_it_is_and_names_a_worker_only_where_its_series_does():
    text = export_rules(rules('[[rule]]\nname = "D"\nfinding = "died"\n[[rule]]\nname = "S"\nfinding = "stuck"\n')).text
    assert re.findall("'summary': '(.*)'", text) == ["died", "stuck (worker {{ $labels.worker }})"]


@pytest.mark.parametrize("match", ["job", 'job="a', "job=a", '{job="a"}', 'job="a"} or up{x="y"'])
def test_what_is_no_matcher_is_refused(match):
    with pytest.raises(ValueError, match="label matchers must be like"):
        export_rules([], match=match)


def test_a_latency_that_is_no_bound_of_a_bucket_is_left_out():
    text = '[[slo]]\nname = "L"\nobjective = 0.99\nmeasure = "total_time"\nunder = 0.3\n'
    export = export_rules(rules(text))
    assert len(export.left_out) == 3
    assert "pages have no bucket up to 0.3; take a power of two" in export.left_out[0]


ERRORS = """
[[rule]]
name = "Errors"
statistic = "error_rate"
window = "1m"
above = 0.05
critical = 0.5
clear = 0.02
for = "20s"
min_samples = 50
labels = { team = "ml" }
summary = "{value} fail, more than {threshold}"
"""


def promtool_test(directory, path, series, tests):
    """Run ``promtool test rules``: series every 10 s, and which alerts fire when."""
    content = {
        "rule_files": [str(path)],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [
                    {"eval_time": at, "alertname": name, "exp_alerts": expected} for at, name, expected in tests
                ],
            }
        ],
    }
    test = directory / "test.yml"
    test.write_text(json.dumps(content))
    assert "SUCCESS" in services.promtool("test", "rules", str(test))


def errors(severity, summary):
    labels = {"severity": severity, "team": "ml", "job": "r", "instance": "i"}
    return {"exp_labels": labels, "exp_annotations": {"summary": summary}}


def test_promtool_fires_them_with_for_hysteresis_and_severity(tmp_path):
    """Ten errors of a hundred requests from 100 s to 200 s, three until 300 s, then none."""
    series = {
        'requests_total{job="r",instance="i"}': "0+100x60",
        'errors_total{job="r",instance="i"}': "0+0x10 10+10x9 103+3x9 130+0x10 190+60x8 610+0x10",
    }
    ten, three = errors("warning", "10% fail, more than 5 %"), errors("warning", "3% fail, more than 5 %")
    promtool_test(tmp_path, write(tmp_path, ERRORS), series, [
        ("100s", "Errors", []),
        ("170s", "Errors", [ten]),
        ("290s", "Errors", [three]),
        ("370s", "Errors", []),
    ])  # fmt: skip


def test_too_few_samples_do_not_fire(tmp_path):
    series = {'requests_total{job="r",instance="i"}': "0+1x60", 'errors_total{job="r",instance="i"}': "0+1x60"}
    promtool_test(tmp_path, write(tmp_path, ERRORS), series, [("5m", "Errors", [])])


def test_a_burn_rate_needs_both_windows(tmp_path):
    """All requests fail from minute 50 to minute 60; when that is over, the short window ends the alert."""
    path = write(tmp_path, '[[slo]]\nname = "A"\nobjective = 0.99\nlabels = { team = "ml" }\n')
    series = {
        'requests_total{job="r",instance="i"}': "0+100x720",
        'errors_total{job="r",instance="i"}': "0+0x299 0+100x60 6000+0x360",
    }
    fires = errors("critical", "burn rate of A (99 % without error) over 1h and 5m is 16.67, above 14.4")
    tests = [("57m", "A_burn_1h", []), ("61m", "A_burn_1h", [fires]), ("66m", "A_burn_1h", [])]
    promtool_test(tmp_path, path, series, tests)
