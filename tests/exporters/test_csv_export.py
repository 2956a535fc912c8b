import csv
import io
import math
import os
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest

from shmetrics import PerformanceMetrics
from shmetrics.exporters.csv_export import COLUMNS, METRIC_COLUMNS, ROW_COLUMNS, export_csv, export_metrics, export_rows
from shmetrics.families import Definition, Family, Series
from shmetrics.layout import MEASURES
from shmetrics.resources import Resources
from shmetrics.snapshot import RequestInFlight
from shmetrics.statistics import comprehensive
from tests.forge import NOW, fleet, random_records, records, worker

WALL = 1.7e9
"""The wall clock at NOW."""


def table(text):
    """The rows of CSV text as dictionaries; read strictly, every row of the same length."""
    names, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    return [dict(zip(names, line, strict=True)) for line in lines]


def busy():
    """Two live workers, one that ended just now, one that ended long ago."""
    return fleet(
        worker(random_records(1, 300), slot=0, pid=100),
        worker(random_records(2, 70), slot=1, pid=101),
        worker(random_records(3, 20), slot=2, pid=102, alive=False),
        worker(random_records(4, 90), slot=3, pid=103, alive=False, counted=False),
    )


# A row for each worker ------------------------------------------------------------------------------------------------


def test_there_is_a_row_for_each_worker_that_counts_and_a_last_one_for_the_fleet():
    rows = table(export_csv(busy()))
    assert [(row["scope"], row["slot"], row["pid"], row["alive"]) for row in rows] == [
        ("worker", "0", "100", "true"),
        ("worker", "1", "101", "true"),
        ("worker", "2", "102", "false"),
        ("fleet", "", "", "true"),
    ]


def test_lines_end_as_rfc_4180_says_and_the_columns_are_always_the_same():
    for snapshot in (fleet(), busy()):
        text = export_csv(snapshot)
        assert text.count("\r\n") == text.count("\n") == len(table(text)) + 1
        assert text.partition("\r\n")[0] == ",".join(COLUMNS)


def test_the_fleets_row_has_the_figures_of_the_fleet():
    snapshot = busy()
    row, figures = table(export_csv(snapshot))[-1], comprehensive(snapshot)
    shared = figures.keys() & row.keys()
    assert len(shared) > 70
    assert {key: float(row[key]) for key in shared} == {key: figures[key] for key in shared}


@pytest.mark.parametrize("max_age", [None, 120.0, 80.0])
def test_a_workers_row_has_the_figures_of_a_fleet_of_it_alone(max_age):
    one = worker(random_records(1, 300))
    alone, both = fleet(one, created_at=one.claimed_at), fleet(one, worker(random_records(2, 70), slot=1))
    row, figures = table(export_csv(both, max_age=max_age))[0], comprehensive(alone, max_age=max_age)
    shared = figures.keys() & row.keys()
    assert len(shared) > 70
    assert {key: float(row[key]) for key in shared} == {key: figures[key] for key in shared}


def test_every_column_of_a_workers_row_has_a_value_but_what_only_the_system_knows():
    row = table(export_csv(busy()))[0]
    assert {column for column, value in row.items() if not value} == {"cpu_percent", "rss_bytes"}


def test_the_fleet_adds_up_what_only_workers_have():
    asked = RequestInFlight(NOW - 3.0)
    snapshot = fleet(
        worker(random_records(1, 5), in_flight=(asked, asked), stale=True),
        worker(random_records(2, 5), slot=1, in_flight=(replace(asked, started_at=NOW - 7.0),)),
    )
    *_, row = table(export_csv(snapshot))
    assert (row["in_flight"], row["oldest_in_flight"], row["stale"]) == ("3", "7.0", "true")


def test_resources_add_cpu_and_memory(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=16) as metrics:
        metrics.update_inference(0.1)
        own, whole = table(export_csv(metrics.snapshot(), resources=Resources()))
    assert own["pid"] == str(os.getpid())
    assert int(own["rss_bytes"]) == int(whole["rss_bytes"]) > 1_000_000
    assert float(own["cpu_percent"]) == float(whole["cpu_percent"]) >= 0.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_an_empty_field(value):
    hostile = worker(records([NOW]), last_seen=value, in_flight=(RequestInFlight(value),))
    with np.errstate(all="ignore"):
        rows = table(export_csv(fleet(hostile, peak_recorded=value)))
    assert rows[0]["last_seen"] == ""
    assert not any(word in text.lower() for row in rows for text in row.values() for word in ("nan", "inf"))


# Text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["=1+1", "+1", "-1", "@SUM(A1)", " =1+1", "\uff1d1+1", '=HYPERLINK("http://x","y")'])
def test_a_text_that_a_spreadsheet_would_calculate_gets_an_apostrophe(role):
    snapshot = fleet(worker(records([NOW]), role=role))
    assert table(export_csv(snapshot))[0]["role"] == f"'{role}"
    assert table(export_rows(snapshot))[0]["role"] == f"'{role}"


@pytest.mark.parametrize("role", ["", "a,b", 'say "hi"', "two\r\nlines", "é☃", "SpawnProcess-1"])
def test_any_other_text_comes_back_as_it_was(role):
    snapshot = fleet(worker(records([NOW]), role=role))
    assert table(export_csv(snapshot))[0]["role"] == table(export_rows(snapshot))[0]["role"] == role


def test_numbers_below_zero_are_numbers():
    assert table(export_csv(fleet(worker(records([NOW]), last_seen=NOW + 2.0))))[0]["last_seen"] == "-2.0"


# The rows of the window -----------------------------------------------------------------------------------------------


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def test_the_rows_are_the_records_of_the_window():
    recorded = random_records(1, 30)
    rows = table(export_rows(fleet(worker(recorded, slot=2, generation=5, pid=77, role="web"))))
    assert {(row["slot"], row["generation"], row["pid"], row["role"]) for row in rows} == {("2", "5", "77", "web")}
    for name in MEASURES[:-1]:
        np.testing.assert_array_equal(column(rows, name), recorded[name])
    total = recorded["inference_time"] + recorded["preprocessing_time"] + recorded["quantization_time"]
    np.testing.assert_allclose(column(rows, "total_time"), total, rtol=1e-15)


def test_times_are_those_of_the_wall_clock_in_both_forms():
    rows = table(export_rows(fleet(worker([NOW - 1.5, NOW]))))
    assert [float(row["epoch"]) for row in rows] == [WALL - 1.5, WALL]
    assert rows[1]["time"] == "2023-11-14T22:13:20.000000Z"
    moment = datetime.strptime(rows[0]["time"], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert (moment.timestamp(), moment.tzinfo) == (WALL - 1.5, timezone.utc)


def test_percentiles_of_the_rows_are_those_of_the_statistics():
    snapshot = busy()
    rows, figures = table(export_rows(snapshot)), comprehensive(snapshot)
    assert len(rows) == figures["window_count"]
    for measure in MEASURES:
        for percent in (50, 95, 99):
            assert np.percentile(column(rows, measure), percent) == figures[f"p{percent}_{measure}"]


def test_bad_measurements_are_left_out_and_bad_times_are_empty():
    times = [math.nan, NOW - 3.0, math.inf, -1e300, NOW]
    rows = table(export_rows(fleet(worker(records(times, inference_time=[1.0, math.nan, 2.0, 3.0, -1.0])))))
    assert [(row["inference_time"], row["time"]) for row in rows] == [("1.0", ""), ("2.0", ""), ("3.0", "")]
    assert [row["epoch"] for row in rows] == ["", "", "-1e+300"]


def test_without_records_there_are_the_names_of_the_columns():
    assert export_rows(fleet()) == export_rows(fleet(worker())) == ",".join(ROW_COLUMNS) + "\r\n"


# Custom metrics -------------------------------------------------------------------------------------------------------


def figures(*families):
    """The rows of `export_metrics` without what is empty in them."""
    rows = table(export_metrics(fleet(families=families)))
    return [{column: field for column, field in row.items() if field} for row in rows]


def family(kind, *series, labels=("model",), **fields):
    return Family(Definition(name="m", kind=kind, labels=labels, **fields), series)


def test_each_figure_of_a_series_is_a_row_that_says_of_which_series_it_is():
    whole = family(
        "histogram", Series(("a",), count=5.0, sum=2.5, buckets=(1.0, 3.0, 5.0)), buckets=(0.1, 2.0), unit="seconds"
    )
    series = {"metric": "m", "kind": "histogram", "unit": "seconds", "label_model": "a"}
    assert figures(whole) == [
        series | {"field": "bucket", "le": "0.1", "value": "1.0"},
        series | {"field": "bucket", "le": "2.0", "value": "3.0"},
        series | {"field": "bucket", "le": "inf", "value": "5.0"},
        series | {"field": "count", "value": "5.0"},
        series | {"field": "sum", "value": "2.5"},
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "series", "shown"),
    [
        ("counter", {}, Series(("a",), value=3.0), [("value", "3.0", "")]),
        ("gauge", {"merge": "last"}, Series(("a",), value=-0.5), [("value", "-0.5", "")]),
        ("summary", {}, Series(("a",), count=2.0, sum=1e300), [("count", "2.0", ""), ("sum", "1e+300", "")]),
        (
            "ratio",
            {},
            Series(("a",), value=0.5, sum=2.0, count=4.0),
            [("value", "0.5", ""), ("numerator", "2.0", ""), ("denominator", "4.0", "")],
        ),
        (
            "info",
            {},
            Series(("a",), info={"version": "1.2", "of": "=x"}),
            [("version", "", "1.2"), ("of", "", "'=x")],
        ),
        ("enum", {"states": ("up", "down")}, Series(("a",), state="down"), [("state", "", "down")]),
    ],
)
def test_a_series_has_the_figures_of_its_kind(kind, fields, series, shown):
    rows = table(export_metrics(fleet(families=(family(kind, series, **fields),))))
    assert [(row["field"], row["value"], row["text"]) for row in rows] == shown


def test_each_label_of_any_metric_is_a_column_and_none_is_taken_for_another():
    one = family("counter", Series(("a", "x"), value=1.0), labels=("model", "value"))
    other = Family(Definition("other", "counter", labels=("route",)), (Series(("/",), value=2.0),))
    text = export_metrics(fleet(families=(one, other)))
    assert text.partition("\r\n")[0].split(",") == [*METRIC_COLUMNS, "label_model", "label_route", "label_value"]
    assert [(row["label_model"], row["label_value"], row["label_route"]) for row in table(text)] == [
        ("a", "x", ""),
        ("", "", "/"),
    ]


def test_a_gauge_for_each_worker_says_of_which():
    gauge = family("gauge", Series(worker=0, value=1.0), Series(worker=3, value=2.0), labels=(), merge="per_worker")
    assert [(row["worker"], row["value"]) for row in figures(gauge)] == [("0", "1.0"), ("3", "2.0")]


@pytest.mark.parametrize("label", ['"quoted", with comma', "two\nlines", "é漢😀", "x" * 10_000, ""])
def test_any_label_value_comes_back_as_it_was(label):
    (row,) = table(export_metrics(fleet(families=(family("counter", Series((label,), value=1.0)),))))
    assert row["label_model"] == label


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_empty(value):
    (row,) = table(export_metrics(fleet(families=(family("gauge", Series(("a",), value=value), merge="last"),))))
    assert row["value"] == ""


def test_without_custom_metrics_there_are_the_names_of_the_columns_too():
    assert export_metrics(fleet()) == ",".join(METRIC_COLUMNS) + "\r\n"
