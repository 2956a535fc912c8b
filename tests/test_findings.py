"""Findings: each rule says who, what and how much against what, and says nothing of a fleet that is well."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from shmetrics.board import RequestInFlight
from shmetrics.evidence import Evidence
from shmetrics.findings import RECENT_DEATH, find
from shmetrics.snapshot import Usage
from tests.forge import NOW, fleet, obituary, random_records, records, worker


def found(snapshot, **evidence):
    return find(Evidence(snapshot, **evidence))


def serving(*ages, label="GET /predict", recorded=0.0, **fields):
    """A worker that serves requests of these ages, and recorded the last one so many seconds ago."""
    in_flight = tuple(RequestInFlight(NOW - age, label) for age in sorted(ages, reverse=True))
    return worker([NOW - recorded], in_flight=in_flight, last_seen=NOW - recorded, **fields)


def test_a_fleet_that_is_well_has_no_findings():
    workers = [
        worker(random_records(slot, 150), slot=slot, in_flight=(RequestInFlight(NOW - 1.0),)) for slot in range(4)
    ]
    assert found(fleet(*workers)) == []
    assert found(fleet()) == []


def test_a_worker_that_serves_one_request_for_too_long_and_records_nothing_hangs():
    (finding,) = found(fleet(serving(12.0, recorded=14.0, slot=3, pid=99), serving(9.0, slot=1)))
    assert (finding.kind, finding.level, finding.worker, finding.pid) == ("hung_worker", "problem", 3, 99)
    assert (finding.value, finding.threshold) == (12.0, 10.0)
    assert finding.text.startswith(
        "worker 99 in slot 3 hangs: it has been serving GET /predict for 12 s, and has recorded nothing for 14 s; "
    )
    assert "py-spy dump --pid 99" in finding.text


def test_a_request_that_is_stuck_while_others_go_on_is_a_warning():
    (finding,) = found(fleet(serving(30.0, 20.0, 15.0, 1.0, recorded=0.5)))
    assert (finding.kind, finding.level) == ("stuck_request", "warning")
    assert "has been serving GET /predict for 30 s, and 2 more for over 10 s, while it goes on" in finding.text


def test_from_when_on_a_request_is_stuck_is_up_to_the_operator():
    snapshot = fleet(serving(2.5, recorded=5.0))
    assert found(snapshot) == found(snapshot, stuck_after=2.5) == []
    assert [each.threshold for each in found(snapshot, stuck_after=2.0)] == [2.0]


def test_a_request_without_a_label_is_one_request():
    assert "serving one request for 12 s" in found(fleet(serving(12.0, label="", recorded=20.0)))[0].text


def test_the_dead_serve_nothing():
    assert found(fleet(serving(100.0, recorded=100.0, alive=False)), has_aggregator=True) == []
    assert found(fleet(serving(100.0, recorded=100.0, alive=False, ended_at=NOW - 1.0))) == []


def test_without_an_aggregator_a_worker_that_is_gone_over_its_requests_is_named():
    lost = serving(30.0, 20.0, recorded=14.0, slot=3, pid=99, alive=False)
    (finding,) = found(fleet(lost, serving(slot=1, alive=False), name="resnet"))
    assert (finding.kind, finding.level, finding.worker, finding.pid) == ("lost_worker", "problem", 3, 99)
    assert finding.text == (
        "worker 99 in slot 3 is gone, with 2 requests in flight (GET /predict, GET /predict); it was last seen 14 s "
        "ago; `shmetrics serve resnet` writes its obituary and frees its slot"
    )
    assert "with 5 requests in flight; it" in found(fleet(worker(alive=False, crowd=5)))[0].text
    late = serving(30.0, 2.0, recorded=60.0, alive=False)
    assert "it was last seen 2 s ago" in found(fleet(late))[0].text


@pytest.mark.parametrize(("state", "is_lost"), [("S", False), ("R", False), ("Z", True), ("X", True), (None, True)])
def test_who_lives_without_its_slot_is_not_gone(state, is_lost):
    """It has closed descriptors that were not its own."""
    lost = serving(30.0, recorded=60.0, alive=False)
    assert bool(found(fleet(lost), usages={0: Usage(state=state)})) == is_lost


def test_a_stopped_worker_is_said_to_be_stopped_and_not_to_hang():
    snapshot = fleet(serving(100.0, recorded=100.0, slot=2))
    (finding,) = found(snapshot, usages={2: Usage(state="T")})
    assert (finding.kind, finding.level, finding.worker) == ("stopped_worker", "problem", 2)
    assert [each.kind for each in found(snapshot, usages={2: Usage(state="D")})] == ["hung_worker"]


def test_a_worker_that_was_killed_is_named_with_what_it_was_serving():
    (finding,) = found(fleet(obituaries=(obituary(slot=3, pid=1234, noticed=NOW - 12.0),), name="resnet"))
    assert finding.text == (
        "worker 1234 in slot 3 was killed by SIGKILL 12 s ago while serving 1 request: GET /predict for 3.2 s; "
        "shmetrics obituaries resnet tells more"
    )
    assert (finding.kind, finding.level, finding.worker, finding.pid) == ("dead_worker", "problem", 3, 1234)


@pytest.mark.parametrize(
    "fields",
    [
        {"noticed": NOW - RECENT_DEATH},
        {"exit_code": 0},
        {"exit_code": None, "in_flight": 0, "requests_in_flight": ()},
        {"exit_code": -15, "in_flight": 0, "requests_in_flight": ()},
        {"exit_code": -2, "in_flight": 0, "requests_in_flight": ()},
    ],
    ids=["long ago", "with status 0", "nobody knows how, and nothing was lost", "SIGTERM", "SIGINT"],
)
def test_other_ends_are_no_news(fields):
    assert found(fleet(obituaries=(obituary(**fields),))) == []


@pytest.mark.parametrize("exit_code", [None, -15, -2])
def test_a_worker_that_was_asked_to_end_and_lost_requests_is_news(exit_code):
    (finding,) = found(fleet(obituaries=(obituary(exit_code=exit_code),)))
    assert "while serving 1 request" in finding.text


def test_of_many_deaths_the_newest_are_named_and_all_are_counted():
    dead = [
        obituary(serial=at, slot=at, noticed=NOW - 100.0 + at, exit_code=(-9, -6, 3)[at % 3]) for at in range(1, 11)
    ]
    *newest, all_of_them = found(fleet(obituaries=tuple(dead)))
    assert [each.worker for each in newest] == [10, 9, 8]
    assert all_of_them.text == "10 workers died in the last 5 min 0 s; 4 by SIGABRT, 3 by SIGKILL, 3 by status 3"


@pytest.mark.parametrize(
    ("kind", "level", "text", "fields", "health"),
    [
        ("dropped_records", "problem", "7 records were dropped", {"dropped": 7}, {}),
        ("corrupt", "problem", "slot 3 cannot be believed and is left out: odd", {}, {"corrupt": {"slot 3": "odd"}}),
        ("corrupt_reaped", "problem", "2 dead workers left slots", {}, {"corrupt_reaped": 2}),
        ("stale", "warning", "figures are older", {}, {"stale": True}),
        ("stale_slots", "warning", "3 slots changed too fast", {}, {"stale_slots": 3}),
        ("unlinked", "problem", "its name was removed", {}, {"unlinked": True}),
        ("refused_series", "problem", "series were refused", {}, {"refused_series": 4}),
        ("series_nearly_full", "warning", "95 of 100 blocks", {}, {"catalog_used": 95, "catalog_total": 100}),
        ("series_nearly_full", "warning", "91 of 100 cells", {}, {"cells_used": 91, "cells_total": 100}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_hub_is_found(kind, level, text, fields, health):
    known = fleet(worker(counters=fields))
    (finding,) = found(replace(known, health=replace(known.health, **health)))
    assert (finding.kind, finding.level) == (kind, level)
    assert text in finding.text


def test_measurements_that_are_none_are_found():
    (finding,) = found(fleet(worker(records([NOW] * 4, inference_time=np.nan))))
    assert (finding.kind, finding.value) == ("invalid_records", 4)


def test_a_finding_is_plain_data():
    (finding,) = found(fleet(serving(12.0, recorded=14.0)))
    assert set(asdict(finding)) == {"kind", "level", "text", "subject", "worker", "pid", "value", "threshold"}
