import csv
import io
import os

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.cli import build_parser, main
from tests.cli import run, run_into_closed_pipe, strict_json


@pytest.fixture
def metrics(hub_name):
    """Metrics of this process in a small hub of this test alone, with one record."""
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        metrics.update_inference(0.25, 4, 0.05, 0.01)
        yield metrics


def lines_of(text):
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def test_without_a_format_it_is_json(metrics):
    done = run("export", metrics.name)
    document = strict_json(done.stdout)
    assert (done.returncode, done.stderr, document["schema"]) == (0, "", 1)
    assert document["statistics"]["total_requests"] == 1
    assert document["workers"][0]["rss_bytes"] > 1_000_000


def test_csv_is_a_row_for_each_worker_and_one_for_the_fleet(metrics, capsys):
    assert main(["export", metrics.name, "--format", "csv"]) == 0
    names, own, whole = lines_of(capsys.readouterr().out)
    assert (own[names.index("pid")], whole[names.index("scope")]) == (str(os.getpid()), "fleet")
    assert own[names.index("rss_bytes")]


def test_csv_rows_are_the_records(metrics, capsys):
    assert main(["export", metrics.name, "--format", "csv-rows"]) == 0
    _, row = lines_of(capsys.readouterr().out)
    assert row[-5:] == ["0.25", "4.0", "0.05", "0.01", "0.31"]


def test_csv_metrics_are_the_figures_of_the_custom_metrics(metrics, capsys):
    CustomMetrics(metrics).counter("tokens_total", labels=["model"]).labels("a").inc(3)
    assert main(["export", metrics.name, "--format", "csv-metrics"]) == 0
    names, row = lines_of(capsys.readouterr().out)
    shown = {name: field for name, field in zip(names, row, strict=True) if field}
    assert shown == {"metric": "tokens_total", "kind": "counter", "field": "value", "value": "3.0", "label_model": "a"}


def test_standard_output_has_the_line_ends_of_the_format(metrics):
    done = run("export", metrics.name, "--format", "csv", "--output", "-")
    assert done.stdout.count("\n") == 3  # text mode made one of two


@pytest.mark.parametrize("form", ["json", "csv", "csv-rows", "csv-metrics"])
def test_a_file_has_what_standard_output_would_have(metrics, tmp_path, form):
    """But for what changes with time."""
    target = tmp_path / "file"
    done = run("export", metrics.name, "--format", form, "--output", str(target))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    there, printed = target.read_text(), run("export", metrics.name, "--format", form).stdout
    if form == "json":
        assert strict_json(there).keys() == strict_json(printed).keys()
    else:
        assert lines_of(there)[0] == lines_of(printed)[0]
        assert target.read_bytes().count(b"\r\n") == len(lines_of(printed))
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_cannot_be_written_is_status_1_and_said(metrics, tmp_path, capsys):
    target = tmp_path / "no" / "such"
    assert main(["export", metrics.name, "--output", str(target)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"shmetrics: cannot write '{target}': No such file or directory; name a file")
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_is_not_there_leaves_the_file_of_before(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")
    done = run("export", "t-nobody-made-this", "--output", str(target))
    assert (done.returncode, target.read_text()) == (1, "before")
    assert "no hub named" in done.stderr


def test_a_format_nobody_knows_is_status_2_and_the_message_has_those_there_are(metrics, monkeypatch, capsys):
    for arguments, setting in ((["--format", "xml"], ""), ([], "xml")):
        monkeypatch.setenv("SHMETRICS_FORMAT", setting)
        with pytest.raises(SystemExit) as ended:
            main(["export", metrics.name, *arguments])
        assert ended.value.code == 2
        assert "json, csv, csv-rows, csv-metrics, prometheus, openmetrics, not 'xml'" in capsys.readouterr().err


def test_variables_say_format_and_file_and_flags_beat_them(monkeypatch):
    monkeypatch.setenv("SHMETRICS_FORMAT", "csv")
    monkeypatch.setenv("SHMETRICS_OUTPUT", "fleet.csv")
    parsed = build_parser().parse_args(["export", "a"])
    assert (parsed.format, parsed.output) == ("csv", "fleet.csv")
    parsed = build_parser().parse_args(["export", "a", "--format", "csv-rows", "--output", "-"])
    assert (parsed.format, parsed.output) == ("csv-rows", "-")
    assert build_parser().parse_args(["export", "a", "--json"]).format == "json"


def test_a_reader_that_went_away_is_no_error(metrics):
    for form in ("json", "csv", "csv-rows", "csv-metrics", "prometheus", "openmetrics"):
        assert run_into_closed_pipe("export", metrics.name, "--format", form) == (0, "")


def test_prometheus_and_openmetrics_are_pages_that_their_parsers_read(metrics, tmp_path):
    for form, parse in (
        ("prometheus", text_string_to_metric_families),
        ("openmetrics", openmetrics_string_to_metric_families),
    ):
        target = tmp_path / form
        assert main(["export", metrics.name, "--format", form, "--output", str(target)]) == 0
        samples = {sample.name: sample.value for family in parse(target.read_text()) for sample in family.samples}
        assert (samples["requests_total"], samples["inference_duration_seconds_sum"]) == (1.0, 0.25)
