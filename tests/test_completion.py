"""The end of a request in one write: record, duration and board change together, whatever comes in between."""

import os
import signal
import time

import pytest

from shmetrics.catalog import Catalog
from shmetrics.completion import writer_class
from shmetrics.families import Definition
from shmetrics.hub import View
from shmetrics.instruments import class_of
from shmetrics.layout import FOLD_BATCH
from tests.processes import in_forked_child, run_in_threads

DURATIONS = Definition("durations_seconds", "histogram", buckets=(1.0, 2.0))


pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def segment(make_segment):
    return make_segment()


@pytest.fixture
def writer(segment):
    return writer_class()(segment)


@pytest.fixture
def durations(writer, segment):
    return class_of("histogram")(writer, Catalog(segment), DURATIONS, (), waiting=set())


def shown(segment):
    """Requests recorded, the histogram's cumulative buckets and its sum, and how many requests are in flight."""
    snapshot = View(segment).snapshot()
    series = {family.definition.name: family.series for family in snapshot.families}["durations_seconds"][0]
    in_flight = sum(len(worker.in_flight) for worker in snapshot.workers)
    return snapshot.counters.requests, series.buckets, series.sum, in_flight


def end(writer, durations, duration=1.5, ticket=None):
    ticket = writer.enter("/") if ticket is None else ticket
    writer.complete(ticket, time.monotonic(), duration, 1, 0.0, 0.0, durations, duration)


def test_an_end_is_a_record_a_duration_and_a_place_on_the_board(writer, durations, segment):
    staying = writer.enter("/slow")
    end(writer, durations, 1.5)
    end(writer, durations, 0.5)
    end(writer, durations, 7.0)
    requests, buckets, total, in_flight = shown(segment)
    assert (requests, list(buckets), total, in_flight) == (3, [1.0, 2.0, 3.0], 9.0, 1)
    writer.leave(staying)


def test_the_record_has_the_time_of_the_end(writer, durations):
    writer.complete(writer.enter("/"), 12.5, 1.5, 1, 0.0, 0.0, durations, 1.5)
    assert writer.latest(1)["time"].tolist() == [12.5]


def test_a_kind_of_request_without_durations_has_the_rest(writer, durations, segment):
    end(writer, None)
    end(writer, durations)
    assert shown(segment)[0] == 2
    assert list(shown(segment)[1]) == [0.0, 1.0, 1.0]


def test_what_is_no_number_is_a_type_error_and_nothing_of_it_counts(writer, durations, segment):
    ticket = writer.enter("/")
    with pytest.raises(TypeError, match="must be real numbers"):
        writer.complete(ticket, time.monotonic(), "long", 1, 0.0, 0.0, durations, 1.5)
    assert writer.committed == 0
    end(writer, durations, ticket=ticket)
    assert shown(segment) == (1, (0.0, 1.0, 1.0), 1.5, 0)


def test_ends_are_folded_as_records_are(writer, durations, segment):
    for _ in range(3 * FOLD_BATCH + 5):
        end(writer, durations)
    requests, buckets, total, in_flight = shown(segment)
    assert (requests, list(buckets), in_flight) == (3 * FOLD_BATCH + 5, [0.0, requests, requests], 0)
    assert total == 1.5 * requests


def test_an_end_in_a_signal_handler_amid_another_is_made_after_it(writer, durations, segment):
    end(writer, durations)
    seen = []

    def handler(_signal, _frame):
        end(writer, durations, 0.5)
        seen.append(writer.committed)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        find = durations.find

        def interrupted(give):
            os.kill(os.getpid(), signal.SIGUSR1)
            find(give)

        durations.find = interrupted
        durations.serial = -1  # so that it looks where the series is, amid the write
        end(writer, durations, 1.5)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [1]
    requests, buckets, _, in_flight = shown(segment)
    assert (requests, list(buckets), in_flight) == (3, [1.0, 3.0, 3.0], 0)


def test_threads_that_end_requests_at_once_lose_none(writer, durations, segment):
    def many(_index):
        for _ in range(2000):
            end(writer, durations)

    run_in_threads(4, many)
    requests, buckets, _, in_flight = shown(segment)
    assert (requests, list(buckets), in_flight) == (8000, [0.0, 8000.0, 8000.0], 0)


def test_a_child_of_fork_ends_its_requests_in_a_slot_of_its_own(writer, durations, segment):
    end(writer, durations)

    def child():
        end(writer, durations, 0.5)
        assert writer.slot == 1

    in_forked_child(child)
    requests, buckets, _, _ = shown(segment)
    assert (requests, list(buckets)) == (2, [1.0, 2.0, 2.0])
