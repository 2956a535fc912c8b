"""Exemplars: the slowest recent request of each bucket, whole or not at all, from any worker."""

import math
import random

import numpy as np
import pytest

from shmetrics import CustomMetrics, PerformanceMetrics, exemplars
from shmetrics.exemplars import RECENT, Exemplars, checked, octave, read, slowest
from shmetrics.families import Exemplar
from shmetrics.layout import EXEMPLAR, EXEMPLARS
from tests.conftest import FakeClock
from tests.processes import in_forked_child

TRACE = checked({"trace_id": "abc"})


@pytest.fixture
def clock():
    return FakeClock(1.7e9)


@pytest.fixture
def memory():
    return np.zeros(EXEMPLARS * EXEMPLAR.itemsize, np.uint8)


@pytest.fixture
def kept(memory, clock):
    kept = Exemplars(clock)
    kept.use(memory.data)
    return kept


def found(memory):
    return read(memory, lambda: None)


def test_what_is_kept_is_read(kept, memory, clock):
    kept.keep(7, 3, 0.25, checked({"trace_id": "ä漢", "span_id": '"1"'}))
    assert found(memory) == (Exemplar(7, 3, 0.25, clock.now, {"trace_id": "ä漢", "span_id": '"1"'}),)


def test_the_greatest_recent_value_stays(kept, memory, clock):
    for value in (2.0, 3.0, 1.0):
        kept.keep(7, 3, value, TRACE)
    assert [each.value for each in found(memory)] == [3.0]
    clock.now += RECENT
    kept.keep(7, 3, 0.5, TRACE)
    assert [each.value for each in found(memory)] == [0.5]


def test_as_many_series_and_buckets_as_there_are_places_have_one_each(kept, memory):
    keys = [(series, bucket) for series in (1, 2, 1000, 2**40) for bucket in range(0, 8 * EXEMPLARS, EXEMPLARS)]
    assert len(keys) == EXEMPLARS
    for _ in range(3):
        for series, bucket in keys:
            kept.keep(series, bucket, 1.0, TRACE)
    assert {(each.series, each.bucket) for each in found(memory)} == set(keys)


def test_of_more_the_one_that_was_not_seen_for_longest_gives_way(kept, memory):
    for bucket in range(EXEMPLARS):
        kept.keep(7, bucket, 9.0, TRACE)
    kept.keep(7, 0, 1.0, TRACE)  # seen, though a greater one stays
    kept.keep(8, 0, 1.0, TRACE)
    assert {(each.series, each.bucket) for each in found(memory)} == {(8, 0), *((7, at) for at in range(EXEMPLARS))} - {
        (7, 1)
    }


def test_places_in_fresh_memory_are_written_whatever_was_kept_before(kept, memory):
    for bucket in range(EXEMPLARS):
        kept.keep(7, bucket, 9.0, TRACE)
    fresh = np.zeros_like(memory)
    kept.use(fresh.data)
    kept.keep(7, 3, 1.0, TRACE)
    kept.keep(9, 9, 2.0, TRACE)
    assert {(each.series, each.bucket, each.value) for each in found(fresh)} == {(7, 3, 1.0), (9, 9, 2.0)}


def test_one_that_is_being_written_is_left_out(kept, memory):
    kept.keep(7, 3, 9.0, TRACE)
    memory.view(EXEMPLAR)["version"] |= 1
    assert found(memory) == ()


def test_one_whose_writer_died_in_the_middle_is_written_anew(kept, memory):
    kept.keep(7, 3, 9.0, TRACE)
    memory.view(EXEMPLAR)["version"] |= 1
    kept.keep(7, 3, 10.0, TRACE)
    assert [each.value for each in found(memory)] == [10.0]


def test_one_that_changes_while_it_is_copied_is_left_out(kept, memory):
    kept.keep(7, 3, 9.0, TRACE)
    assert read(memory, lambda: kept.keep(7, 3, 10.0 + random.random(), TRACE)) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", math.nan), ("value", math.inf), ("time", math.nan), ("time", -1.0), ("time", 1e300), ("length", 2**63)],
)
def test_one_that_cannot_be_is_left_out(kept, memory, field, value):
    kept.keep(7, 3, 9.0, TRACE)
    memory.view(EXEMPLAR)[field] = value
    assert found(memory) == ()


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"3", b'{"a b":"c"}', b'{"a":1}', b'{"a":"\\ud800"}', b"[" * 200, b"\xff"]
)
def test_labels_that_no_page_can_show_are_left_out(kept, memory, text):
    kept.keep(7, 3, 9.0, text)
    assert found(memory) == ()


def test_random_bytes_are_read_without_an_error(memory):
    draw = random.Random(3)
    for _ in range(50):
        memory[:] = np.frombuffer(draw.randbytes(len(memory)), np.uint8)
        found(memory)


@pytest.mark.parametrize("labels", [{"a b": "c"}, {"1": "x"}, {"trace_id": "x" * 121}])
def test_bad_labels_are_value_errors(labels):
    with pytest.raises(ValueError, match="exemplar"):
        checked(labels)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e308, -1.0, math.inf, math.nan])
def test_every_value_has_an_octave(value):
    assert octave(value) >= 0


def test_of_several_workers_the_slowest_recent_request_is_shown_else_the_newest():
    old = [Exemplar(0, 1, 9.0, 100.0), Exemplar(0, 1, 1.0, 200.0)]
    new = [Exemplar(0, 1, 2.0, 990.0), Exemplar(0, 1, 3.0, 980.0)]
    assert slowest(old + new, 1000.0)[0, 1].value == 3.0
    assert slowest(old, 1000.0)[0, 1].value == 1.0


def test_the_fleet_shows_them_by_octave_and_by_bucket_of_a_series(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=32) as metrics:
        custom = CustomMetrics(metrics)
        histogram = custom.histogram("h", buckets=[1, 2], labels=["a"]).labels("x")
        counter = custom.counter("c")

        def work(trace):
            for value in (0.1, 0.3):
                metrics.update_inference(value)
                metrics.record_exemplar(value, {"trace_id": f"{trace}-{value}"})
            histogram.observe(1.5, exemplar={"trace_id": trace})
            counter.inc(exemplar={"trace_id": trace})
            metrics.claim()

        work("parent")
        in_forked_child(lambda: work("child"))
        snapshot = metrics.snapshot()
        assert [each.value for each in snapshot.exemplars] == [0.1, 0.3]
        shown = {family.definition.name: family.series[0].exemplars for family in snapshot.families}
        assert list(shown["h"]) == [1]
        assert shown["h"][1].labels["trace_id"] in ("parent", "child")
        assert list(shown["c"]) == [0]
        custom.remove("h", {"a": "x"})
        histogram.observe(0.5)
        assert next(f for f in metrics.snapshot().families if f.definition.name == "h").series[0].exemplars == {}


def test_bad_exemplars_of_instruments_are_value_errors_and_count_nothing(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=32) as metrics:
        custom = CustomMetrics(metrics)
        with pytest.raises(ValueError, match="exemplar"):
            custom.counter("c").inc(exemplar={"a b": "c"})
        with pytest.raises(ValueError, match="exemplar"):
            metrics.record_exemplar(0.1, {"trace_id": "x" * 1000})
        assert custom.get_all_metrics()["c"]["value"] == 0.0


def test_an_exemplar_of_an_unusable_value_is_not_kept(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=32) as metrics:
        for value in (math.nan, math.inf):
            metrics.record_exemplar(value, {"trace_id": "x"})
        assert metrics.snapshot().exemplars == ()
        assert exemplars.INFERENCE_TIME == 0
