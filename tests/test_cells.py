"""Cells of many workers become one by the rules of their metric; cells that cannot be believed count nowhere."""

import enum
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from shmetrics.cells import Plan, retire
from shmetrics.entries import Contents, Placement, run_length
from shmetrics.families import LIVE, MERGES, OVERFLOW, Definition
from shmetrics.series import families
from tests.forge import NOW

CELLS = 32
NEEDS = {"histogram": {"buckets": (0.1, 1.0)}, "gauge": {"merge": "last"}, "enum": {"states": ("up", "down")}}
SERIES = 7
"""Serial number of the only series."""


def plan_of(kind, *, labels=(), info=None, **fields):
    """A catalog of one metric with one series, from cell 2 on."""
    metric = Definition("m", kind, **{**NEEDS.get(kind, {}), "labels": tuple(f"l{at}" for at in range(len(labels)))},
                        **fields)  # fmt: skip
    placement = Placement(SERIES, 1, tuple(labels), 2, 1, info or {})
    used = bytearray(CELLS)
    used[2 : 2 + run_length(metric)] = b"\1" * run_length(metric)
    return Plan(
        Contents(1, {1: metric}, {"m": 1}, {SERIES: placement}, {(1, tuple(labels)): placement}, bytearray(9), used)
    )


def gauge(merge, **options):
    metric = Definition("m", "gauge", merge=merge)
    placement = Placement(SERIES, 1, (), 2, 1)
    used = bytearray(CELLS)
    used[2:6] = b"\1" * 4
    return Plan(Contents(1, {1: metric}, {"m": 1}, {SERIES: placement}, {(1, ()): placement}, bytearray(9), used))


def cells(*values, serial=SERIES):
    """All cells of a slot in which the series has these values."""
    row = np.zeros(CELLS)
    row[2] = serial
    row[3 : 3 + len(values)] = values
    return row


def worker(row, slot=0, *, alive=True, counted=True, in_totals=True):
    return SimpleNamespace(slot=slot, cells=row, alive=alive, counted=counted, in_totals=in_totals)


def merged(plan, *workers, retired=None):
    (family,) = families(plan, np.zeros(CELLS) if retired is None else retired, workers, NOW)
    return family.series


@pytest.mark.parametrize("lives", [True, np.True_])
def test_whoever_says_that_a_worker_lives_may_be_numpy(lives):
    plan = gauge(f"{LIVE}sum")
    assert plan.merge([cells(NOW - 1.0, 5.0, 0.0)[: plan.extent]], [lives], NOW)[4] == 5.0


def test_what_is_retired_is_looked_at_once_and_not_where_others_write(monkeypatch):
    """A count that changed after it was checked would be in the totals for good."""
    plan, seen = plan_of("counter"), []
    retired, dead = np.zeros(plan.extent), cells(3.0)[: plan.extent]
    merge = Plan.merge
    monkeypatch.setattr(Plan, "merge", lambda self, parts, *more: seen.extend(parts) or merge(self, parts, *more))
    retire(plan, retired, dead, NOW)
    assert retired[3] == 3.0
    assert not any(np.shares_memory(part, memory) for part in seen for memory in (retired, dead))


def test_counters_add_up_those_of_the_dead_included():
    plan = plan_of("counter")
    (series,) = merged(
        plan, worker(cells(3.0)), worker(cells(4.5), alive=False), worker(np.zeros(CELLS)), retired=cells(100.0)
    )
    assert series.value == 107.5


def test_a_worker_that_is_in_the_retired_area_already_counts_once():
    (series,) = merged(plan_of("counter"), worker(cells(3.0), alive=False, in_totals=False), retired=cells(3.0))
    assert series.value == 3.0


def test_histograms_add_up_by_bucket_and_show_cumulative_counts():
    plan = plan_of("histogram")
    (series,) = merged(plan, worker(cells(1.5, 1, 2, 0)), worker(cells(30.0, 0, 1, 4)))
    assert (series.sum, series.count, series.buckets) == (31.5, 8.0, (1.0, 4.0, 8.0))


def test_summaries_and_ratios_add_up():
    (summary,) = merged(plan_of("summary"), worker(cells(1.5, 2)), worker(cells(2.5, 1)))
    assert (summary.sum, summary.count) == (4.0, 3.0)
    (ratio,) = merged(plan_of("ratio"), worker(cells(1.0, 2.0)), worker(cells(2.0, 10.0)))
    assert (ratio.sum, ratio.count, ratio.value) == (3.0, 12.0, 0.25)


def test_a_ratio_over_nothing_is_0():
    (ratio,) = merged(plan_of("ratio"), worker(cells(1.0, 0.0)))
    assert ratio.value == 0.0


@pytest.mark.parametrize(("merge", "value"), [("last", 5.0), ("sum", 12.0), ("min", 3.0), ("max", 5.0), ("mean", 4.0)])
def test_gauges_merge_as_they_are_defined_to_the_dead_included(merge, value):
    dead = worker(cells(NOW - 5, 4.0, 1.0), 1, alive=False)
    (series,) = merged(gauge(merge), worker(cells(NOW - 9, 3.0, 1.0)), dead, retired=cells(NOW - 2, 5.0, 1.0))
    assert series.value == value
    assert series.written_at == NOW - 2


@pytest.mark.parametrize(("merge", "value"), [("last", 3.0), ("sum", 5.0), ("min", 2.0), ("max", 3.0), ("mean", 2.5)])
def test_live_merges_forget_workers_that_ended(merge, value):
    dead = worker(cells(NOW - 1, 100.0, 1.0), 1, alive=False)
    (series,) = merged(
        gauge(LIVE + merge),
        worker(cells(NOW - 9, 2.0, 1.0)),
        worker(cells(NOW - 8, 3.0, 1.0)),
        dead,
        retired=cells(NOW - 2, -50.0, 1.0),
    )
    assert series.value == value


@pytest.mark.parametrize("merge", [merge for merge in MERGES if merge != "per_worker"])
def test_a_gauge_that_a_worker_never_set_is_none_of_its_values(merge):
    (series,) = merged(gauge(merge), worker(cells(0.0, 0.0, 0.0)), worker(cells(NOW - 1, -3.0, 1.0)))
    assert series.value == -3.0


@pytest.mark.parametrize("kind", ["counter", "gauge", "summary", "ratio"])
def test_what_nobody_wrote_is_0(kind):
    (series,) = merged(plan_of(kind))
    assert (series.value, series.sum, series.count) == (0.0, 0.0, 0.0)


def test_a_gauge_may_be_nan_or_infinite():
    (series,) = merged(gauge("last"), worker(cells(NOW - 1, math.nan, 1.0)))
    assert math.isnan(series.value)
    (series,) = merged(gauge("max"), worker(cells(NOW - 1, math.inf, 1.0)), worker(cells(NOW - 1, 3.0, 1.0)))
    assert series.value == math.inf


def test_gauges_of_each_worker_show_the_living_and_those_that_ended_a_moment_ago():
    rows = [cells(NOW - 1, float(slot), 1.0) for slot in range(4)]
    workers = [
        worker(rows[0], 0),
        worker(rows[1], 1, alive=False),
        worker(rows[2], 2, alive=False, counted=False),
        worker(cells(0.0, 0.0), 3),
    ]
    assert [(s.worker, s.value) for s in merged(gauge("per_worker"), *workers)] == [(0, 0.0), (1, 1.0)]
    assert [(s.worker, s.value) for s in merged(gauge("live_per_worker"), *workers)] == [(0, 0.0)]


def test_an_enum_is_what_was_set_last():
    early, late = worker(cells(NOW - 9, 1.0)), worker(cells(NOW - 3, 0.0))
    (series,) = merged(plan_of("enum"), early, late)
    assert series.state == "up"
    (series,) = merged(plan_of("enum"), early)
    assert series.state == "down"


@pytest.mark.parametrize("index", [-1.0, 2.0, math.nan, math.inf])
def test_a_state_that_there_is_not_is_the_first(index):
    (series,) = merged(plan_of("enum"), worker(cells(NOW - 9, index)))
    assert series.state == "up"


def test_an_info_metric_says_what_the_catalog_says():
    (series,) = merged(plan_of("info", info={"version": "3"}))
    assert series.info == {"version": "3"}


def test_cells_that_another_series_left_behind_count_nowhere():
    (series,) = merged(plan_of("counter"), worker(cells(3.0, serial=6)), worker(cells(1.0)), retired=cells(9, serial=6))
    assert series.value == 1.0


def test_a_counter_may_count_more_than_a_word_can_hold():
    (series,) = merged(plan_of("counter"), worker(cells(1e19)), worker(cells(1e300)))
    assert series.value == 1e300


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, -math.inf])
def test_counts_that_cannot_be_take_their_series_of_that_worker_with_them_and_no_other(value):
    (series,) = merged(plan_of("counter"), worker(cells(value)), worker(cells(2.0)))
    assert series.value == 2.0
    (series,) = merged(plan_of("histogram"), worker(cells(9.9, 1, value, 1)), worker(cells(0.5, 1, 1, 1)))
    assert (series.sum, series.count) == (0.5, 3.0)


@pytest.mark.parametrize("time", [NOW + 100.0, math.inf, math.nan, -1.0])
def test_a_gauge_from_the_future_or_from_no_time_does_not_hide_the_others(time):
    (series,) = merged(gauge("last"), worker(cells(time, 99.0, 1.0)), worker(cells(NOW - 1, 2.0, 1.0)))
    assert series.value == 2.0


def test_the_overflow_series_is_shown_once_something_overflowed():
    plan = plan_of("counter", labels=(OVERFLOW,))
    assert merged(plan, worker(np.zeros(CELLS))) == ()
    (series,) = merged(plan, worker(cells(3.0)))
    assert (series.labels, series.value) == ((OVERFLOW,), 3.0)


def test_cells_copied_before_the_catalog_grew_count_as_far_as_they_go():
    (series,) = merged(plan_of("counter"), worker(cells(3.0)[:3]), worker(cells(4.0)[:4]))
    assert series.value == 4.0


@pytest.mark.parametrize("kind", ["counter", "histogram", "summary", "ratio", "gauge", "enum"])
def test_retiring_the_dead_one_by_one_gives_what_merging_them_at_once_gives(kind):
    plan = plan_of(kind)
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(6):
        values = rng.integers(0, 2, 4).astype(float)
        if kind in ("gauge", "enum"):
            values[0] = NOW - rng.uniform(1, 50)
        rows.append(cells(*values[: plan.extent - 3]))
    retired = np.zeros(CELLS)
    for row in rows:
        retire(plan, retired, row, NOW)
    assert merged(plan, retired=retired) == merged(plan, *map(worker, rows))


@pytest.mark.parametrize("merge", [merge for merge in MERGES if merge != "per_worker"])
def test_retired_gauges_are_what_all_the_dead_together_were(merge):
    plan = gauge(merge)
    rows = [cells(NOW - 9, 3.0, 1.0), cells(NOW - 8, 8.0, 1.0), cells(NOW - 11, 1.0, 1.0)]
    retired = np.zeros(CELLS)
    for row in rows:
        retire(plan, retired, row, NOW)
    assert merged(plan, retired=retired) == merged(plan, *map(worker, rows))


def test_live_gauges_are_not_retired():
    plan = gauge("live_sum")
    retired = np.zeros(CELLS)
    retire(plan, retired, cells(NOW - 9, 3.0, 1.0), NOW)
    assert merged(plan, retired=retired)[0].value == 0.0


def test_an_empty_catalog_has_no_families():
    assert families(Plan(Contents()), np.zeros(0), [worker(np.zeros(0))], NOW) == ()


def test_numpy_runs_no_code_of_an_enum_where_it_would_drop_an_interrupt():
    called = []

    def calls(frame, event, _):
        if event == "call" and frame.f_code.co_filename == enum.__file__:
            called.append(frame.f_code.co_name)

    sys.setprofile(calls)
    try:
        plan_of("counter")
    finally:
        sys.setprofile(None)
    assert "__getattr__" not in called
