"""What is done to shared bytes: bits, words and regions, anywhere, or where it hurts most."""

import struct

from shmetrics.layout import BOARD, FOLDED, HEADER, HOT, NOTES, OBITUARY, OWNER, RECORD, offset_of

_FLOATS = (
    float("nan"),
    float("inf"),
    float("-inf"),
    -0.0,
    5e-324,
    2.2e-308,
    -1.0,
    1.0,
    1e9,
    2.0**39,
    1e18,
    1e38,
    1.7e308,
)
WORDS = (
    *(0, 1, 2, 3, 255, 256, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**61, 2**62 - 1, 2**62, 2**63 - 1, 2**63),
    *(2**64 - 2, 2**64 - 1, 0x7FF0000000000001),  # the last: a signalling NaN
    *(struct.unpack("Q", struct.pack("d", number))[0] for number in _FLOATS),
)
"""Words at which arithmetic, indices or comparisons may break."""
_LONGEST_REGION = 4096


def parts_of(dims):
    """The parts of a segment that deserve more than their share of strikes: name to a list of (offset, size)."""
    slot_starts = [dims.slots_offset + slot * dims.slot.itemsize for slot in range(dims.max_workers)]

    def in_slots(part, size):
        return [(start + offset_of(dims.slot, part), size) for start in slot_starts]

    folded_tail = offset_of(FOLDED, "second")
    return {
        "header": [(0, HEADER.itemsize)],
        "live header": [(offset_of(HEADER, "retired_index"), HEADER.itemsize - offset_of(HEADER, "retired_index"))],
        "catalog": [(dims.catalog_offset, dims.catalog.itemsize)],
        "retired": [(dims.retired_offset + copy * dims.retired.itemsize, dims.retired.itemsize) for copy in (0, 1)],
        "retired counts": [
            (dims.retired_offset + copy * dims.retired.itemsize, offset_of(dims.retired, "folded")) for copy in (0, 1)
        ],
        "obituaries": [(dims.obituaries_offset, dims.obituaries.itemsize)],
        "newest obituaries": [(dims.obituaries_offset, 8 + 4 * OBITUARY.itemsize)],
        "owner": in_slots("owner", OWNER.itemsize),
        "hot": in_slots("hot", HOT.itemsize),
        "fold": in_slots("hot", 16),
        "notes": in_slots("notes", NOTES.itemsize),
        "board": in_slots("board", BOARD.itemsize),
        "ring": in_slots("ring", dims.capacity * RECORD.itemsize),
        "folded": in_slots("folded", 2 * FOLDED.itemsize),
        "folded counts": in_slots("folded", offset_of(FOLDED, "sketch")),
        "folded seconds": [
            (start + offset_of(dims.slot, "folded") + folded_tail, FOLDED.itemsize - folded_tail)
            for start in slot_starts
        ],
        "cells": in_slots("cells", 8 * dims.cells),
    }


def strike(draw, memory, start, size):
    """Change some of the `size` bytes from `start` on. ``draw``: a random.Random; ``memory``: writable bytes."""
    kind = draw.randrange(8)
    at = start + draw.randrange(size)
    word = min(at & ~7, len(memory) - 8)
    if kind == 0:
        memory[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        memory[at] = draw.randrange(256)
    elif kind == 2:
        _store(memory, word, draw.choice(WORDS))
    elif kind == 3:
        _store(memory, word, draw.getrandbits(64))
    elif kind == 4:  # a neighbour of what is there: one off, a ring's length off
        step = draw.choice((1, -1, 2, -2, 255, 256, 1023, 1024, -1024, 2048, 4096))
        _store(memory, word, (int.from_bytes(memory[word : word + 8], "little") + step) % 2**64)
    elif kind == 5:  # a word of another place
        other = draw.randrange(len(memory) // 8) * 8
        memory[word : word + 8] = memory[other : other + 8]
    elif kind == 6:
        length = min(draw.choice((8, 64, 512, _LONGEST_REGION)), start + size - at)
        filler = draw.choice((b"\0", b"\xff", None))
        memory[at : at + length] = draw.randbytes(length) if filler is None else filler * length
    else:  # two places exchanged
        length = min(draw.choice((8, 64, 512, _LONGEST_REGION)), start + size - at)
        other = draw.randrange(len(memory) - length)
        one, two = bytes(memory[at : at + length]), bytes(memory[other : other + length])
        memory[at : at + length], memory[other : other + length] = two, one


def _store(memory, at, value):
    memory[at : at + 8] = value.to_bytes(8, "little")
