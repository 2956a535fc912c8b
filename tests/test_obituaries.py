"""The flight recorder: one obituary for each worker that died, none for one that closed, and nothing half written."""

import json
import os
import signal
import time

import numpy as np
import pytest

from shmetrics import PerformanceMetrics, obituaries, oom, segment, slots
from shmetrics.hub import Hub, View
from shmetrics.layout import OBITUARIES, OBITUARY
from shmetrics.obituaries import Obituaries
from shmetrics.obituary import payload_of
from shmetrics.writer import Writer
from tests.forge import records
from tests.processes import run_in_threads, wait_until
from tests.test_forks import Child
from tests.test_obituary import FACTS


@pytest.fixture
def hub(make_segment):
    return make_segment()


@pytest.fixture
def ring(hub):
    return Obituaries(hub)


def serve(hub, label="GET /predict", count=300, **options):
    """What a worker does that then waits to be killed: records, and a request in flight."""
    writer = Writer(hub, role="web", **options)
    for number in range(count):
        writer.record(0.001 * number, 2)
    writer.add(slots.ERRORS, 3)
    writer.enter(label)
    return writer


def reaped(hub):
    slots.reap(hub)
    return View(hub).snapshot().obituaries


def add(ring, number, exit_code=-9, **facts):
    ring.add(number, 1, 100 + number, exit_code, payload_of(FACTS | facts, [], records([]), 0.0))


# The ring -------------------------------------------------------------------------------------------------------------


def test_an_obituary_that_is_amended_while_it_is_read_is_not_left_out(ring, hub):
    add(ring, 1, exit_code=None)
    ring._fence = lambda: Obituaries(hub).amend(101, -9, FACTS["noticed"] + 1.0)
    (obituary,) = ring.read()
    assert obituary.exit_code == -9
    assert ring.read() == (obituary,)


def test_the_newest_are_kept_in_the_order_in_which_they_were_written(ring):
    for number in range(3 * OBITUARIES + 5):
        add(ring, number)
        assert [each.slot for each in ring.read()] == list(range(max(0, number - OBITUARIES + 1), number + 1))
    assert ring.read()[-1].serial == 3 * OBITUARIES + 5


def test_they_outlive_whoever_wrote_them_and_are_seen_by_a_mapping_that_only_reads(hub, hub_name):
    pid = os.fork()
    if not pid:
        add(Obituaries(hub), 7)
        os._exit(0)
    os.waitpid(pid, 0)
    with Hub.attach(hub_name) as view:
        assert [each.slot for each in view.obituaries()] == [7]


def test_one_that_is_being_written_or_that_says_nothing_is_left_out(hub, ring):
    for number in range(3):
        add(ring, number)
    entries = hub.raw[hub.layout.obituaries_offset :][: hub.layout.obituaries.itemsize].view(hub.layout.obituaries)
    assert len(ring.read()) == 3
    entries["entries"]["serial"][0, 2] = 0
    assert [each.slot for each in ring.read()] == [0, 2]
    entries["entries"]["length"][0, 3] = 9999
    assert [each.slot for each in Obituaries(hub).read()] == [0]


def test_one_in_the_place_of_another_serial_number_is_left_out(hub, ring):
    add(ring, 0)
    entries = hub.raw[hub.layout.obituaries_offset :][: hub.layout.obituaries.itemsize].view(hub.layout.obituaries)
    entries["entries"]["serial"][0, 1] = 2
    assert ring.read() == ()


def test_serial_numbers_that_cannot_be_do_not_stop_those_that_come(hub, ring):
    entries = hub.raw[hub.layout.obituaries_offset :][: hub.layout.obituaries.itemsize].view(hub.layout.obituaries)
    entries["entries"]["serial"][0, :] = 2**64 - 1
    for number in range(3):
        add(ring, number)
    assert [(each.serial, each.slot) for each in ring.read()] == [(1, 0), (2, 1), (3, 2)]


def test_readers_in_the_middle_of_writing_see_whole_ones_only(hub):
    """In threads, which change places between any two steps."""
    ring, facts = Obituaries(hub), {}

    def work(index):
        if index == 0:
            for number in range(3000):
                add(ring, number, requests=number, role=f"worker {number}")
            facts["done"] = True
            return
        reader = Obituaries(hub)
        while not facts:
            for each in reader.read():
                assert each.role == f"worker {each.slot}"
                assert each.requests == each.slot

    run_in_threads(3, work)


# Who gets one ---------------------------------------------------------------------------------------------------------


def test_a_worker_that_was_killed_has_one_with_all_that_is_known_of_it(hub):
    start = time.monotonic()
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        (each,) = reaped(hub)
        assert (each.slot, each.generation, each.pid, each.role) == (0, 1, child.pid, "web")
    assert each.exit_code == -signal.SIGKILL
    assert (each.requests, each.errors, each.believed) == (300, 3, True)
    assert (each.in_flight, each.requests_in_flight[0]["label"]) == (1, "GET /predict")
    assert 0.0 <= each.silent <= each.age <= time.monotonic() - start
    assert 0.0 <= each.requests_in_flight[0]["age"] <= each.age
    assert [record["inference_time"] for record in each.last_records] == [
        pytest.approx(0.001 * number) for number in range(292, 300)
    ]
    assert abs(each.noticed_at - time.time()) < 60.0
    assert each.rss_bytes is None, "no aggregator ever looked"
    assert each.is_news
    json.dumps(each.as_json(), allow_nan=False)


def test_an_exit_status_is_told_while_the_parent_has_not_waited(hub):
    with Child(lambda: serve(hub)) as child:
        os.write(child._hand, b".")
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert [each.exit_code for each in reaped(hub)] == [1]


def test_how_a_worker_ended_that_was_waited_for_is_not_made_up(hub):
    with Child(lambda: serve(hub)) as child:
        child.kill()
        (each,) = reaped(hub)
    assert each.exit_code is None
    assert each.as_json()["how"] == "ended, how is not known"


def test_a_worker_that_closes_has_none(hub):
    serve(hub).close()
    assert reaped(hub) == ()


def test_a_worker_that_is_killed_in_the_middle_of_closing_has_none_once_it_has_said_so(hub):
    writer = serve(hub)
    writer._folding.owner["ended_at"] = time.monotonic()
    writer._folding.claim.alive.release()
    assert reaped(hub) == ()


def test_a_worker_that_lost_its_slot_and_lives_on_in_another_has_none(hub):
    writer = serve(hub)
    writer._folding.claim.alive.release()
    assert reaped(hub) == ()
    assert not hub.slots["owner"]["state"].any()


def test_a_slot_that_cannot_be_believed_has_one_without_counts(hub):
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        slots.words_of(hub, 0)[slots.HEAD] = 2**60
        (each,) = reaped(hub)
    assert (each.believed, each.requests, each.last_records) == (False, 0, ())
    assert (each.pid, each.exit_code, each.in_flight) == (child.pid or each.pid, -9, 1)


def test_one_is_written_once_however_often_the_slot_is_reaped(hub):
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        obituaries.write(hub, 0, 1, None, time.monotonic())
        (each,) = reaped(hub)
        assert not each.believed, "the first stands"
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        assert [each.generation for each in reaped(hub)] == [1, 1]


def test_a_claimant_that_finds_no_slot_writes_them_too(make_segment):
    hub = make_segment(max_workers=1)
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        writer = Writer(hub)
        writer.record(0.1)
        assert [each.exit_code for each in View(hub).snapshot().obituaries] == [-9]
        writer.close()


def test_they_are_written_before_the_slot_is_free(hub, monkeypatch):
    """So that nobody takes the slot over and writes to it meanwhile, and a reaper that dies leaves it to be found."""
    seen, write = [], obituaries.write

    def look_and_write(*args):
        seen.append((int(hub.slots["owner"]["state"][0]), hub.retired_index))
        write(*args)

    monkeypatch.setattr(obituaries, "write", look_and_write)
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        reaped(hub)
    assert seen == [(1, 0)]


def test_more_requests_than_places_are_counted_in_it(hub):
    def crowd():
        writer = serve(hub, "first")
        return writer, [writer.enter("crowd") for _ in range(999)]

    with Child(crowd) as child:
        child.make_zombie()
        (each,) = reaped(hub)
    assert each.in_flight == 1000
    assert [request["label"] for request in each.requests_in_flight] == ["first", *["crowd"] * 15]


def test_the_writers_first_record_is_not_kept_waiting_by_what_proc_or_the_kernel_do_not_tell(hub, monkeypatch):
    monkeypatch.setattr("shmetrics.process.stat_fields", lambda *_args, **_options: None)
    monkeypatch.setattr(oom, "_read", lambda _path: None)
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        (each,) = reaped(hub)
    assert (each.exit_code, each.oom_kills) == (None, 0)


# OOM kills ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch):
    """What the kernel has counted, under the test's control."""
    count = [1 << 48 | 10]
    monkeypatch.setattr(oom, "reading", lambda: count[0])
    return count


def die(hub, signum=signal.SIGKILL):
    with Child(lambda: serve(hub)) as child:
        os.kill(child.pid, signum)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        return reaped(hub)[-1].oom_kills


def test_a_kill_that_the_kernel_counted_is_told_with_the_death_and_once(hub, kernel):
    assert die(hub) == 0
    kernel[0] += 2
    assert [die(hub), die(hub), die(hub)] == [2, 1, 0]


def test_who_ended_otherwise_was_not_killed_for_want_of_memory(hub, kernel):
    die(hub)
    kernel[0] += 1
    assert die(hub, signal.SIGABRT) == 0
    assert die(hub) == 1


def test_kills_from_before_anybody_watched_are_not_told(hub, kernel):
    kernel[0] += 100
    assert die(hub) == 0


# Hostile bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [0, 1, 2**53, 2**63, 2**64 - 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 1e300], ids=str)
def test_whatever_a_dead_slot_holds_there_is_an_obituary_and_it_is_json(hub, word, value):
    with Child(lambda: serve(hub)) as child:
        child.make_zombie()
        owner, notes, board = (hub.slots[part] for part in ("owner", "notes", "board"))
        for name in ("claimed_at", "heartbeat"):
            owner[name][0] = value
        owner["role"][0] = b"\xff" * 32
        notes["ending"][0] = notes["rss_bytes"][0] = word
        notes["ended_at"][0] = value
        board["start"][0] = value
        board["crowd"][0] = word
        board["label"][0] = np.void(b"\xff" * 56)
        (each,) = reaped(hub)
    json.dumps(each.as_json(), allow_nan=False)
    assert each.believed


def test_an_obituary_needs_no_more_room_than_an_entry_has():
    assert OBITUARY.itemsize == 4096


def test_metrics_show_them_to_every_process(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
        target = segment.attach(hub_name, writable=True)
        with Child(lambda: serve(target)) as child:
            child.make_zombie()
            slots.reap(target)
        wait_until(lambda: len(metrics.snapshot().obituaries) == 1)
        (finding,) = metrics.get_comprehensive_statistics()["findings"]
    assert finding["kind"] == "dead_worker"
    assert "was killed by SIGKILL" in finding["text"]
    metrics.unlink()
