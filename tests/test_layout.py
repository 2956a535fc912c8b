"""The layout: offsets, alignment, capacity, and the dimensions as its identity."""

import itertools

import numpy as np
import pytest

from shmetrics import layout
from shmetrics.layout import (
    BLOCK,
    BOARD,
    FOLD_BATCH,
    FOLD_RESERVE,
    FOLDED,
    HEADER,
    HOT,
    LINE,
    NOTES,
    OBITUARY,
    OWNER,
    RECORD,
    Layout,
    offset_of,
)

DIMENSIONS = [Layout(), Layout(1, 1, 1), Layout(4, 100, 16), Layout(7, 513, 3), Layout(1024, 5000, 100)]
PARTS = ("catalog", "retired", "obituaries", "slot")
each_layout = pytest.mark.parametrize("layout", DIMENSIONS, ids=str)


def parts(layout):
    """Every part of the segment, in order: name, first byte, bytes."""
    yield "header", 0, HEADER.itemsize
    yield "catalog", layout.catalog_offset, layout.catalog.itemsize
    yield "retired A", layout.retired_offset, layout.retired.itemsize
    yield "retired B", layout.retired_offset + layout.retired.itemsize, layout.retired.itemsize
    yield "obituaries", layout.obituaries_offset, layout.obituaries.itemsize
    for slot in range(layout.max_workers):
        yield f"slot {slot}", layout.slots_offset + slot * layout.slot.itemsize, layout.slot.itemsize


def fields(struct):
    """Fields of a struct as pairs of first byte and bytes, in the order of their definition."""
    return [(offset_of(struct, name), struct.size_of(name)) for name in struct.names]


def words(dtype, at=0):
    """First bytes of all numbers in a dtype, into every structure; of an array of structures, the first two."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        for index in range(min(2, int(np.prod(shape)))):
            yield from words(base, at + index * base.itemsize)
    elif dtype.names is not None:
        for name in dtype.names:
            yield from words(dtype[name], at + dtype.fields[name][1])
    elif dtype.kind in "uf":
        assert dtype.itemsize == 8
        yield at


@each_layout
def test_parts_follow_one_another_without_overlap_to_the_end_of_the_segment(layout):
    for (_, start, size), (name, following, _) in itertools.pairwise(parts(layout)):
        assert 0 <= following - (start + size) < LINE, name
    *_, (_, start, size) = parts(layout)
    assert start + size == layout.size


@each_layout
def test_every_part_starts_on_a_cache_line(layout):
    assert [name for name, start, _ in parts(layout) if start % LINE] == []


@each_layout
def test_every_part_of_a_slot_starts_on_a_cache_line(layout):
    assert [name for name in layout.slot.names if offset_of(layout.slot, name) % LINE] == []


@pytest.mark.parametrize(
    "dtype",
    [HEADER, OWNER, HOT, NOTES, BOARD, FOLDED, RECORD, OBITUARY, *(getattr(Layout(), part) for part in PARTS)],
    ids=["header", "owner", "hot", "notes", "board", "folded", "record", "obituary", *PARTS],
)
def test_fields_are_in_order_and_do_not_overlap(dtype):
    ends = [start + size for start, size in fields(dtype)]
    starts = [start for start, _ in fields(dtype)]
    assert starts[0] == 0
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert ends[-1] <= dtype.itemsize


@each_layout
def test_every_number_is_eight_bytes_and_naturally_aligned(layout):
    places = [*words(HEADER.dtype), *words(layout.catalog.dtype, layout.catalog_offset)]
    places += words(layout.obituaries.dtype, layout.obituaries_offset)
    for name, start, _ in parts(layout):
        if name.startswith(("retired", "slot")):
            places += words((layout.retired if name.startswith("retired") else layout.slot).dtype, start)
    assert len(places) > 50
    assert [place for place in places if place % 8] == []


@each_layout
def test_the_header_fits_before_the_catalog(layout):
    assert HEADER.itemsize <= layout.catalog_offset


@each_layout
def test_a_record_is_one_cache_line(layout):
    assert RECORD.itemsize == LINE == 64
    assert offset_of(layout.slot, "ring") % LINE == 0
    assert layout.slot.size_of("ring") == layout.capacity * LINE


@each_layout
def test_the_two_folded_copies_share_no_cache_line(layout):
    assert layout.slot.formats["folded"] == (FOLDED, (2,))
    assert FOLDED.itemsize % LINE == 0


def test_a_catalog_entry_keeps_entries_on_cache_lines():
    assert BLOCK.itemsize % LINE == 0


@pytest.mark.parametrize("window_size", [1, 2, 99, 100, 511, 512, 513, 1535, 1536, 5000, 65_535, 65_536, 1_000_000])
def test_capacity_is_a_power_of_two_with_room_for_the_window_and_a_batch(window_size):
    capacity = Layout(window_size=window_size).capacity
    assert capacity.bit_count() == 1
    assert capacity >= window_size + 1 + FOLD_BATCH


@pytest.mark.parametrize("window_size", [1, 100, 511, 5000])
def test_a_fold_can_be_put_off_for_as_many_records_as_a_reader_has_room_for_at_least(window_size):
    capacity = Layout(window_size=window_size).capacity
    assert capacity - FOLD_RESERVE - FOLD_BATCH >= FOLD_RESERVE
    assert capacity - window_size - 1 >= FOLD_RESERVE


@pytest.mark.parametrize("window_size", [600, 5000, 1_000_000])
def test_capacity_is_not_a_power_of_two_more_than_needed(window_size):
    assert Layout(window_size=window_size).capacity // 2 < window_size + 1 + FOLD_BATCH


def test_the_hash_changes_with_every_dimension():
    layouts = [Layout(), Layout(max_workers=65), Layout(window_size=101), Layout(max_series=1023)]
    assert len({layout.hash for layout in layouts}) == len(layouts)


def test_dimensions_that_give_the_same_size_give_another_hash():
    """The window has room to grow in the same ring, so only the dimension itself tells them apart."""
    one, other = Layout(window_size=100), Layout(window_size=101)
    assert one.size == other.size
    assert one.hash != other.hash


def test_the_hash_is_64_bits_and_the_same_for_equal_dimensions():
    assert Layout(4, 100, 16).hash == Layout(4, 100, 16).hash
    assert all(0 <= layout.hash < 2**64 for layout in DIMENSIONS)


@pytest.mark.parametrize("version", [0, layout.VERSION - 1, layout.VERSION + 1])
def test_the_hash_changes_with_the_version(monkeypatch, version):
    current = Layout().hash
    monkeypatch.setattr("shmetrics.layout.VERSION", version)
    assert Layout().hash != current


@pytest.mark.parametrize(
    ("name", "low", "high"), [("max_workers", 1, 1024), ("window_size", 1, 1_000_000), ("max_series", 1, 65_536)]
)
class TestDimensions:
    """Each of the three dimensions has a range."""

    def test_the_ends_of_the_range_are_taken(self, name, low, high):
        assert getattr(Layout(**{name: low}), name) == low
        assert getattr(Layout(**{name: high}), name) == high

    @pytest.mark.parametrize("kind", [np.int64, np.uint32, np.int16])
    def test_a_whole_number_of_numpy_is_as_good_as_an_int(self, name, low, high, kind):
        assert repr(Layout(**{name: kind(100)})) == repr(Layout(**{name: 100}))
        assert Layout(**{name: kind(100)}).hash == Layout(**{name: 100}).hash

    @pytest.mark.parametrize("excess", [1, 10**30])
    def test_beyond_the_range_raises_with_name_range_and_value(self, name, low, high, excess):
        for value in (low - excess, high + excess):
            with pytest.raises(ValueError, match=rf"^{name} .*{low} to {high}, not {value}$"):
                Layout(**{name: value})

    @pytest.mark.parametrize(
        "value", [True, False, 4.0, float("nan"), "4", b"4", None, np.float64(4.0), np.True_, [4]], ids=repr
    )
    def test_what_is_no_whole_number_raises_with_name_range_and_value(self, name, low, high, value):
        with pytest.raises(ValueError, match=rf"^{name} .*{low} to {high}, not ") as raised:
            Layout(**{name: value})
        assert repr(value) in str(raised.value)


def test_the_default_hub_stays_well_under_the_default_shared_memory_of_docker():
    assert Layout().size < 32 * 2**20
