import math
import os

import numpy as np
import pytest

from shmetrics import CustomMetrics, PerformanceMetrics, __version__
from shmetrics.board import RequestInFlight
from shmetrics.exporters.json_export import export_json
from shmetrics.families import KINDS, Definition, Exemplar, Family, Series
from shmetrics.resources import Resources
from shmetrics.snapshot import Usage
from shmetrics.statistics import comprehensive
from tests.cli import strict_json
from tests.forge import NOW, fleet, obituary, random_records, records, worker

NOT_FINITE = (math.nan, math.inf, -math.inf)


NEEDS = {"gauge": {"merge": "last"}, "histogram": {"buckets": (1.0,)}, "enum": {"states": ("idle", "busy")}}
"""What a definition of a kind cannot do without."""


def family(kind, *series, labels=("model",), **fields):
    fields = NEEDS.get(kind, {}) | fields
    return Family(Definition(name=f"a_{kind}", kind=kind, labels=labels, **fields), series)


def exported(snapshot, **options):
    return strict_json(export_json(snapshot, **options))


def series_of(*families):
    """The series of each family's metric as the document has them."""
    return [metric["series"] for metric in exported(fleet(families=families))["metrics"]]


def test_the_document_says_its_schema_and_has_its_parts():
    document = exported(fleet(worker(random_records(1, 50))))
    assert document["schema"] == 1
    assert document["version"] == __version__
    parts = ["hub", "statistics", "findings", "obituaries", "workers", "metrics", "exemplars"]
    assert list(document) == ["schema", "version", *parts]


def test_it_has_every_figure_of_the_comprehensive_statistics_with_its_value():
    snapshot = fleet(worker(random_records(1, 300)), worker(random_records(2, 70), slot=1, alive=False))
    document, figures = exported(snapshot), comprehensive(snapshot)
    assert document["hub"] == figures.pop("hub")
    assert [row | Usage()._asdict() for row in figures.pop("workers")] == document["workers"]
    assert document["statistics"] == figures


def test_findings_and_obituaries_are_there():
    stuck = worker([NOW - 20.0], slot=2, in_flight=(RequestInFlight(NOW - 20.0, "GET /"),), last_seen=NOW - 20.0)
    document = exported(fleet(stuck, obituaries=(obituary(pid=77),)))
    assert [(finding["kind"], finding["worker"]) for finding in document["findings"]] == [
        ("hung_worker", 2),
        ("dead_worker", 0),
    ]
    assert [(dead["pid"], dead["signal"]) for dead in document["obituaries"]] == [(77, "SIGKILL")]


def test_max_age_narrows_the_window():
    snapshot = fleet(worker(records([NOW - 20.0, NOW - 1.0], inference_time=[4.0, 1.0])))
    assert exported(snapshot)["statistics"]["max_inference_time"] == 4.0
    assert exported(snapshot, max_age=10.0)["statistics"]["max_inference_time"] == 1.0
    with pytest.raises(ValueError, match="max_age must be seconds, 0 or more, not -1"):
        export_json(snapshot, max_age=-1)


def test_resources_add_the_cpu_and_memory_of_processes_that_live(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=16) as metrics:
        metrics.update_inference(0.1)
        (row,) = exported(metrics.snapshot(), resources=Resources())["workers"]
    assert row["pid"] == os.getpid()
    assert row["rss_bytes"] > 1_000_000
    assert row["cpu_percent"] >= 0.0


def test_an_empty_fleet_is_a_document_too():
    document = exported(fleet())
    assert (document["workers"], document["metrics"], document["statistics"]["total_requests"]) == ([], [], 0)


def test_a_definition_is_in_it_whole():
    defined = Definition(
        "latency_seconds", "histogram", "Time.", "seconds", ("model",), (0.1, 1.0), expire_after=60.0, states=()
    )
    (metric,) = exported(fleet(families=(Family(defined),)))["metrics"]
    assert metric == {
        "name": "latency_seconds",
        "kind": "histogram",
        "help": "Time.",
        "unit": "seconds",
        "labels": ["model"],
        "buckets": [0.1, 1.0],
        "merge": "",
        "states": [],
        "expire_after": 60.0,
        "series": [],
    }


CONTENTS = {
    "counter": (Series(("a",), value=3.0), {"value": 3.0, "exemplars": []}),
    "gauge": (Series(("a",), value=-1.5), {"value": -1.5}),
    "histogram": (
        Series(("a",), count=3.0, sum=1.5, buckets=(1.0, 3.0)),
        {"count": 3.0, "sum": 1.5, "buckets": [1.0, 3.0], "exemplars": []},
    ),
    "summary": (Series(("a",), count=3.0, sum=1.5), {"count": 3.0, "sum": 1.5}),
    "ratio": (Series(("a",), value=0.5, sum=2.0, count=4.0), {"value": 0.5, "numerator": 2.0, "denominator": 4.0}),
    "info": (Series(("a",), info={"version": "1"}), {"info": {"version": "1"}}),
    "enum": (Series(("a",), state="busy"), {"state": "busy"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_series_has_what_its_kind_has(kind):
    series, content = CONTENTS[kind]
    assert series_of(family(kind, series)) == [[{"labels": {"model": "a"}, "worker": None, **content}]]


def test_exemplars_say_of_which_bucket_they_are_and_one_of_none_is_left_out():
    first, second = (Exemplar(7, at, 0.5 + at, 1.7e9, {"trace_id": f"é{at}"}) for at in (0, 1))
    shown = [{"value": 0.5 + at, "time": 1.7e9, "labels": {"trace_id": f"é{at}"}} for at in (0, 1)]
    told = series_of(
        family("counter", Series(("a",), value=3.0, exemplars={0: first})),
        family(
            "histogram", Series(("a",), count=3.0, buckets=(1.0, 3.0), exemplars={1: second, 0: first, 2**63: first})
        ),
    )
    assert told[0][0]["exemplars"] == shown[:1]
    assert told[1][0]["exemplars"] == [{"bucket": 0} | shown[0], {"bucket": 1} | shown[1]]
    assert exported(fleet(exemplars=(first, second)))["exemplars"] == shown


def test_exemplars_of_a_hub_are_in_it(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=16) as metrics:
        waits = CustomMetrics(metrics).histogram("waits", buckets=[0.1, 1.0])
        waits.observe(0.5, exemplar={"trace_id": "abc"})
        metrics.record_exemplar(0.25, {"trace_id": "def"})
        document = exported(metrics.snapshot())
    (exemplar,) = document["metrics"][0]["series"][0]["exemplars"]
    assert (exemplar["bucket"], exemplar["value"], exemplar["labels"]) == (1, 0.5, {"trace_id": "abc"})
    assert [(each["value"], each["labels"]) for each in document["exemplars"]] == [(0.25, {"trace_id": "def"})]


def test_a_gauge_for_each_worker_says_which():
    each = family("gauge", Series(worker=0, value=1.0), Series(worker=3, value=2.0), labels=(), merge="per_worker")
    assert [(series["worker"], series["value"]) for series in series_of(each)[0]] == [(0, 1.0), (3, 2.0)]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_number_that_json_cannot_say_is_null(value):
    told = series_of(
        family("gauge", Series(("a",), value=value)),
        family("histogram", Series(("a",), count=1.0, sum=value, buckets=(1.0,))),
    )
    assert (told[0][0]["value"], told[1][0]["sum"]) == (None, None)


def test_hostile_times_and_measurements_never_make_it_something_else_than_json():
    rows = records([math.nan, -math.inf, NOW, math.inf], inference_time=[math.nan, math.inf, -1.0, 1e308])
    hostile = worker(
        rows,
        claimed_at=math.nan,
        last_seen=math.inf,
        in_flight=(RequestInFlight(math.nan), RequestInFlight(-math.inf)),
    )
    with np.errstate(all="ignore"):
        document = exported(fleet(hostile, peak_recorded=math.inf, created_at=-math.inf))
    assert document["statistics"]["peak_throughput"] is None


def test_any_text_gets_through_and_the_document_is_ascii():
    said = 'quote " backslash \\ newline \n zero \0 é ☃ 😀 lone \udcff' + "x" * 10_000
    whole = said.replace("\udcff", "")
    text = export_json(fleet(families=(family("counter", Series((said,), value=1.0), help=whole),)))
    assert text.isascii()
    (metric,) = strict_json(text)["metrics"]
    assert (metric["help"], metric["series"][0]["labels"]["model"]) == (whole, said)


def test_without_indentation_it_is_one_line():
    assert "\n" not in export_json(fleet(worker(random_records(1, 5))), indent=None)
