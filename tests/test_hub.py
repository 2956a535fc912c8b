"""The read-only view of a hub, and the removal of hubs."""

import itertools
import os
import threading
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

from shmetrics import (
    Hub,
    HubClosedError,
    HubInUseError,
    HubNotFoundError,
    PerformanceMetrics,
    hub,
    naming,
    segment,
    slots,
)
from shmetrics.aggregator import Aggregator
from shmetrics.hub import View
from shmetrics.layout import Layout
from shmetrics.locks import ATTACHED, ByteLock, is_locked
from shmetrics.segment import attach, unlink
from shmetrics.writer import Writer
from tests.hazards.injection import happen
from tests.processes import in_forked_child, wait_until
from tests.test_forks import Child

SMALL = Layout(max_workers=2, window_size=10, max_series=16)


def test_a_view_cannot_write(hub_name):
    with PerformanceMetrics(name=hub_name), Hub.attach(hub_name) as view:
        assert view.name == hub_name
        with pytest.raises(ValueError, match="read-only"):
            view._view.segment.raw[0] = 1


def test_workers_are_rows_with_cpu_and_memory(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics, Hub.attach(hub_name) as view:
        metrics.update_inference(0.1)
        (row,) = view.workers()
        assert (row["pid"], row["requests"], row["alive"]) == (os.getpid(), 1, True)
        assert row["rss_bytes"] > 1_000_000
        assert row["cpu_percent"] >= 0.0


def test_the_first_snapshot_is_of_the_whole_fleet_though_others_reap_without_end(make_segment):
    """There is no earlier one to show; and without what the dead left, the next total would be a leap."""
    target = make_segment()
    Writer(target).claim()
    slots.reap(target)
    reaps = iter(range(2000))

    def reap_amid_a_read():
        if next(reaps, None) is not None:
            target.header["retired_index"] += np.uint64(2)

    target.fence = reap_amid_a_read
    fleet = View(target).snapshot()
    assert (fleet.workers_seen, fleet.health.stale) == (1, False)
    assert next(reaps, None) is None


def test_a_closed_view_says_so(hub_name):
    with PerformanceMetrics(name=hub_name):
        view = Hub.attach(hub_name)
        view.close()
        view.close()
        with pytest.raises(HubClosedError, match="attach again"):
            view.statistics()


def test_a_view_of_a_removed_hub_still_reads_and_knows(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics, Hub.attach(hub_name) as view:
        metrics.update_inference(0.1)
        metrics.unlink()
        assert view.snapshot().health.unlinked
        assert view.snapshot().counters.requests == 1


def test_a_hub_is_not_removed_under_a_live_worker_unless_forced(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        metrics.update_inference(0.1)
        with pytest.raises(HubInUseError, match="1 live worker;"):
            hub.remove(hub_name)
        hub.remove(hub_name, force=True)
        with pytest.raises(HubNotFoundError):
            Hub.attach(hub_name)


def test_a_hub_is_not_removed_under_its_aggregator(hub_name):
    PerformanceMetrics(name=hub_name).close()
    with Aggregator(attach(hub_name, writable=True)) as aggregator:
        assert aggregator.try_lead()
        with Hub.attach(hub_name) as view:
            assert view.has_aggregator
        with pytest.raises(HubInUseError, match="an aggregator"):
            hub.remove(hub_name)
    hub.remove(hub_name)
    assert not os.path.exists(naming.segment_path(hub_name))


def test_a_hub_is_not_removed_under_a_process_that_has_not_recorded_yet(hub_name):
    with PerformanceMetrics(name=hub_name), pytest.raises(HubInUseError, match="has not recorded yet"):
        hub.remove(hub_name)
    hub.remove(hub_name)


def test_a_hub_is_not_removed_under_the_child_of_a_process_that_attached_it_and_ended(hub_name):
    """A child of fork shares the attachment, though it opened nothing itself."""
    alive, ended = os.pipe()
    if (parent := os.fork()) == 0:
        metrics = PerformanceMetrics(name=hub_name)
        if os.fork() == 0:
            os.close(ended)
            os.read(alive, 1)  # until the test is done
            del metrics
        os._exit(0)
    os.waitpid(parent, 0)
    with pytest.raises(HubInUseError, match="has not recorded yet"):
        hub.remove(hub_name)
    os.close(ended)
    os.close(alive)
    wait_until(lambda: removed(hub_name))


def removed(name):
    try:
        hub.remove(name)
    except HubInUseError:
        return False
    return True


def test_a_reader_keeps_no_hub_from_being_removed(hub_name):
    PerformanceMetrics(name=hub_name).close()
    with Hub.attach(hub_name):
        hub.remove(hub_name)


def test_who_attaches_while_a_hub_is_removed_gets_the_next_one(hub_name):
    """The remover holds the hub for itself alone from its last look until the name is gone."""
    PerformanceMetrics(name=hub_name).close()
    old = attach(hub_name)
    removal = ByteLock(old.descriptor, ATTACHED)
    assert removal.try_acquire()

    def finish():
        unlink(hub_name, old.instance)
        removal.release()

    timer = threading.Timer(0.05, finish)
    timer.start()
    with PerformanceMetrics(name=hub_name) as metrics:
        timer.join()
        assert metrics._attachment.segment.instance != old.instance
        assert not metrics.snapshot().health.unlinked
    old.close()


def test_who_attaches_is_never_left_with_a_hub_that_was_removed_meanwhile(hub_name):
    """At whatever moment of the attaching the removal comes: it is refused, or the attaching finds none or the next."""
    outcomes = set()

    def remove():
        try:
            hub.remove(hub_name)
        except HubInUseError:
            outcomes.add("refused")
        else:
            outcomes.add("removed")

    for number in itertools.count():
        segment.create_or_attach(hub_name, SMALL).close()
        attached = []
        moment = happen(
            "calls",
            number,
            remove,
            lambda attached=attached: attached.append(segment.create_or_attach(hub_name, SMALL)),
        )
        assert not attached[0].is_unlinked, moment
        attached[0].close()
        if moment is None:
            break
    assert outcomes == {"refused", "removed"}


def test_a_hub_made_while_two_processes_remove_its_predecessor_stays(hub_name, monkeypatch):
    """At whatever moment of the one removal the other comes: no remover takes the name from the hub that is next."""
    monkeypatch.setattr(segment, "REMOVAL_PATIENCE", 0.001)
    for number in itertools.count():
        old = segment.create(hub_name, SMALL)
        made = []

        def replace(made=made):
            with suppress(HubNotFoundError, HubInUseError):
                hub.remove(hub_name, force=True)
            with suppress(FileExistsError):
                made.append(segment.create(hub_name, SMALL))

        moment = happen("calls", number, replace, partial(unlink, hub_name, old.instance))
        assert not any(new.is_unlinked for new in made), moment
        with suppress(HubNotFoundError):
            hub.remove(hub_name, force=True)
        if moment is None:
            return


def test_a_remover_that_stands_still_keeps_nobody_from_attaching(hub_name, monkeypatch):
    monkeypatch.setattr(segment, "REMOVAL_PATIENCE", 0.01)
    PerformanceMetrics(name=hub_name).close()
    old = attach(hub_name)
    with ByteLock(old.descriptor, ATTACHED) as removal:
        assert removal.try_acquire()
        PerformanceMetrics(name=hub_name).close()
    old.close()


@pytest.mark.parametrize("generations", [1, 2])
def test_a_child_that_has_not_recorded_yet_keeps_its_hub_when_its_parent_lets_go(hub_name, generations):
    metrics = PerformanceMetrics(name=hub_name)

    def let_go_with_a_child():
        child = Child()
        metrics.close()
        return child

    with Child(let_go_with_a_child if generations == 2 else lambda: None):
        metrics.close()
        with pytest.raises(HubInUseError, match="a process that has not recorded yet"):
            hub.remove(hub_name)
    looking = attach(hub_name)
    wait_until(lambda: not is_locked(looking.descriptor, ATTACHED))  # a grandchild ends after its parent
    looking.close()
    hub.remove(hub_name)


def test_a_child_that_lets_go_leaves_the_hub_to_its_parent(hub_name):
    with PerformanceMetrics(name=hub_name) as metrics:
        in_forked_child(metrics.close)
        with pytest.raises(HubInUseError, match="a process that has not recorded yet"):
            hub.remove(hub_name)


def test_a_file_that_is_refused_as_a_hub_is_removed_by_force_only(hub_name):
    path = naming.segment_path(hub_name)
    with open(path, "wb") as file:
        file.write(b"not a hub")
    os.chmod(path, 0o600)
    with pytest.raises(hub.HubRefusedError):
        hub.remove(hub_name)
    hub.remove(hub_name, force=True)
    assert not os.path.exists(path)


def test_a_hub_says_its_name(hub_name):
    with PerformanceMetrics(name=hub_name), Hub.attach(hub_name) as view:
        assert repr(view) == f"Hub(name={hub_name!r})"
