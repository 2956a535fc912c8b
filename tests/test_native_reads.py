"""What reads compute in C is what they compute in Python, whatever is in memory."""

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmetrics import native
from shmetrics.exporters.prometheus.numbers import written
from shmetrics.folded import AT, Folded, fill_measures, flaws, merge
from shmetrics.layout import FOLDED, MEASURES, SECONDS
from shmetrics.percentiles import PERCENTILES, percentiles
from shmetrics.statistics import recent_rates
from shmetrics.window import moments
from tests.forge import NOW, folded_of, random_records, records, worker

if native.IS_BUILT:
    from shmetrics import _native

pytestmark = pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
ODD = (0.0, -0.0, -1.0, 5e-324, 0.1, 1e17, 1e18, 1e39, np.nan, np.inf, -np.inf)
WORDS = (0, 1, 7, 1000, 2**50, 2**50 + 1, 2**51, 2**63, 2**64 - 1, *np.array(ODD).view(np.uint64).tolist())
LATER = 2.0**40
"""A time after that of every record here."""
LONG = (499, 500, 501, 1_000, 6_400, 9_999, 10_000, 12_345)


def in_both(function, *args):
    """What a function returns in Python and in C."""
    found = []
    for setting in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(native.VARIABLE, setting)
            found.append(function(*args))
    return found


def assert_same(function, *args):
    """A function returns the same in both, as its repr tells; and that is returned."""
    in_python, in_c = in_both(function, *args)
    assert repr(in_python) == repr(in_c)
    return in_c


# Folded areas ---------------------------------------------------------------------------------------------------------


def areas_of(*sizes):
    """Areas in which so many records are folded, some of them long ago."""
    folded = [folded_of(random_records(size, size, seconds=300.0)) if size else Folded() for size in sizes]
    return np.array([each.area for each in folded], FOLDED)


_spoilt = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, FOLDED.itemsize // 8 - 1), st.sampled_from(WORDS)), max_size=3
)
_named = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(sorted(AT.values())), st.sampled_from(WORDS)), max_size=3
)


@settings(deadline=None, max_examples=300)
@given(
    _spoilt,
    _named,
    st.sampled_from([(500, 40, 7), (500, 41, 7), (0, 0, 0)]),
    st.sampled_from([LATER, LATER, NOW, np.nan]),
)
def test_whatever_is_in_areas_the_same_is_wrong_with_them(anywhere, at_fields, counts, now):
    areas = areas_of(500, 40, 7)
    for at, word, value in anywhere + at_fields:
        areas.view(np.uint64).reshape(3, -1)[at, word] = value
    assert_same(flaws, areas, counts, now)


@settings(deadline=None, max_examples=300)
@given(_spoilt, _named, st.sampled_from([None, [], [0], [2, 0], [1, 1]]))
def test_whatever_is_in_areas_they_come_to_the_same(anywhere, at_fields, which):
    areas = areas_of(500, 0, 70)
    for at, word, value in anywhere + at_fields:
        areas.view(np.uint64).reshape(3, -1)[at, word] = value
    in_python, in_c = in_both(lambda: merge(areas, which))
    for name in FOLDED.names:
        np.testing.assert_array_equal(in_python.area[name], in_c.area[name], err_msg=name)


@pytest.mark.parametrize(("valid", "invalid"), [(2**50, 1), (2**50, 2**50), (2**51, 0)])
def test_more_records_than_there_can_be_are_wrong_however_well_they_add_up(valid, invalid):
    areas = areas_of(1)
    areas["valid"], areas["invalid"] = valid, invalid
    areas["sketch"][..., 0] = valid
    assert assert_same(flaws, areas, [valid + invalid], LATER) != {}


def test_areas_come_to_the_same_where_their_counts_are_beyond_all_numbers():
    areas = areas_of(1, 1, 1)
    areas["valid"] = [2**63, 2**63, 5]
    areas["min"], areas["max"] = [[3.0], [1.0], [2.0]], [[3.0], [4.0], [2.0]]
    for found in in_both(merge, areas):
        assert (found.area["min"].tolist(), found.area["max"].tolist()) == (5 * [1.0], 5 * [4.0])


def test_areas_that_numpy_joined_without_what_is_between_them_are_checked_and_added_as_well():
    one, other = areas_of(300), areas_of(20)
    joined = np.concatenate([one, other])
    assert joined.itemsize != FOLDED.itemsize, "this version of numpy keeps it"
    assert assert_same(flaws, joined, [300, 20], LATER) == {}
    assert int(merge(joined).valid) == 320


# Records and numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", [None, np.nan, -1.0, 1e18, np.inf])
def test_the_measures_of_records_are_the_same_and_known_to_be_valid_where_they_are(spoilt):
    parts = [random_records(1, 100), records([]), random_records(2, 33)[5:], random_records(3, 40)[::2]]
    if spoilt is not None:
        parts[2]["quantization_time"][11] = spoilt

    def filled():
        table = np.empty((len(MEASURES), sum(map(len, parts))))
        return fill_measures(table, parts), table.tobytes()

    are_valid, table = assert_same(filled)
    assert are_valid is (spoilt is None)
    parts[3] = parts[3].copy()  # of what is not contiguous C leaves the table to Python
    assert assert_same(filled) == (are_valid, table)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 127, 128, 129, 1_000, 64_000])
def test_moments_are_those_of_numpy(size):
    values = np.random.default_rng(size).lognormal(size=(size, 2))
    in_python, in_c = in_both(moments, values[:, 0])
    assert in_python[:2] == (values[:, 0].mean(), values[:, 0].std())
    assert in_python[:2] == pytest.approx(in_c[:2], rel=1e-13)  # numpy has not always added up in the same order
    assert in_python[2:] == in_c[2:] == (values[:, 0].min(), values[:, 0].max())


@pytest.mark.parametrize("values", [[0.0, -0.0], [-0.0, 0.0], [-0.0], 600 * [-0.0], 599 * [-0.0] + [0.25]])
def test_no_zero_is_below_zero(values):
    row = np.array(values)
    assert "-0.0" not in repr(assert_same(moments, row))
    assert "-0.0" not in repr(assert_same(percentiles, row[np.newaxis]))


def _drawn(draw, size):
    """Rows of numbers that are hard to tell apart, or have nothing in common."""
    yield draw.lognormal(size=(3, size))
    yield np.full((2, size), 0.1)
    yield draw.integers(1, 64, size=(2, size)).astype(float)
    yield np.where(draw.random((2, size)) < 0.01, 1e17, draw.random((2, size)) * 1e-3)
    yield np.where(draw.random((2, size)) < 0.5, 1.0, np.nextafter(1.0, 2.0))
    yield np.where(draw.random((2, size)) < 0.5, 0.0, 5e-324)
    yield 10.0 ** draw.uniform(-300.0, 17.0, (2, size))
    yield np.asfortranarray(draw.lognormal(size=(3, size)))


@pytest.mark.parametrize("size", [1, 2, 3, 100, *LONG])
def test_percentiles_and_medians_of_all_kinds_of_rows_are_those_of_numpy(size):
    for rows in _drawn(np.random.default_rng(size), size):
        before = rows.copy()
        found = assert_same(percentiles, rows)
        assert found.each == [np.percentile(rows, percent, axis=1).tolist() for percent in PERCENTILES]
        assert found.medians == np.median(rows, axis=1).tolist()
        np.testing.assert_array_equal(rows, before)


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(), st.integers(-(2**60), 2**60), st.sampled_from(ODD)), min_size=16, max_size=40))
def test_numbers_are_written_the_same(numbers):
    assert_same(written, numbers)


@pytest.mark.parametrize("first", [np.float64(-0.0), np.float32(-0.0), -0.0])
def test_no_zero_is_written_as_another_was(first):
    numbers = [first, 0, False, 0.0, np.float64(0.0), np.float64(0.5), True, 1, np.float32(2.0)]
    assert assert_same(written, 2 * numbers)[:4] == ["-0.0", "0.0", "0.0", "0.0"]


# Recent rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_recent_rates_are_the_same_however_old_the_worker_and_busy_the_seconds(seed):
    draw = np.random.default_rng(seed)
    seconds = float(draw.choice([0.5, 5.0, 70.0, 2.0 * SECONDS]))
    rows = random_records(seed, int(draw.integers(1, 300)), seconds=seconds)
    now = float(rows["time"][-1]) + draw.random() * 3.0
    workers = [worker(rows, claimed_at=now - age) for age in (0.0, 0.5, 4.0, 11.0, 300.0)]
    for one, other in zip(*in_both(recent_rates, workers, now), strict=True):
        assert one == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize("now", [0.25, 3.5, 61.0])
def test_a_machine_that_has_booted_just_now_has_no_seconds_before_that(now):
    each = worker(records([0.125, 0.25], inference_time=0.5), claimed_at=0.0)
    assert_same(recent_rates, [each], now)


# Calls that nobody makes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("doubtful", (b"", [1], 0.0)),
        ("add_areas", (bytearray(FOLDED.itemsize), bytes(FOLDED.itemsize), [1])),
        ("add_areas", (bytearray(8), bytes(FOLDED.itemsize), [0])),
        ("fill_measures", (bytearray(40), [b""])),
        ("fill_measures", (bytearray(40), [bytes(128)])),
        ("fill_measures", (bytearray(40), [None])),
        ("moments", (b"",)),
        ("at_ranks", (bytes(80), 0, [0])),
        ("at_ranks", (bytes(80), 3, [0])),
        ("at_ranks", (bytes(80), 10, [])),
        ("at_ranks", (bytes(80), 10, [10])),
        ("at_ranks", (bytes(80), 10, [3, 2])),
        ("at_ranks", (bytes(80), 10, [0] * 17)),
        ("recent_rates", ([bytes(8)], [1.0], 1.0)),
        ("recent_rates", ([bytes(FOLDED.itemsize)], [], 1.0)),
        ("recent_rates", ([bytes(FOLDED.itemsize)], ["long"], 1.0)),
        ("recent_rates", ([bytes(FOLDED.itemsize)], [1.0], math.nan)),
        ("process_stat", (-1,)),
        ("walk", (1, None)),
        ("walk", ("deep", None, ())),
        ("walk", (1, None, 5)),
        ("walk", (1, 5, ())),
    ],
)
def test_what_does_not_fit_is_refused_or_left_to_python(name, args):
    try:
        found = getattr(_native, name)(*args)
    except (ValueError, IndexError, TypeError, OverflowError):
        return
    assert found in (None, [0])


def test_a_process_is_told_as_proc_has_it():
    (state, ticks, threads, start, virtual, pages) = _native.process_stat(os.getpid())
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    assert (state, threads, start) == ("R", int(fields[17]), int(fields[19]))
    assert ticks <= int(fields[11]) + int(fields[12])
    assert virtual > pages > 0
    assert _native.process_stat(2**64 - 1) is None


@pytest.mark.parametrize("size", [10, 25, 50, 1_000, 5_000])
def test_numbers_that_are_none_do_no_harm_where_percentiles_are_looked_for(size):
    draw = np.random.default_rng(size)
    for values in (
        draw.integers(0, 2**64, 5_000, dtype=np.uint64).view(np.float64),
        draw.choice(np.array(ODD), 5_000),
        np.where(draw.random(5_000) < 0.5, np.nan, -1.0),
    ):
        found = np.frombuffer(_native.at_ranks(values, size, [0, 1, size // 2, size - 1])).view(np.uint64)
        assert np.isin(found, values.view(np.uint64) & np.uint64(2**63 - 1)).all()


def test_no_more_numbers_are_remembered_than_are_to_be():
    remembered = {}
    assert _native.written([0.1, 7.0, 0.2, 0.1, 0.3], remembered, 2) == ["0.1", "7.0", "0.2", "0.1", "0.3"]
    assert remembered == {0.3: "0.3"}
