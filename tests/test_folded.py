"""The folded area: adding, merging, and what is kept out of both."""

import numpy as np
import pytest

from shmetrics.folded import LIMIT, Folded, flaw, measures_of, merge
from shmetrics.layout import FOLDED, MEASURES, SECONDS
from tests.forge import folded_of, merged, random_records, records

COUNTS = ("valid", "invalid", "errors", "min", "max", "sketch", "second", "requests", "second_errors", "latency_max")
SUMS = ("sum", "latency_sum")
LATER = 2.0**40
"""A time after that of every record here."""


def assert_same(one, other):
    """Two areas hold the same: counts and extremes exactly, sums but for the order in which floats were added."""
    for name in COUNTS:
        np.testing.assert_array_equal(one.area[name], other.area[name], err_msg=name)
    for name in SUMS:
        np.testing.assert_allclose(one.area[name], other.area[name], rtol=1e-12, err_msg=name)


def per_second(folded):
    """What the per-second ring holds: requests and errors by second."""
    return {
        int(folded.second[at]): (int(folded.requests[at]), int(folded.second_errors[at]))
        for at in np.flatnonzero(folded.requests)
    }


def with_invalid(rows, *, every=7):
    """The records, some of them spoilt."""
    rows["inference_time"][::every] = np.nan
    rows["batch_size"][3::every] = -1.0
    return rows


class TestAdding:
    """Records become counts, sums, extremes and buckets."""

    def test_a_batch_that_begins_and_ends_in_one_second_may_have_others_in_between(self):
        """Threads may commit what they timed earlier a little later."""
        assert per_second(folded_of(records([10.2, 11.0, 9.9, 10.7]))) == {9: (1, 0), 10: (2, 0), 11: (1, 0)}
        assert per_second(folded_of(records([10.2, np.nan, 10.7]))) == {0: (1, 0), 10: (2, 0)}

    def test_counts_sums_and_extremes_are_those_of_the_records(self):
        rows = random_records(1, 500)
        folded, measures = folded_of(rows), measures_of(rows)
        assert (int(folded.valid), int(folded.invalid)) == (500, 0)
        assert int(folded.errors) == rows["errors"][-1]
        np.testing.assert_allclose(folded.sum, measures.sum(axis=1), rtol=1e-12)
        assert (folded.minimum == measures.min(axis=1)).all()
        assert (folded.maximum == measures.max(axis=1)).all()
        assert (folded.sketch.sum(axis=1) == 500).all()

    def test_the_total_time_is_the_sum_of_the_three_times(self):
        rows = records([1.0], inference_time=0.5, preprocessing_time=0.25, quantization_time=0.125, batch_size=8)
        assert dict(zip(MEASURES, measures_of(rows)[:, 0].tolist(), strict=True)) == {
            "inference_time": 0.5,
            "batch_size": 8.0,
            "preprocessing_time": 0.25,
            "quantization_time": 0.125,
            "total_time": 0.875,
        }

    def test_no_records_change_nothing(self):
        folded = folded_of(random_records(2, 10))
        before = folded.area.tobytes()
        folded.add_rows(records([]))
        assert folded.area.tobytes() == before

    @pytest.mark.parametrize("size", [1, 2, 7, 256, 999])
    def test_records_added_in_any_split_equal_records_added_at_once(self, size):
        rows = with_invalid(random_records(3, 1000))
        assert_same(folded_of(*(rows[at : at + size] for at in range(0, 1000, size))), folded_of(rows))

    def test_a_copy_is_the_same_to_the_byte_and_apart(self):
        original, copy = folded_of(random_records(4, 50)), Folded()
        copy.copy_from(original)
        assert copy.area.tobytes() == original.area.tobytes()
        copy.clear()
        assert int(original.valid) == 50
        assert not any(copy.area.tobytes())


@pytest.mark.usefixtures("written_in")
class TestMerging:
    """Areas of several workers become one."""

    def test_merged_areas_equal_the_replay_of_all_records_in_order_of_time(self):
        rows = with_invalid(random_records(5, 900))
        rows["errors"] = 0  # cumulative within one worker, so not to be interleaved
        shares = np.random.default_rng(5).integers(0, 4, len(rows))
        assert_same(merged(*(folded_of(rows[shares == share]) for share in range(4))), folded_of(rows))

    def test_merged_seconds_equal_the_replay_where_seconds_were_overwritten(self):
        """Over the history that the ring promises; a second older than that stays wherever nothing took its place."""
        rows = random_records(6, 900, seconds=2.5 * SECONDS)
        rows["errors"] = 0
        shares = np.random.default_rng(6).integers(0, 3, len(rows))
        areas = merged(*(folded_of(rows[shares == share]) for share in range(3))), folded_of(rows)
        oldest = int(rows["time"][-1]) - SECONDS + 1
        merge_of, replay_of = ({s: n for s, n in per_second(area).items() if s >= oldest} for area in areas)
        assert merge_of == replay_of

    def test_errors_of_several_workers_are_added_in_each_second(self):
        one = folded_of(records([10.1, 10.2, 11.1], errors=[1, 2, 2]))
        other = folded_of(records([10.5, 11.5], errors=[1, 5]))
        both = merged(one, other)
        assert per_second(both) == {10: (3, 3), 11: (2, 4)}
        assert int(both.errors) == 7

    def test_the_order_does_not_matter(self):
        areas = [folded_of(random_records(seed, 200, start=start)) for seed, start in ((7, 900), (8, 600), (9, 1000))]
        assert_same(merged(*areas), merged(*reversed(areas)))

    def test_nothing_merges_to_nothing(self):
        assert not any(merge(merged().area.reshape(1)[:0]).area.tobytes())

    def test_an_empty_area_does_not_pull_the_minimum_to_zero(self):
        folded = folded_of(random_records(10, 20))
        assert_same(merged(Folded(), folded, Folded()), folded)


INVALID = {
    "nan": np.nan,
    "infinite": np.inf,
    "negative infinite": -np.inf,
    "negative": -1e-9,
    "at the limit": LIMIT,
    "largest double": np.finfo(float).max,
}


class TestInvalidRecords:
    """What is no plausible measurement is counted, left out, and never a warning."""

    @pytest.mark.parametrize("column", ["inference_time", "batch_size", "preprocessing_time", "quantization_time"])
    @pytest.mark.parametrize("value", INVALID.values(), ids=INVALID)
    def test_an_invalid_record_is_counted_and_otherwise_left_out(self, column, value):
        rows = random_records(11, 30)
        good = np.delete(rows, 13)
        rows[column][13] = value
        folded = folded_of(rows)
        assert int(folded.invalid) == 1
        folded.invalid[...] = 0
        assert_same(folded, folded_of(good))

    def test_valid_times_whose_sum_reaches_the_limit_are_invalid(self):
        folded = folded_of(records([1.0, 2.0], inference_time=[0.6e18, 0.1], preprocessing_time=[0.6e18, 0.1]))
        assert (int(folded.valid), int(folded.invalid)) == (1, 1)

    def test_finite_times_whose_sum_overflows_are_invalid(self):
        folded = folded_of(
            records([1.0], inference_time=1.7e308, preprocessing_time=1.7e308, quantization_time=1.7e308)
        )
        assert (int(folded.valid), int(folded.invalid)) == (0, 1)

    def test_infinities_that_cancel_out_are_invalid(self):
        folded = folded_of(records([1.0], inference_time=np.inf, preprocessing_time=-np.inf))
        assert (int(folded.valid), int(folded.invalid)) == (0, 1)

    def test_only_invalid_records_leave_an_otherwise_empty_area(self):
        folded = folded_of(records([1.0, 2.0], inference_time=np.nan))
        assert int(folded.invalid) == 2
        folded.invalid[...] = 0
        assert not any(folded.area.tobytes())

    def test_just_below_the_limit_is_valid(self):
        folded = folded_of(records([1.0], inference_time=np.nextafter(LIMIT, 0.0)))
        assert (int(folded.valid), int(folded.invalid)) == (1, 0)


class TestPerSecondRing:
    """Requests, errors and latency of the last SECONDS seconds."""

    def test_requests_are_counted_in_their_second(self):
        assert per_second(folded_of(records([10.0, 10.999, 11.0, 13.5]))) == {10: (2, 0), 11: (1, 0), 13: (1, 0)}

    def test_latency_is_the_sum_and_the_maximum_of_total_time(self):
        folded = folded_of(records([10.0, 10.5, 11.0], inference_time=[1.0, 2.0, 4.0], preprocessing_time=0.5))
        assert folded.latency_sum[[10, 11]].tolist() == [4.0, 4.5]
        assert folded.latency_max[[10, 11]].tolist() == [2.5, 4.5]

    def test_errors_belong_to_the_second_of_the_record_that_first_shows_them(self):
        assert per_second(folded_of(records([10.1, 10.9, 12.5], errors=[1, 3, 4]))) == {10: (2, 3), 12: (1, 1)}

    def test_errors_are_not_counted_again_by_the_next_batch(self):
        rows = records([10.1, 10.2, 10.3], errors=[2, 2, 3])
        assert per_second(folded_of(rows[:1], rows[1:2], rows[2:])) == {10: (3, 3)}

    def test_a_second_replaces_the_one_a_whole_ring_earlier(self):
        folded = folded_of(records([10.5, 10.6, 11.5]), records([10.5 + SECONDS], inference_time=0.01, errors=1))
        assert per_second(folded) == {11: (1, 0), 10 + SECONDS: (1, 1)}
        assert folded.latency_sum[10] == folded.latency_max[10] == 0.01

    def test_a_gap_longer_than_the_ring_leaves_old_seconds_under_their_old_number(self):
        later = 20.5 + 3 * SECONDS
        assert per_second(folded_of(records([10.5, later]))) == {10: (1, 0), int(later): (1, 0)}

    def test_a_batch_of_more_seconds_than_the_ring_holds_keeps_the_last(self):
        rows = records(np.arange(2 * SECONDS + 50.0))
        assert set(per_second(folded_of(rows))) == set(range(SECONDS + 50, 2 * SECONDS + 50))

    def test_errors_stay_in_their_second_in_a_batch_of_more_seconds_than_the_ring_holds(self):
        rows = records(np.arange(SECONDS + 50.0), errors=np.arange(1, SECONDS + 51))
        assert set(per_second(folded_of(rows)).values()) == {(1, 1)}

    @pytest.mark.parametrize(
        "times",
        [
            [np.nan, np.nan, np.nan],
            [5.0, np.nan, 6.0],
            [np.inf, -np.inf, np.inf],
            [-1.0, -1e300, -0.0],
            [1e300, 2.0**40, 2.0**53],
            [9.5, 3.5, 9.5 + SECONDS, 3.5],
            np.array([0x7FF0000000000001] * 3, np.uint64).view(np.float64),
        ],
        ids=["nan", "some nan", "infinite", "negative", "huge", "unsorted", "signalling nan"],
    )
    def test_hostile_times_neither_raise_nor_warn_nor_make_an_area_impossible(self, times):
        folded = folded_of(records(times, errors=np.arange(len(times))))
        assert int(folded.valid) == len(times)
        assert flaw(folded.area, len(times), LATER) is None


@pytest.mark.usefixtures("written_in")
class TestFlaw:
    """What a hostile or damaged area is caught by, and that no honest one is."""

    @pytest.mark.parametrize(
        "folded",
        [
            Folded(),
            folded_of(random_records(12, 1)),
            folded_of(random_records(13, 2000, seconds=700.0)),
            folded_of(with_invalid(random_records(14, 300))),
            folded_of(records([1.0, 2.0], inference_time=np.nan)),
            folded_of(records(np.arange(300.0), inference_time=0.99e18, errors=2**62)),
            merged(*(folded_of(with_invalid(random_records(seed, 400))) for seed in range(5))),
            merged(*(folded_of(records(np.arange(300.0), batch_size=0.99e18)) for _ in range(64))),
        ],
        ids=["empty", "one", "wrapped", "some invalid", "all invalid", "huge", "merged", "merged huge"],
    )
    def test_an_honestly_built_area_has_none(self, folded):
        assert flaw(folded.area, int(folded.valid) + int(folded.invalid), LATER) is None

    @pytest.mark.parametrize("records_folded", [0, 99, 101, 2**62])
    def test_counts_that_do_not_add_up_to_the_records_folded(self, records_folded):
        assert "add up" in flaw(folded_of(random_records(15, 100)).area, records_folded, LATER)

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("invalid", 1, "counts do not add up"),
            ("valid", 2**64 - 1, "counts do not add up"),
            ("sketch", 2, "sketches do not add up"),
            ("sum", np.nan, "not plausible numbers"),
            ("sum", -1.0, "not plausible numbers"),
            ("sum", np.inf, "not plausible numbers"),
            ("min", np.nan, "not plausible numbers"),
            ("min", -1.0, "not plausible numbers"),
            ("max", np.inf, "not plausible numbers"),
            ("latency_sum", np.nan, "not plausible numbers"),
            ("latency_max", -np.inf, "not plausible numbers"),
            ("min", 1e17, "minimum is above"),
            ("second", 2**41, "per-second ring"),
            ("second", 2**64 - 1, "per-second ring"),
            ("requests", 101, "per-second ring"),
            ("requests", 2**64 - 1, "per-second ring"),
        ],
    )
    def test_each_impossible_word_is_found(self, name, value, reason):
        area = folded_of(random_records(16, 100)).area
        area[name].reshape(-1)[:1] = value
        assert reason in flaw(area, 100, LATER)

    def test_sketch_counts_that_wrap_round_are_found_without_a_warning(self):
        area = folded_of(random_records(17, 100)).area
        area["sketch"][0, :2] += np.uint64(2**63)  # so that they still add up
        assert "sketches" in flaw(area, 100, LATER)

    @pytest.mark.parametrize("name", ["sum", "max", "latency_sum", "latency_max"])
    def test_a_number_that_no_valid_records_can_add_up_to_is_found(self, name):
        """A hundred records below LIMIT cannot make 1e300; and two such areas would overflow when added."""
        area = folded_of(random_records(18, 100)).area
        area[name][0] = 1e300
        assert flaw(area, 100, LATER) is not None

    def test_more_errors_in_a_second_than_there_ever_were_are_found(self):
        area = folded_of(random_records(19, 100)).area
        area["second_errors"][int(area["second"].argmax())] = 2**64 - 1
        assert flaw(area, 100, LATER) is not None

    def test_a_second_that_has_not_come_yet_is_found(self):
        area = folded_of(records([1000.5])).area
        assert flaw(area, 1, 1000.6) is None
        assert "per-second ring" in flaw(area, 1, 998.9)

    def test_more_records_than_there_can_have_been_are_found_though_the_counts_agree(self):
        """Two such areas would wrap round when added, and a percentile of the sum would have no bucket."""
        folded = Folded()
        folded.valid[...] = 2**63
        folded.sketch[:, 7] = 2**63
        assert "counts" in flaw(folded.area, 2**63, LATER)


@pytest.mark.parametrize("bits", [0x7FF0000000000001, 0x7FEFFFFFFFFFFFFF], ids=["signalling nan", "largest"])
def test_adding_areas_that_nobody_has_checked_does_not_warn(bits):
    """A reaper adds to the retired area as it is, in the middle of a request. (Here every warning is an error.)"""
    area = folded_of(random_records(20, 100)).area
    for name in ("sum", "min", "max", "latency_sum", "latency_max"):
        area[name][:] = np.uint64(bits).view(np.float64)
    merge(np.array([area, area], FOLDED))
