"""Tails added to many areas at once are what the owner of each would have folded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmetrics.folded import Folded, flaw
from shmetrics.layout import FOLDED, SECONDS
from shmetrics.tails import add_tails
from tests.forge import folded_of, random_records, records
from tests.test_folded import assert_same

pytestmark = pytest.mark.usefixtures("written_in")
LATER = 2.0**40
ODD = (0.0, -1.0, 1e-300, 0.5, 1e17, 1e18, 1e300, np.nan, np.inf, -np.inf)
"""Measurements and times, the impossible among them."""


def block_of(foldeds):
    areas = np.zeros(len(foldeds), FOLDED)
    for at, folded in enumerate(foldeds):
        areas[at] = folded.area
    return areas


def assert_as_one_by_one(foldeds, tails):
    """Add each tail to its area by `Folded.add_rows`, and all at once: the same."""
    areas = block_of(foldeds)
    add_tails(areas, tails)
    for at, (folded, tail) in enumerate(zip(foldeds, tails, strict=True)):
        folded.add_rows(tail)
        assert_same(Folded(areas[at, ...]), folded)


@pytest.mark.parametrize("seconds", [0.5, 40.0, 2.5 * SECONDS], ids="over {} s".format)
@pytest.mark.parametrize("sizes", [(100,), (0, 1, 255, 0, 511, 2), (3, 3)], ids=str)
def test_honest_tails_of_any_lengths(sizes, seconds):
    ordered = [random_records(seed, 200 + size, seconds=seconds) for seed, size in enumerate(sizes)]
    assert_as_one_by_one([folded_of(rows[:200]) for rows in ordered], [rows[200:] for rows in ordered])


def test_tails_of_areas_that_are_empty():
    assert_as_one_by_one([Folded(), Folded(), Folded()], [random_records(1, 9), records([]), random_records(2, 300)])


def test_no_tails_change_nothing():
    areas = block_of([folded_of(random_records(3, 50))] * 2)
    before = areas.tobytes()
    add_tails(areas, [records([])] * 2)
    assert areas.tobytes() == before


def test_a_tail_that_goes_on_in_the_second_in_which_the_last_fold_ended():
    assert_as_one_by_one(
        [folded_of(records([10.1, 10.2], errors=[1, 1])), folded_of(records([10.3], errors=[4]))],
        [records([10.5, 11.5], errors=[2, 2]), records([10.4, 10.6, 12.0], errors=[5, 6, 9])],
    )


def test_errors_counted_before_are_not_counted_again_and_a_count_that_goes_back_is_none():
    assert_as_one_by_one(
        [folded_of(records([10.0], errors=7)), Folded()],
        [records([10.5, 11.5, 12.5], errors=[3, 9, 8]), records([10.5, 10.6], errors=[2, 1])],
    )


_row = st.tuples(
    st.sampled_from([*ODD, 10.2, 10.9, 11.5, 11.5 + SECONDS, 10.2 + 2 * SECONDS]),
    st.lists(st.sampled_from(ODD), min_size=4, max_size=4),
    st.integers(0, 2**50),
)


def _records(drawn):
    rows = records([time for time, _, _ in drawn], errors=[errors for _, _, errors in drawn])
    for at, name in enumerate(("inference_time", "batch_size", "preprocessing_time", "quantization_time")):
        rows[name] = [measures[at] for _, measures, _ in drawn]
    return rows


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.lists(_row, max_size=6), st.lists(_row, max_size=12)), min_size=1, max_size=5))
def test_whatever_the_rows_are_the_areas_are_what_their_owners_would_have_made_of_them(drawn):
    """Times that go back, seconds that displace each other, numbers that are none: the same, and possible."""
    foldeds, tails = [folded_of(_records(before)) for before, _ in drawn], [_records(tail) for _, tail in drawn]
    assert_as_one_by_one(foldeds, tails)
    for folded, (before, tail) in zip(foldeds, drawn, strict=True):
        assert flaw(folded.area, len(before) + len(tail), LATER) is None


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_areas_and_rows_of_random_bytes_neither_raise_nor_warn(seed):
    rng = np.random.default_rng(seed)
    areas = np.frombuffer(bytearray(rng.bytes(3 * FOLDED.itemsize)), FOLDED)
    rows = np.frombuffer(rng.bytes(64 * 60), records([]).dtype)
    add_tails(areas, [rows[:20], rows[20:20], rows[20:]])
