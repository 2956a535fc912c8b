"""The catalog is changed by one process at a time, seen whole by all, and survives a death anywhere in a change."""

import os
import signal
import sys
import threading

import pytest

from shmetrics import entries, segment
from shmetrics.catalog import Catalog, FullError
from shmetrics.entries import BLOCK_WORDS
from shmetrics.families import OVERFLOW, Definition
from shmetrics.forks import ForkedError
from shmetrics.locks import REGISTRY, ByteLock, RegistryBusyError
from tests.processes import PATIENCE, START_METHODS, forked, run_in_processes

REQUESTS = Definition("requests_total", "counter", labels=("model",))
LATENCY = Definition("latency", "histogram", buckets=(0.1, 1.0))


@pytest.fixture
def hub(make_segment):
    return make_segment(max_series=32)


@pytest.fixture
def catalog(hub):
    return Catalog(hub)


def define(catalog, definition=REQUESTS):
    return catalog.define(definition, patience=0.0)


def place(catalog, metric, *labels, **options):
    return catalog.place(metric, labels, patience=0.0, **options)


def test_what_one_process_defines_every_other_sees(hub, catalog):
    other = Catalog(segment.attach(hub.name))
    assert other.contents().metrics == {}
    serial = define(catalog)
    placement = place(catalog, serial, "a")
    assert other.contents().metrics == {serial: REQUESTS}
    assert other.contents().index[serial, ("a",)] == placement


def test_defining_again_in_the_same_way_changes_nothing(catalog):
    serial = define(catalog)
    before = catalog.contents()
    assert define(catalog) == serial
    assert catalog.contents() is before


def test_defining_again_in_another_way_is_an_error_that_shows_both(catalog):
    define(catalog)
    with pytest.raises(ValueError, match=r"'requests_total' is defined already.*\('model',\) and not \('route',\)"):
        define(catalog, Definition("requests_total", "counter", labels=("route",)))


def test_each_series_has_cells_of_its_own(catalog):
    counter, histogram = define(catalog), define(catalog, LATENCY)
    a, h, b = place(catalog, counter, "a"), place(catalog, histogram), place(catalog, counter, "b")
    assert (a.cell, h.cell, b.cell) == (0, 2, 7)
    assert place(catalog, counter, "a") == a


def test_a_removed_series_is_gone_its_number_never_comes_again_and_its_room_does(catalog):
    counter = define(catalog)
    first = place(catalog, counter, "a")
    catalog.remove(first, patience=0.0)
    assert catalog.contents().series == {}
    catalog.remove(first, patience=0.0)  # harmless
    second = place(catalog, counter, "a")
    assert second.serial > first.serial
    assert (second.cell, second.block) == (first.cell, first.block)


def test_when_blocks_run_out_no_series_is_created_and_each_refusal_counts(catalog):
    counter = define(catalog)
    for number in range(31):
        place(catalog, counter, f"v{number}")
    for _ in range(3):
        with pytest.raises(FullError):
            place(catalog, counter, "one too many")
    assert catalog.refused == 3
    assert place(catalog, counter, "v7").labels == ("v7",), "those that are there are found"
    catalog.remove(place(catalog, counter, "v7"), patience=0.0)
    assert place(catalog, counter, "one too many").labels == ("one too many",)


def test_when_cells_run_out_no_series_is_created(catalog):
    wide = define(catalog, Definition("wide", "histogram", labels=("x",), buckets=tuple(map(float, range(100)))))
    place(catalog, wide, "a")
    place(catalog, wide, "b")
    with pytest.raises(FullError):
        place(catalog, wide, "c")
    assert place(catalog, define(catalog), "narrow").cell == 206


def test_what_is_too_large_says_nothing_of_what_is_smaller(catalog):
    counter = define(catalog)
    wide = define(catalog, Definition("wide", "histogram", labels=("x",), buckets=tuple(map(float, range(400)))))
    for metric, label in ((counter, "x" * 20_000), (counter, "x" * 7_000), (wide, "a")):
        for _ in range(2):
            with pytest.raises(FullError):
                place(catalog, metric, label)
        assert place(catalog, counter, f"after {label:.1}{len(label)}")
    assert catalog.refused == 6


def test_texts_that_no_hub_has_room_for_are_an_error_of_whoever_defines_them(catalog):
    with pytest.raises(ValueError, match=r"'long'.* take 20,\d+ bytes; no hub has room for more than 16,\d+"):
        define(catalog, Definition("long", "counter", help="x" * 20_000))
    assert catalog.refused == 0
    assert place(catalog, define(catalog), "x")


def test_the_overflow_series_is_created_while_there_is_room(catalog):
    counter = define(catalog)
    catalog.reserve_overflow(counter, patience=0.0)
    assert (counter, (OVERFLOW,)) in catalog.contents().index
    without_labels = define(catalog, LATENCY)
    catalog.reserve_overflow(without_labels, patience=0.0)
    assert len(catalog.contents().series) == 1


def test_a_busy_registry_is_an_error_after_the_patience_and_nothing_changes(hub, catalog, clock):
    catalog = Catalog(hub, clock=clock, sleep=clock.sleep)
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        before = clock.now
        with pytest.raises(RegistryBusyError):
            catalog.define(REQUESTS, patience=0.5)
        assert clock.now - before == pytest.approx(0.5)
    assert catalog.contents().metrics == {}


def test_threads_that_wait_for_the_registry_side_by_side_can_all_change_something_afterwards(hub):
    """The first to begin is the first to get through, so the two changes are not one within the other."""
    waits, may_go_on = threading.Event(), threading.Event()
    registry = ByteLock(hub.descriptor, REGISTRY)
    assert registry.try_acquire()

    def pause(_seconds):
        if threading.current_thread() is other:
            waits.set()
            assert may_go_on.wait(PATIENCE)
        elif registry.held:
            other.start()
            assert waits.wait(PATIENCE)
            registry.release()

    catalog = Catalog(hub, sleep=pause)
    other = threading.Thread(target=catalog.define, args=(LATENCY,), kwargs={"patience": PATIENCE})
    catalog.define(REQUESTS, patience=PATIENCE)
    may_go_on.set()
    other.join(PATIENCE)
    assert define(catalog, Definition("more", "counter"))
    assert len(catalog.contents().metrics) == 3


def test_an_info_series_that_says_something_else_takes_the_place_of_the_one_before(catalog):
    info = define(catalog, Definition("build", "info"))
    first = place(catalog, info, info={"version": "1"})
    assert place(catalog, info, info={"version": "1"}) == first
    second = place(catalog, info, info={"version": "2"})
    assert catalog.contents().series == {second.serial: second}


def test_an_info_series_whose_author_died_before_it_removed_the_one_before_goes_with_the_next(hub, catalog):
    info = define(catalog, Definition("build", "info"))
    place(catalog, info, info={"version": "1"})
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()
        catalog._add_series(info, (), {"version": "2"}, registry)
    assert len(catalog.contents().series) == 2
    last = place(catalog, info, info={"version": "3"})
    assert catalog.contents().series == {last.serial: last}


def test_serial_numbers_that_somebody_overwrote_are_not_believed(hub, catalog):
    counter = define(catalog)
    catalog._words[8] = 0  # last_serial
    assert place(catalog, counter, "a").serial == counter + 1
    catalog._words[8] = 2**64 - 1
    with pytest.raises(FullError):
        place(catalog, counter, "b")


def test_a_child_forked_in_the_middle_of_a_change_leaves_it_to_its_parent(hub, catalog):
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        registry.acquire(0.0)
        registry._close()  # what a fork does in the child
        with pytest.raises(ForkedError):
            catalog._add(registry, b"{}")
        with pytest.raises(ForkedError):
            catalog._remove(None, registry)
    assert catalog.contents().metrics == {}


def test_a_process_reads_each_entry_once_and_none_that_it_wrote(hub, catalog, monkeypatch):
    read = []
    monkeypatch.setattr(
        entries, "read", lambda blocks, block, known=entries.read: read.append(block) or known(blocks, block)
    )
    other = Catalog(segment.attach(hub.name))
    counter = define(catalog)
    for number in range(20):
        place(catalog, counter, f"v{number}")
        assert len(other.contents().series) == number + 1
    assert read == list(range(21)), "by the other, each as it came"
    assert catalog.contents().series == other.contents().series
    assert Catalog(hub).contents() is catalog.contents(), "what one has read all of its segment know"
    place(other, counter, "v7")
    catalog.remove(place(catalog, counter, "v7"), patience=0.0)
    assert other.contents() == catalog.contents()
    assert len(read) == 21


def test_a_metric_comes_with_the_series_that_takes_what_there_is_no_room_for_in_one_change(catalog, monkeypatch):
    taken = []
    monkeypatch.setattr(
        ByteLock, "try_acquire", lambda lock, known=ByteLock.try_acquire: known(lock) and (taken.append(1) or True)
    )
    serial = catalog.define(REQUESTS, patience=0.0, overflow=True)
    assert list(catalog.contents().index) == [(serial, (OVERFLOW,))]
    assert len(taken) == 1


def test_who_waits_for_the_registry_stops_waiting_when_another_process_has_made_it(hub, clock):
    other = Catalog(segment.attach(hub.name, writable=True))
    with ByteLock(hub.descriptor, REGISTRY) as registry:
        assert registry.try_acquire()

        def sleep(seconds):
            clock.sleep(seconds)
            if clock.now > 1000.5 and not other.contents().metrics:
                other._add_metric(REQUESTS, False, registry)

        waiter = Catalog(hub, clock=clock, sleep=sleep)
        assert waiter.define(REQUESTS, patience=2.0) == 1
        assert 1000.5 < clock.now < 1000.6


def test_changes_of_two_threads_that_overlap_leave_both_free_to_change_again(catalog):
    begun, both, one, none = (threading.Event() for _ in range(4))
    made = []

    def overlap():
        with catalog._changing():
            begun.set()
            assert both.wait(PATIENCE)
        one.set()
        assert none.wait(PATIENCE)
        made.append(define(catalog))

    thread = threading.Thread(target=overlap)
    thread.start()
    assert begun.wait(PATIENCE)
    with catalog._changing():
        both.set()
        assert one.wait(PATIENCE)
    none.set()
    thread.join(PATIENCE)
    assert made == [define(catalog)]
    assert place(catalog, made[0], "a").labels == ("a",)


def test_what_somebody_stored_before_it_died_in_a_change_is_seen(hub, catalog):
    """Its change is under way for ever, so that nothing tells a look before the store from one after it."""
    counter = define(catalog)
    lasting = place(catalog, counter, "a")
    other = Catalog(segment.attach(hub.name, writable=True))
    catalog._words[0] |= 1
    catalog.serials[lasting.block * BLOCK_WORDS] = 0
    assert other.contents().series == {}
    catalog.serials[lasting.block * BLOCK_WORDS] = lasting.serial
    assert list(other.contents().series) == [lasting.serial]
    assert place(other, counter, "b").block != lasting.block


def _change(hub):
    catalog = Catalog(hub)
    counter = define(catalog)
    for label in "abc":
        place(catalog, counter, label)
    catalog.remove(place(catalog, counter, "b"), patience=0.0)
    place(catalog, counter, "d")


def _lines(function, stop_at=None):
    """Run it with every line of the catalog counted, and be killed at one of them."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if not frame.f_code.co_filename.endswith("catalog.py"):
            return None
        if event == "line":
            count += 1
            if count == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(None)
    return count


def test_a_death_at_any_line_of_any_change_leaves_a_catalog_that_is_whole_and_can_be_changed(make_segment, hub_name):
    hub = make_segment(max_series=32)
    total = _lines(lambda: _change(hub))
    segment.unlink(hub.name, hub.instance)
    for line in range(1, total + 1):
        hub = make_segment(max_series=32)
        pid = forked(lambda hub=hub, line=line: _lines(lambda: _change(hub), line))
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        contents = Catalog(hub).contents()
        assert contents.flaws == ()
        assert {placement.labels for placement in contents.series.values()} <= {("a",), ("b",), ("c",), ("d",)}
        _change(hub)
        contents = Catalog(hub).contents()
        assert sorted(placement.labels for placement in contents.series.values()) == [("a",), ("c",), ("d",)]
        assert contents.flaws == ()
        segment.unlink(hub.name, hub.instance)


def _race(name, index):
    target = segment.attach(name, writable=True)
    catalog = Catalog(target)
    metric = catalog.define(REQUESTS, patience=20.0)
    found = [catalog.place(metric, (f"v{number}",), patience=20.0) for number in range(10)]
    target.close()
    return [(placement.serial, placement.cell) for placement in found]


@pytest.mark.parametrize("method", START_METHODS)
def test_processes_that_define_the_same_at_once_get_the_same(hub, method):
    first, *others = run_in_processes(method, 4, _race, hub.name)
    assert all(other == first for other in others)
    assert len(Catalog(hub).contents().series) == 10
