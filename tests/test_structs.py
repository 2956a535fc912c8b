"""Structs are laid out as numpy has them, and their fields are read and stored as numpy does it."""

import numpy as np
import pytest

from shmetrics.layout import BLOCK, BOARD, EXEMPLAR, FOLDED, HEADER, HOT, NOTES, OBITUARY, OWNER, RECORD, Layout
from shmetrics.structs import Fields, Struct

DIMS = Layout(4, 100, 16)
STRUCTS = {
    "header": HEADER, "record": RECORD, "folded": FOLDED, "owner": OWNER, "hot": HOT, "notes": NOTES, "board": BOARD,
    "obituary": OBITUARY, "exemplar": EXEMPLAR, "block": BLOCK, "catalog": DIMS.catalog, "retired": DIMS.retired,
    "obituaries": DIMS.obituaries, "slot": DIMS.slot,
}  # fmt: skip
each_struct = pytest.mark.parametrize("struct", STRUCTS.values(), ids=STRUCTS)


def scalars(struct):
    """The fields that are one number, or one piece of bytes."""
    return [name for name, (form, shape) in struct.formats.items() if not shape and not isinstance(form, Struct)]


@each_struct
def test_every_field_is_where_numpy_has_it(struct):
    dtype = np.dtype(struct)
    assert struct.names == dtype.names
    assert struct.itemsize == dtype.itemsize
    for name in struct.names:
        assert struct.offsets[name] == dtype.fields[name][1]
        assert struct.size_of(name) == dtype[name].itemsize


@each_struct
def test_a_field_is_what_numpy_reads_and_stores(struct):
    memory = bytearray(np.random.default_rng(1).bytes(struct.itemsize))
    fields, array = Fields(struct, memory), np.ndarray((), struct, memory)
    values = {"u8": 2**63 + 5, "f8": -0.1}
    for name in scalars(struct):
        form, bits = struct.formats[name][0], array[name].tobytes()
        read = np.array(fields[name], form).tobytes() if form in values else fields[name]
        assert read in (bits, bits.rstrip(b"\0")), name
        fields[name] = value = values.get(form, b"some bytes")
        assert fields[name] == value or fields[name] == value.ljust(struct.size_of(name), b"\0"), name
        stored = array[name][()] if form in values else array[name].tobytes().rstrip(b"\0")
        assert stored == value, name


@pytest.mark.parametrize(("name", "value", "error"), [
    ("pid", -1, ValueError),
    ("pid", 2**64, ValueError),
    ("pid", 1.5, TypeError),
    ("heartbeat", "soon", TypeError),
    ("height", 1, KeyError),
])  # fmt: skip
def test_what_a_field_cannot_hold_is_an_error_and_leaves_it(name, value, error):
    memory = bytearray(OWNER.itemsize)
    with pytest.raises(error):
        Fields(OWNER, memory)[name] = value
    assert not any(memory)


def test_what_may_only_be_read_is_only_read():
    fields = Fields(OWNER, bytes(OWNER.itemsize))
    assert fields["pid"] == 0
    with pytest.raises(TypeError):
        fields["pid"] = 1


def test_too_long_a_text_is_cut():
    memory = bytearray(OWNER.itemsize)
    fields = Fields(OWNER, memory)
    fields["role"] = b"x" * 100
    assert fields["role"] == b"x" * 32
    assert memory.count(b"x") == 32


@pytest.mark.parametrize("other", [
    Struct(("a", "u8"), ("c", "u8")),
    Struct(("a", "u8"), ("b", "f8")),
    Struct(("a", "u8"), ("b", "u8", (1,))),
    Struct(("b", "u8"), ("a", "u8")),
    Struct(("a", "u8"), ("b", "u8"), align=16),
    Struct(("a", "u8"), ("b", "u8"), multiple_of=64),
    Struct(("a", "u8"), ("b", Struct(("c", "u8")))),
])  # fmt: skip
def test_structs_that_differ_in_anything_are_described_differently(other):
    one = Struct(("a", "u8"), ("b", "u8"))
    assert one.description == Struct(("a", "u8"), ("b", "u8")).description
    assert one.description != other.description
