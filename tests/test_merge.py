"""Merging: one read's copies become one snapshot in which everyone counts once."""

from dataclasses import replace

import numpy as np
import pytest

from shmetrics import merge
from shmetrics.board import Busy, RequestInFlight
from shmetrics.slots import LINGER
from shmetrics.snapshot import Counters
from shmetrics.statistics import comprehensive
from tests.forge import NOW, folded_of, hub_copy, merged, random_records, records, retired, slot_copy

ROWS = [random_records(seed, 150, start=950.0) for seed in range(3)]


def requests_of(copy, previous=None):
    """Total requests, and the valid records in the sketches, which must tell the same."""
    snapshot = merge.snapshot(copy, previous)
    return snapshot.counters.requests, int(snapshot.folded.valid)


class TestTotals:
    """Lifetime totals are what is retired and what is in the slots."""

    def test_totals_are_the_retired_ones_and_those_of_every_slot(self):
        snapshot = merge.snapshot(
            hub_copy(slot_copy(0, ROWS[0], dropped=3), slot_copy(2, ROWS[1]), retired_area=retired(ROWS[2], dropped=4))
        )
        last = [rows[-1] for rows in ROWS]
        assert snapshot.counters == Counters(
            450, *(int(sum(row[name] for row in last)) for name in ("errors", "cache_hits", "cache_misses")), dropped=7
        )
        assert int(snapshot.folded.valid) == 450
        assert snapshot.workers_seen == 3

    def test_records_dropped_for_want_of_a_slot_are_added(self):
        assert merge.snapshot(hub_copy(header={"dropped": 12})).counters.dropped == 12

    def test_requests_counted_without_a_record_are_added(self):
        assert requests_of(hub_copy(slot_copy(0, ROWS[0], uncounted=5))) == (155, 150)

    @pytest.mark.parametrize("folded", [0, 1, 49, 100, 150])
    def test_sketches_hold_every_record_wherever_the_last_fold_was(self, folded):
        snapshot = merge.snapshot(hub_copy(slot_copy(0, ROWS[0], folded=folded)))
        assert (snapshot.folded.sketch == folded_of(ROWS[0]).sketch).all()
        assert (snapshot.workers[0].window == ROWS[0][-100:]).all()

    def test_the_folded_data_of_the_fleet_is_that_of_its_workers_merged(self):
        snapshot = merge.snapshot(hub_copy(slot_copy(0, ROWS[0], folded=9), slot_copy(1, ROWS[1])))
        assert snapshot.folded.area.tobytes() == merged(*(each.folded for each in snapshot.workers)).area.tobytes()

    def test_an_empty_hub_has_nothing(self):
        snapshot = merge.snapshot(hub_copy())
        assert snapshot.counters == Counters()
        assert (snapshot.workers, snapshot.workers_seen, int(snapshot.folded.valid)) == ((), 0, 0)


class TestRetirement:
    """A worker moves from its slot to the retired area, and is never in both nor in neither."""

    def test_a_worker_reaped_while_we_read_counts_once_and_is_dead(self):
        copy = hub_copy(slot_copy(1, ROWS[0]), retired_area=retired(ROWS[0], folded_generation={1: 1}))
        snapshot = merge.snapshot(copy)
        assert (snapshot.counters.requests, int(snapshot.folded.valid), snapshot.workers_seen) == (150, 150, 1)
        assert [worker.alive for worker in snapshot.workers] == [False]

    def test_a_worker_whose_successor_was_reaped_too_while_we_read_counts_once(self):
        both = retired(np.concatenate([ROWS[0], ROWS[1]]), folded_generation={1: 2}, incarnations=2)
        snapshot = merge.snapshot(hub_copy(slot_copy(1, ROWS[0], generation=1), retired_area=both))
        assert (snapshot.counters.requests, int(snapshot.folded.valid), snapshot.workers_seen) == (300, 300, 2)

    def test_the_successor_of_a_retired_worker_counts_beside_it(self):
        copy = hub_copy(slot_copy(1, ROWS[1], generation=2), retired_area=retired(ROWS[0], folded_generation={1: 1}))
        assert requests_of(copy) == (300, 300)

    def test_a_free_slot_gives_a_window_and_no_totals(self):
        free = slot_copy(0, ROWS[0], claimed=False, ended_at=NOW - 1.0)
        snapshot = merge.snapshot(hub_copy(free, retired_area=retired(ROWS[0], folded_generation={0: 1})))
        assert (snapshot.counters.requests, snapshot.workers_seen) == (150, 1)
        (worker,) = snapshot.workers
        assert (worker.alive, worker.counted, len(worker.window)) == (False, True, 100)
        assert (snapshot.health.slots_live, snapshot.health.slots_dead) == (0, 0)

    def test_the_dead_who_were_not_reaped_yet_count_in_full(self):
        snapshot = merge.snapshot(hub_copy(slot_copy(0, ROWS[0], alive=False)))
        assert snapshot.counters.requests == 150
        assert (snapshot.health.slots_live, snapshot.health.slots_dead) == (0, 1)


class TestWhoIsCounted:
    """The window of a worker is part of the fleet's while it lives, and for LINGER seconds after."""

    def counted(self, *, reaped=False, **fields):
        area = retired(folded_generation={0: 1}) if reaped else None
        (worker,) = merge.snapshot(hub_copy(slot_copy(0, claimed=not reaped, **fields), retired_area=area)).workers
        return worker.counted

    def test_the_living_are_whenever_they_last_recorded(self):
        assert self.counted(rows=[NOW - 500.0])

    @pytest.mark.parametrize(("ago", "expected"), [(0.0, True), (LINGER - 0.1, True), (LINGER + 0.1, False)])
    def test_who_ended_is_for_a_minute(self, ago, expected):
        assert self.counted(rows=[NOW - 500.0], reaped=True, ended_at=NOW - ago) is expected

    @pytest.mark.parametrize(("ago", "expected"), [(LINGER - 0.1, True), (LINGER + 0.1, False)])
    def test_whose_end_nobody_noticed_is_for_a_minute_after_the_last_record(self, ago, expected):
        assert self.counted(rows=[NOW - ago], alive=False) is expected

    def test_a_heartbeat_counts_as_well_as_a_record(self):
        assert self.counted(rows=[NOW - 300.0], alive=False, heartbeat=NOW - 5.0)

    def test_a_free_slot_whose_claimant_died_half_way_shows_nobody(self):
        snapshot = merge.snapshot(hub_copy(slot_copy(0, [NOW], claimed=False, generation=2)))
        assert (snapshot.workers, snapshot.counters.requests) == ((), 0)


class TestStaleSlots:
    """A slot that would not hold still is shown as the previous snapshot had it."""

    @pytest.fixture
    def previous(self):
        return merge.snapshot(hub_copy(slot_copy(0, ROWS[0]), slot_copy(1, ROWS[1])))

    def test_it_counts_as_before_and_is_marked(self, previous):
        snapshot = merge.snapshot(hub_copy(slot_copy(0, ROWS[2]), stale=[1]), previous)
        assert (snapshot.counters.requests, int(snapshot.folded.valid)) == (300, 300)
        assert [(worker.slot, worker.stale) for worker in snapshot.workers] == [(0, False), (1, True)]
        assert (snapshot.health.stale_slots, snapshot.workers_seen) == (1, 2)

    def test_workers_stay_in_the_order_of_slots(self, previous):
        snapshot = merge.snapshot(hub_copy(slot_copy(1, ROWS[1]), stale=[0]), previous)
        assert [worker.slot for worker in snapshot.workers] == [0, 1]

    def test_it_stays_stale_from_one_snapshot_to_the_next(self, previous):
        second = merge.snapshot(hub_copy(slot_copy(0, ROWS[0]), stale=[1]), previous)
        assert requests_of(hub_copy(slot_copy(0, ROWS[0]), stale=[1]), second) == (300, 300)

    @pytest.mark.parametrize("generation", [1, 2], ids=["it", "its successor"])
    def test_a_worker_that_was_retired_since_counts_once(self, previous, generation):
        area = retired(ROWS[1], folded_generation={1: generation})
        assert requests_of(hub_copy(slot_copy(0, ROWS[0]), stale=[1], retired_area=area), previous) == (300, 300)

    def test_a_worker_that_was_retired_since_is_not_shown_alive(self, previous):
        area = retired(ROWS[1], folded_generation={1: 1})
        snapshot = merge.snapshot(hub_copy(slot_copy(0, ROWS[0]), stale=[1], retired_area=area), previous)
        assert snapshot.health.slots_live == sum(worker.alive for worker in snapshot.workers) == 1

    def test_a_slot_that_was_free_before_counts_no_totals_now(self):
        """Its generation was begun but never claimed (killed in between), so no retired area knows of it."""
        free = slot_copy(1, ROWS[1], claimed=False, generation=2)
        area = retired(ROWS[1], folded_generation={1: 1})
        previous = merge.snapshot(hub_copy(free, retired_area=area))
        assert requests_of(hub_copy(stale=[1], retired_area=area), previous) == (150, 150)

    def test_without_a_previous_snapshot_it_is_left_out_and_counted_as_stale(self):
        snapshot = merge.snapshot(hub_copy(slot_copy(0, ROWS[0]), stale=[1]))
        assert (snapshot.counters.requests, snapshot.health.stale_slots) == (150, 1)


class TestNoRetiredArea:
    """When the retired area was not to be had, no total may go down."""

    def test_the_previous_snapshot_stands_and_is_marked(self):
        previous = merge.snapshot(hub_copy(slot_copy(0, ROWS[0]), retired_area=retired(ROWS[1])))
        snapshot = merge.snapshot(replace(hub_copy(), retired=None), previous)
        assert (snapshot.counters, snapshot.health.stale) == (previous.counters, True)
        assert not previous.health.stale

    def test_its_flaw_is_shown(self):
        copy = replace(hub_copy(), retired=None, flaws={"retired area": "odd"})
        assert merge.snapshot(copy, merge.snapshot(hub_copy())).health.corrupt == {"retired area": "odd"}

    def test_without_a_previous_snapshot_the_slots_are_shown_and_marked(self):
        snapshot = merge.snapshot(replace(hub_copy(slot_copy(0, ROWS[0])), retired=None))
        assert (snapshot.counters.requests, snapshot.health.stale) == (150, True)


class TestNothingIsTrusted:
    """Shared memory may hold anything; what comes out can be shown, compared and serialised."""

    @pytest.mark.parametrize(
        ("role", "shown"),
        [
            (b"web-1", "web-1"),
            ("köln ✓".encode(), "köln ✓"),
            (b"\x1b[2Jgone\x07\r\n", "?[2Jgone???"),
            ("a\u202eb\u200b\x9bc".encode(), "a?b??c"),
            (b"\xff\xfe", "\ufffd\ufffd"),
        ],
        ids=["plain", "unicode", "escape", "invisible", "not utf-8"],
    )
    def test_a_role_shows_no_byte_that_could_drive_a_terminal(self, role, shown):
        assert merge.snapshot(hub_copy(slot_copy(0, role=role))).workers[0].role == shown

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 1e300, NOW + 100.0], ids=str)
    def test_times_that_cannot_be_become_times_from_0_to_now(self, value):
        slot = slot_copy(
            0,
            records([value]),
            claimed_at=value,
            heartbeat=value,
            ended_at=value,
            in_flight=[(value, "x")],
            alive=False,
        )
        snapshot = merge.snapshot(hub_copy(slot, header={"created_monotonic": value, "peak_throughput": value}))
        (worker,) = snapshot.workers
        times = [snapshot.created_at, worker.claimed_at, worker.last_seen, worker.ended_at or 0.0]
        assert all(0.0 <= time <= NOW for time in [*times, *(request.started_at for request in worker.in_flight)])
        assert all(np.isfinite(value) for value in comprehensive(snapshot).values() if isinstance(value, float))

    def test_requests_in_flight_are_those_on_the_board(self):
        snapshot = merge.snapshot(
            hub_copy(slot_copy(0, in_flight=[(NOW - 1.0, "b"), (NOW - 2.0, "a")], board={"crowd": 5}))
        )
        (worker,) = snapshot.workers
        assert worker.in_flight == (RequestInFlight(NOW - 2.0, "a"), RequestInFlight(NOW - 1.0, "b"))
        assert worker.in_flight_count == 7

    def test_busy_time_is_what_the_board_says(self):
        board = {"busy": 3.5, "history": {997: 2.0, 999: -4.0}}
        snapshot = merge.snapshot(hub_copy(slot_copy(0, board=board)))
        assert snapshot.workers[0].busy == Busy(3.5, {997: 2.0, 999: -4.0})

    def test_what_was_found_corrupt_is_shown_and_the_rest_is_served(self):
        snapshot = merge.snapshot(hub_copy(slot_copy(0, ROWS[0]), flaws={"slot 1": "odd"}, header={"corrupt": 2}))
        assert snapshot.counters.requests == 150
        assert (snapshot.health.corrupt, snapshot.health.corrupt_reaped) == ({"slot 1": "odd"}, 2)
