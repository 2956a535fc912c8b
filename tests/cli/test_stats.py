import signal
import time

import pytest

from shmetrics import PerformanceMetrics
from shmetrics.cli import main
from shmetrics.writer import Writer
from tests.cli import PATIENCE, run_on_terminal, strict_json, until, writing_to

MEASURES = ("inference_time", "preprocessing_time", "quantization_time", "total_time", "batch_size")
KINDS = ("avg", "median", "min", "max", "std", "p50", "p95", "p99", "lifetime_p50", "lifetime_p95", "lifetime_p99")
FIGURES = {
    *("total_requests", "total_errors", "cache_hits", "cache_misses"),
    *("error_rate", "window_error_rate", "cache_hit_rate", "window_cache_hit_rate"),
    *("throughput", "samples_per_second", "current_throughput", "average_throughput", "peak_throughput"),
    *("total_runtime", "stability_score", "active_workers", "workers_seen", "window_count"),
    *(f"{kind}_{measure}" for kind in KINDS for measure in MEASURES),
}
OF_A_WORKER = {
    *("requests", "throughput", "error_rate", "p50_inference_time", "p95_inference_time", "p99_inference_time"),
    *("pid", "age", "cpu_percent", "rss_bytes", "busy_fraction", "in_flight"),
}
OF_THE_HUB = {"name", "slots_fill", "dropped_records", "corrupt", "stale_slots"}


@pytest.fixture
def metrics(hub_name):
    """Metrics of this process in a small hub of this test alone."""
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        yield metrics


def figures_of(capsys, *arguments):
    assert main(["stats", "--json", *arguments]) == 0
    return strict_json(capsys.readouterr().out)


def test_json_has_every_documented_figure(metrics, capsys):
    metrics.update_inference(0.25, 4, 0.05, 0.01)
    figures = figures_of(capsys, metrics.name)
    assert FIGURES - figures.keys() == set()
    assert OF_A_WORKER - figures["workers"][0].keys() == set()
    assert OF_THE_HUB - figures["hub"].keys() == set()


def test_json_has_the_values_recorded(metrics, capsys):
    metrics.update_inference(0.25, 4, 0.05, 0.01)
    metrics.record_error()
    figures = figures_of(capsys, metrics.name)
    assert (figures["total_requests"], figures["total_errors"], figures["max_batch_size"]) == (1, 1, 4.0)
    assert figures["p99_total_time"] == pytest.approx(0.31)


def test_json_of_an_empty_hub_has_every_figure_as_zero(make_segment, hub_name, capsys):
    make_segment().close()
    figures = figures_of(capsys, hub_name)
    assert {key for key in FIGURES if figures[key] != 0.0} == {"total_runtime"}


def test_json_is_json_whatever_was_recorded(metrics, capsys):
    for value in (float("nan"), float("inf"), -1.0, 1e308, 5e-324):
        metrics.update_inference(value, value, value, value)
    assert figures_of(capsys, metrics.name)["total_requests"] == 5


def test_people_see_totals_measures_and_workers(metrics, capsys):
    metrics.update_inference(0.0123, 4)
    assert main(["stats", metrics.name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"hub {metrics.name}  1 live of 1 workers seen")
    assert lines[1].startswith("requests    1  errors 0")
    (row,) = [line for line in lines if line.startswith("inference time")]
    assert row.split()[2:4] == ["12.3", "ms"]
    assert sum(" live " in line and " ms " in line for line in lines) == 1


def test_people_see_what_is_wrong(metrics, capsys):
    metrics.update_inference(float("nan"))
    metrics.unlink()
    with PerformanceMetrics(name=metrics.name, max_workers=4, max_series=16) as other:
        other.update_inference(-1.0)
        assert main(["stats", other.name]) == 0
    assert "! 1 records with NaN, infinite or negative measurements" in capsys.readouterr().out


def test_max_age_narrows_the_window_and_not_the_totals(make_segment, hub_name, capsys):
    past = [100.0, 0.0]
    segment = make_segment()
    writer = Writer(segment, clock=lambda: time.monotonic() - past[0])
    writer.record(0.5)
    del past[0]
    writer.record(0.25)
    whole, recent = figures_of(capsys, hub_name), figures_of(capsys, hub_name, "--max-age", "50")
    writer.close()
    assert (whole["window_count"], whole["max_inference_time"]) == (2, 0.5)
    assert (recent["window_count"], recent["max_inference_time"]) == (1, 0.25)
    assert recent["total_requests"] == 2


def test_watch_prints_until_interrupted(metrics, tmp_path):
    output = tmp_path / "output"
    with writing_to(output, "stats", metrics.name, "--watch", "--interval", "0.05") as process:
        until(lambda: output.read_text().count(f"hub {metrics.name}") >= 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert process.stderr.read() == ""
    assert "\x1b" not in output.read_text()


def test_watch_sees_what_is_recorded_meanwhile(metrics, tmp_path):
    output = tmp_path / "output"
    with writing_to(output, "stats", metrics.name, "--watch", "--json", "--interval", "0.05"):
        until(lambda: '"total_requests": 0' in output.read_text())
        metrics.update_inference(0.1)
        until(lambda: '"total_requests": 1' in output.read_text())


def test_watch_prints_one_json_object_a_line(metrics, tmp_path):
    output = tmp_path / "output"
    with writing_to(output, "stats", metrics.name, "--watch", "--json", "--interval", "0.05"):
        until(lambda: output.read_text().count("\n") >= 3)
    for line in output.read_text().splitlines()[:3]:
        assert strict_json(line)["hub"]["name"] == metrics.name


def test_a_terminal_shows_colours(metrics):
    assert f"\x1b[1mhub {metrics.name}\x1b[0m" in run_on_terminal("stats", metrics.name)


def test_a_terminal_shows_no_colours_when_somebody_objects(metrics):
    text = run_on_terminal("stats", metrics.name, NO_COLOR="1")
    assert f"hub {metrics.name}" in text
    assert "\x1b" not in text


def test_watch_repaints_a_terminal(metrics):
    text = run_on_terminal(
        *("stats", metrics.name, "--watch", "--interval", "0.05"), enough=lambda text: text.count("\x1b[J") >= 3
    )
    first, second, *_ = text.split("\x1b[H")[1:]
    assert f"hub {metrics.name}" in first
    assert f"hub {metrics.name}" in second


def test_watch_sends_a_terminal_that_knows_no_escape_codes_none(metrics):
    text = run_on_terminal(
        *("stats", metrics.name, "--watch", "--interval", "0.05"),
        enough=lambda text: text.count(f"hub {metrics.name}") >= 2,
        TERM="dumb",
    )
    assert "\x1b" not in text
