"""Two instruments that change in one write: both do, whatever comes in between."""

import os
import signal

import pytest

from shmetrics.catalog import Catalog
from shmetrics.completion import writer_class
from shmetrics.families import Definition
from shmetrics.hub import View
from shmetrics.instruments import class_of
from tests.processes import in_forked_child, run_in_threads

SIZES = Definition("sizes", "histogram", buckets=(1.0, 2.0))
PARTS = Definition("parts", "counter")
SECOND_BUCKET = 3


pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def segment(make_segment):
    return make_segment()


@pytest.fixture
def writer(segment):
    return writer_class()(segment)


@pytest.fixture
def sizes(writer, segment):
    return class_of("histogram")(writer, Catalog(segment), SIZES, (), waiting=set())


@pytest.fixture
def parts(writer, segment):
    return class_of("counter")(writer, Catalog(segment), PARTS, (), waiting=set())


def add(sizes, parts):
    sizes.add_with(1.5, SECOND_BUCKET, parts, 0.5)


def shown(segment):
    """The histogram's cumulative buckets and its sum, and the counter."""
    series = {family.definition.name: family.series[0] for family in View(segment).snapshot().families}
    return series["sizes"].buckets, series["sizes"].sum, series["parts"].value


def test_one_write_changes_two_instruments(sizes, parts, segment):
    add(sizes, parts)
    add(sizes, parts)
    assert shown(segment) == ((0.0, 2.0, 2.0), 3.0, 1.0)


def test_the_first_write_of_a_process_may_be_one_to_two_instruments(sizes, parts, writer, segment):
    assert writer.slot is None
    add(sizes, parts)
    assert writer.slot == 0
    assert shown(segment) == ((0.0, 1.0, 1.0), 1.5, 0.5)


@pytest.mark.parametrize("removed", ["sizes", "parts"])
def test_either_of_two_instruments_finds_its_series_anew_when_that_was_removed(sizes, parts, segment, removed):
    add(sizes, parts)
    catalog = Catalog(segment)
    definition = SIZES if removed == "sizes" else PARTS
    catalog.remove(catalog.place(catalog.define(definition, patience=1.0), (), patience=1.0), patience=1.0)
    add(sizes, parts)
    buckets, total, part = shown(segment)
    assert (buckets[-1], total, part) == ((1.0, 1.5, 1.0) if removed == "sizes" else (2.0, 3.0, 0.5))


@pytest.mark.parametrize("found", ["sizes", "parts"])
def test_a_write_to_two_instruments_in_a_signal_handler_amid_another_is_made_after_it(sizes, parts, segment, found):
    add(sizes, parts)
    instrument = sizes if found == "sizes" else parts
    find, seen = instrument.find, []

    def handler(_signal, _frame):
        add(sizes, parts)
        seen.append(shown(segment)[0][-1])

    def interrupted(give):
        os.kill(os.getpid(), signal.SIGUSR1)
        find(give)

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        instrument.find = interrupted
        instrument.serial = -1  # so that it looks where the series is, amid the write
        add(sizes, parts)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [1.0]
    assert shown(segment) == ((0.0, 3.0, 3.0), 4.5, 1.5)


def test_what_a_signal_handler_raises_amid_a_write_to_two_instruments_gives_the_token_back(sizes, parts, segment):
    add(sizes, parts)
    find = sizes.find

    def interrupted(give):
        raise TimeoutError

    sizes.find, sizes.serial = interrupted, -1
    with pytest.raises(TimeoutError):
        add(sizes, parts)
    sizes.find = find
    add(sizes, parts)
    buckets, total, part = shown(segment)
    assert (buckets[-1], total) == (2.0, 3.0)
    assert part in (1.0, 1.5)  # the first of the two had changed


def test_threads_that_write_to_two_instruments_at_once_lose_nothing(sizes, parts, segment):
    run_in_threads(4, lambda _: [add(sizes, parts) for _ in range(2000)])
    assert shown(segment) == ((0.0, 8000.0, 8000.0), 12_000.0, 4000.0)


def test_a_child_of_fork_writes_to_two_instruments_in_a_slot_of_its_own(sizes, parts, writer, segment):
    add(sizes, parts)

    def child():
        add(sizes, parts)
        assert writer.slot == 1

    in_forked_child(child)
    assert shown(segment) == ((0.0, 2.0, 2.0), 3.0, 1.0)
