"""Every parser of shared bytes, aimed at with arbitrary bytes: it refuses, reports or serves, and does nothing else."""

import json
import os
import random
import warnings
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmetrics import naming, segment, slots
from shmetrics.catalog import Catalog, FullError
from shmetrics.entries import run_length
from shmetrics.errors import ShmetricsError
from shmetrics.evidence import Evidence
from shmetrics.families import Definition
from shmetrics.findings import find
from shmetrics.folded import Folded, flaw, merge
from shmetrics.hub import View
from shmetrics.layout import BLOCK, FOLDED, HEADER, MAGIC, VERSION, Layout, offset_of
from shmetrics.metrics import PerformanceMetrics
from shmetrics.statistics import comprehensive, lifetime_percentiles
from shmetrics.writer import Writer
from tests.forge import folded_of, random_records
from tests.fuzz.strikes import WORDS, parts_of, strike

DIMS = Layout(max_workers=4, window_size=100, max_series=8)
VICTIM, OTHER = 1, 2
COUNT = 700
"""Records of each worker: two folds, and a tail that is not folded."""


def examples(count):
    """So many examples, the same in every run, and no clock to fail by."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


words = st.one_of(st.sampled_from(WORDS), st.integers(0, 2**64 - 1), st.integers(0, 2048))
seeds = st.integers(0, 2**32 - 1)


class Fleet:
    """A hub with three live workers and one that was reaped, whose bytes can be put back as they were."""

    def __init__(self, name):
        self.target = segment.create(name, DIMS)
        self.writers = [Writer(self.target, role=f"w{slot}") for slot in range(4)]
        for writer in self.writers:
            for number in range(COUNT):
                writer.record(0.001 * (1 + number % 7), 1 + number % 3)
            writer.add(slots.ERRORS, 3)
            writer.enter("GET /")
        self.writers.pop().close()
        slots.reap(self.target)
        self.memory = memoryview(self.target.memory)
        self.good = bytes(self.memory)
        self.parts = parts_of(DIMS)

    def restore(self):
        self.memory[:] = self.good

    def slot(self, number=VICTIM):
        """Start and size of a slot."""
        return self.target.slot_offset(number), DIMS.slot.itemsize

    def close(self):
        self.restore()
        for writer in self.writers:
            writer.close()
        segment.unlink(self.target.name, self.target.instance)


@contextmanager
def hub_of_its_own(name):
    """A fresh hub for one example, removed however the example ends."""
    target = segment.create(name, DIMS)
    try:
        yield target
    finally:
        segment.unlink(name, target.instance)


@pytest.fixture
def fleet(hub_name):
    made = Fleet(hub_name)
    yield made
    made.close()


def served(target):
    """The figures of a fresh reader: read without a warning, finite, and a dictionary that is JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fleet = View(target).snapshot()
        figures = comprehensive(fleet)
        findings = [asdict(finding) for finding in find(Evidence(fleet))]
    json.dumps([figures, findings, [obituary.as_json() for obituary in fleet.obituaries]], allow_nan=False)
    return fleet, figures


def check_others(target, fleet, *, but=VICTIM):
    """The workers of all other slots are shown exactly as they are."""
    shown = {worker.slot: worker for worker in fleet.workers}
    for slot in {0, 1, 2} - {but}:
        worker = shown[slot]
        assert worker.alive
        assert worker.counters.requests == COUNT
        assert worker.counters.errors == 3
        assert int(worker.folded.valid) == COUNT
        assert len(worker.window) == DIMS.window_size
        assert len(worker.in_flight) == 1
    assert [part for part in fleet.health.corrupt if part != f"slot {but}"] == []


# The header -----------------------------------------------------------------------------------------------------------


def attached(name):
    """The segment of that name, or None when it is refused as documented."""
    try:
        return segment.attach(name)
    except ShmetricsError:
        return None


@examples(150)
@given(st.binary(max_size=2 * HEADER.itemsize), st.sampled_from([0, 1, HEADER.itemsize, DIMS.size]))
def test_a_file_of_arbitrary_bytes_is_refused(hub_name, data, size):
    path = naming.segment_path(hub_name)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.ftruncate(descriptor, size)
        assert attached(hub_name) is None
    finally:
        os.close(descriptor)
        os.unlink(path)


@examples(150)
@given(st.lists(st.tuples(st.integers(0, HEADER.itemsize // 8 - 1), words), min_size=1, max_size=3))
def test_a_changed_header_is_refused_or_gives_a_hub_that_can_be_read(fleet, changes):
    for index, value in changes:
        fleet.memory[8 * index : 8 * index + 8] = value.to_bytes(8, "little")
    target = attached(fleet.target.name)
    if target is not None:
        assert target.layout == DIMS
        served(target)
        target.close()
    fleet.restore()


@examples(60)
@given(st.tuples(st.just(MAGIC), st.just(VERSION), words, words, words, words, words))
def test_a_header_that_promises_more_than_the_file_holds_is_refused(fleet, header):
    for index, value in enumerate(header):
        fleet.memory[8 * index : 8 * index + 8] = value.to_bytes(8, "little")
    target = attached(fleet.target.name)
    assert target is None or target.layout == DIMS
    fleet.restore()


# A slot ---------------------------------------------------------------------------------------------------------------

SLOT_WORDS = [
    *(offset_of(DIMS.slot, part) + field[1]
      for part in ("owner", "hot", "notes", "board") for field in DIMS.slot.dtype[part].fields.values()),
    *(offset_of(DIMS.slot, "ring") + 64 * row + 8 * column for row in (0, 511, 512, 600, 699) for column in range(8)),
    *(offset_of(DIMS.slot, "folded") + copy * FOLDED.itemsize + field[1]
      for copy in (0, 1) for field in FOLDED.dtype.fields.values()),
]  # fmt: skip
"""Every field of a slot: its first word at least."""


@pytest.mark.parametrize("offset", SLOT_WORDS)
def test_each_field_of_a_slot_may_hold_anything_and_the_other_slots_are_served_exactly(fleet, offset):
    start = fleet.slot()[0] + offset
    for value in WORDS:
        fleet.memory[start : start + 8] = value.to_bytes(8, "little")
        check_others(fleet.target, served(fleet.target)[0])
    fleet.restore()


@examples(250)
@given(seeds, st.integers(1, 6), st.sampled_from(["owner", "hot", "fold", "notes", "board", "ring", "folded",
                                                 "folded counts", "folded seconds", "cells", "all"]))  # fmt: skip
def test_a_slot_of_mutated_bytes_is_served_or_reported_and_never_its_neighbours(fleet, seed, count, part):
    draw = random.Random(seed)
    start, size = fleet.slot() if part == "all" else fleet.parts[part][VICTIM]
    inside = fleet.memory[fleet.slot()[0] : fleet.slot()[0] + fleet.slot()[1]]
    for _ in range(count):
        strike(draw, inside, start - fleet.slot()[0], size)
    check_others(fleet.target, served(fleet.target)[0])
    fleet.restore()


@examples(60)
@given(seeds)
def test_what_arbitrary_bytes_add_to_the_fleet_is_bounded_by_their_slot(fleet, seed):
    """The per-second history of the others is part of being served: a second that never was must not hide it."""
    honest = served(fleet.target)[0].folded
    start = fleet.parts["ring"][VICTIM][0] + 64 * (512 + seed % 188)
    fleet.memory[start : start + 8] = np.float64([1e9, 2.0**39, 1e6, 2.0**40 - 1][seed % 4]).tobytes()
    shown = served(fleet.target)[0]
    check_others(fleet.target, shown)
    now = np.floor(shown.taken_at)
    assert (shown.folded.second <= now).all()
    assert int(shown.folded.requests.sum()) >= int(honest.requests.sum()) - COUNT
    fleet.restore()


@pytest.mark.parametrize("part", ["catalog", "cells"])
def test_what_is_in_the_catalog_and_the_cells_changes_no_figure(fleet, part):
    draw = random.Random(3)
    view = View(fleet.target)
    before = view.snapshot()
    for start, size in fleet.parts[part]:
        fleet.memory[start : start + size] = draw.randbytes(size)
    after = view.snapshot()
    assert after.counters == before.counters
    assert after.folded.area.tobytes() == before.folded.area.tobytes()
    assert set(after.health.corrupt) == ({"catalog"} if part == "catalog" else set())
    assert [worker.counters for worker in after.workers] == [worker.counters for worker in before.workers]


@examples(150)
@given(seeds)
def test_a_catalog_that_others_overwrite_can_be_read_and_changed_by_those_who_know_it(hub_name, seed):
    """Whatever is in it, and in whatever order it comes; a change is made, or refused for want of room or time."""
    draw = random.Random(seed)
    with hub_of_its_own(hub_name) as target, warnings.catch_warnings():
        warnings.simplefilter("error")
        catalogs = [Catalog(target), Catalog(segment.attach(hub_name, writable=True))]
        memory, (start, size) = memoryview(target.memory), parts_of(DIMS)["catalog"][0]
        for _ in range(12):
            catalog = draw.choice(catalogs)
            if draw.random() < 0.3:
                strike(draw, memory, start, draw.choice((24, 24 + BLOCK.itemsize, size)))
            with suppress(FullError, ValueError):  # ValueError: what it overwrote defines one of that name otherwise
                metric = catalog.define(draw.choice((PLAIN, LABELLED)), patience=0.0, overflow=True)
                labels = ("ab"[: draw.randrange(2) + 1],) * len(catalog.contents().metrics[metric].labels)
                placement = catalog.place(metric, labels, patience=0.0)
                if draw.random() < 0.5:
                    catalog.remove(placement, patience=0.0)
            for each in catalogs:
                _check(each.contents())
            served(target)


PLAIN, LABELLED = Definition("plain", "counter"), Definition("labelled", "histogram", labels=("x",), buckets=(1.0,))


def _check(contents):
    """No series but of a metric that is there, and on cells of its own."""
    used = [0] * DIMS.cells
    for placement in contents.series.values():
        metric = contents.metrics[placement.metric]
        assert len(placement.labels) == len(metric.labels)
        for cell in range(placement.cell, placement.cell + run_length(metric)):
            used[cell] += 1
    assert max(used) <= 1
    assert all(contents.series[placement.serial] is placement for placement in contents.index.values())


# The retired area -----------------------------------------------------------------------------------------------------


@examples(250)
@given(seeds, st.integers(1, 6), st.sampled_from(["retired", "retired counts", "live header"]))
def test_a_retired_area_of_mutated_bytes_harms_no_live_worker(fleet, seed, count, part):
    draw = random.Random(seed)
    fleet.restore()
    for _ in range(count):
        start, size = draw.choice(fleet.parts[part])
        inside = fleet.memory[start : start + size]
        strike(draw, inside, 0, size)
    shown, _ = served(fleet.target)
    generations = fleet.target.retired(fleet.target.retired_index)["folded_generation"].tolist()
    for slot in range(3):
        if generations[slot] == 1:  # as after its reaping: nothing tells this from the truth
            continue
        worker = next((worker for worker in shown.workers if worker.slot == slot), None)
        if worker is None:
            assert f"slot {slot}" in shown.health.corrupt
        else:
            assert worker.in_totals
            assert worker.counters.requests == COUNT
    fleet.restore()


@examples(200)
@given(st.lists(st.tuples(words, words, words, st.integers(0, 4), st.integers(0, 1282)), min_size=1, max_size=3))
def test_areas_that_pass_the_check_can_be_added_and_their_percentiles_read(areas):
    """Also where somebody took pains to make the counts of one agree."""
    kept = [folded_of(random_records(5, 50)).area]
    for valid, invalid, number, _row, bucket in areas:
        area = Folded()
        area.valid[...], area.invalid[...] = valid, invalid
        area.sketch[:, bucket] = valid
        area.maximum[:] = np.uint64(number).view(np.float64)
        if flaw(area.area, valid + invalid, 1e6) is None:
            kept.append(area.area)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = merge(np.array(kept * 300, FOLDED))
        assert int(total.valid) == 300 * sum(int(area["valid"]) for area in kept)
        json.dumps(lifetime_percentiles(total), allow_nan=False)


@examples(150)
@given(st.binary(min_size=8, max_size=64), seeds)
def test_adding_areas_of_arbitrary_bytes_neither_raises_nor_warns(data, seed):
    draw = random.Random(seed)
    raw = bytearray(folded_of(random_records(6, 300)).area.tobytes() * 3)
    for _ in range(6):
        strike(draw, memoryview(raw), 0, len(raw))
    at = draw.randrange(len(raw) - len(data)) & ~7
    raw[at : at + len(data)] = data
    areas = np.frombuffer(raw, FOLDED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for area in areas:
            flaw(area, COUNT, 1000.0)
        merge(areas)
        folded = Folded(areas[0, ...])
        folded.add_rows(random_records(7, 300))


# Reaping --------------------------------------------------------------------------------------------------------------


def reaped(fleet, damage, pid=None):
    """Let the victim die (its lock is let go, its slot stays), damage its slot, reap. ``pid``: instead of its own."""
    victim = fleet.writers[VICTIM]
    fleet.target.slots["owner"]["pid"][VICTIM] = pid or os.getpid()
    lock = victim._folding.claim.alive
    lock.release()
    damage()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        slots.reap(fleet.target)
    fleet.memory[fleet.slot()[0] : fleet.slot()[0] + 8] = bytes(8)
    return View(fleet.target).snapshot()


@examples(200)
@given(seeds, st.integers(1, 4), st.sampled_from(["hot", "fold", "owner", "notes", "board", "ring", "folded",
                                                 "folded counts", "tail", "folded seconds", "all"]))  # fmt: skip
def test_reaping_a_dead_slot_of_mutated_bytes_never_raises_nor_lowers_a_total_nor_spoils_the_retired_area(
    fleet, seed, count, part
):
    draw = random.Random(seed)
    fleet.restore()
    before = fleet.target.retired(fleet.target.retired_index)
    totals = [int(before[name]) for name in ("incarnations", "requests", "errors", "cache_hits", "dropped")]
    whole, size = fleet.slot()
    inside = fleet.memory[whole : whole + size]
    start, length = {"all": (0, size), "tail": (fleet.parts["ring"][VICTIM][0] - whole + 64 * 512, 64 * 188)}.get(
        part,
        (fleet.parts.get(part, [(whole, 0)] * 4)[VICTIM][0] - whole, fleet.parts.get(part, [(0, 8)] * 4)[VICTIM][1]),
    )

    def damage():
        for _ in range(count):
            strike(draw, inside, start, length)

    shown = reaped(fleet, damage)
    after = fleet.target.retired(fleet.target.retired_index)
    for name, total in zip(("incarnations", "requests", "errors", "cache_hits", "dropped"), totals, strict=True):
        assert int(after[name]) >= total
    assert "retired area" not in shown.health.corrupt
    assert fleet.writers[VICTIM]._folding.claim.alive.try_acquire()
    fleet.restore()


@pytest.mark.parametrize("column", range(8))
def test_no_word_of_a_record_that_a_dead_worker_left_spoils_the_retired_area(fleet, column):
    for value in WORDS:
        fleet.restore()
        start = fleet.parts["ring"][VICTIM][0] + 64 * (COUNT - 1) + 8 * column

        def damage(start=start, value=value):
            fleet.memory[start : start + 8] = value.to_bytes(8, "little")

        shown = reaped(fleet, damage)
        assert shown.health.corrupt == {}
        assert fleet.writers[VICTIM]._folding.claim.alive.try_acquire()


# The writer -----------------------------------------------------------------------------------------------------------


@examples(150)
@given(seeds, st.integers(1, 5), st.sampled_from(["owner", "hot", "fold", "notes", "board", "ring", "folded", "all"]))
def test_a_writer_never_raises_for_what_is_in_its_slot(hub_name, seed, count, part):
    draw = random.Random(seed)
    with hub_of_its_own(hub_name) as target, closing(Writer(target)) as writer, warnings.catch_warnings():
        warnings.simplefilter("error")
        _record(writer, draw.choice((1, 255, 257, 700)))
        for _ in range(3):
            if writer.slot is not None:
                start, size = target.slot_offset(writer.slot), DIMS.slot.itemsize
                inside = memoryview(target.memory)[start : start + size]
                if part == "all":
                    at = 0
                else:
                    at, size = parts_of(DIMS)[part][0]
                    at -= target.slot_offset(0)
                for _ in range(count):
                    strike(draw, inside, at, size)
            _record(writer, draw.choice((1, 300, 600)))
        served(target)
        writer.close()
        slots.reap(target)
        served(target)


def _record(writer, count):
    """Everything a writer does, so many times."""
    for number in range(count):
        ticket = writer.enter("/3")
        writer.record(0.001, 1)
        if number % 50 == 0:
            for word in (slots.ERRORS, slots.CACHE_HITS, slots.CACHE_MISSES, slots.UNCOUNTED):
                writer.add(word, 2**40)
        writer.leave(ticket)


@examples(150)
@given(st.integers(0, offset_of(DIMS.slot, "board") // 8 - 1), words)
def test_a_process_can_look_at_its_own_records_whatever_its_words_say(hub_name, word, value):
    with PerformanceMetrics(name=hub_name, max_workers=4, max_series=8) as metrics, warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            for _ in range(300):
                metrics.update_inference(0.5)
            slots.words_of(metrics._attachment.segment, metrics._attachment.writer.slot)[word] = value
            assert len(metrics.inference_times) <= metrics.window_size
            assert len(list(metrics.inference_times)) <= metrics.window_size
            _ = metrics.total_requests
            metrics.record_error()
            metrics.update_inference(0.5)
            metrics.get_comprehensive_statistics()
        finally:
            metrics.unlink()


@pytest.mark.parametrize("generation", WORDS)
@examples(10)
@given(ended_at=words)
def test_a_claimant_is_seen_whatever_the_slot_held(hub_name, generation, ended_at):
    """A generation at the end of its range starts anew, and the slot is not taken for one never used."""
    with hub_of_its_own(hub_name) as target, closing(Writer(target)) as writer, warnings.catch_warnings():
        warnings.simplefilter("error")
        slots.words_of(target, 0)[slots.GENERATION] = generation
        target.slots["owner"]["ended_at"] = np.uint64(ended_at).view(np.float64)
        writer.record(0.5)
        assert View(target).snapshot().counters.requests == 1


@examples(40)
@given(words)
def test_a_claimant_is_counted_or_reported_whatever_the_retired_area_says_of_its_slot(hub_name, generation):
    with hub_of_its_own(hub_name) as target, closing(Writer(target)) as writer:
        target.retired(0)["folded_generation"][0] = generation
        writer.record(0.5)
        fleet = View(target).snapshot()
        assert fleet.counters.requests == 1 or fleet.health.corrupt
