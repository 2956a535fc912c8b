"""How a record is packed into its 64 bytes: ``layout.RECORD``, by `struct`."""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from shmetrics.layout import RECORD

# time, inference, batch, preprocessing, quantization; errors, hits, misses. Native order ("@"), so that each number is
# stored whole. pack_into zeroes its target first, which is harmless: the record is not committed yet.
_RECORD: Final = struct.Struct("@5d3Q")
pack_into: Final = _RECORD.pack_into
SHIFT: Final = 6
"""A record's index, shifted left by so much, is its offset."""
Buffer: TypeAlias = "memoryview[int] | bytearray"
"""Records one after the other."""
assert _RECORD.size == RECORD.itemsize == 1 << SHIFT


def between(ring: memoryview[int], first: int, end: int) -> Buffer:
    """Records `first` to `end` of a ring, no more than it has: a view, but where they wrap around a copy."""
    start, size = (first << SHIFT) % len(ring), (end - first) << SHIFT
    if start + size <= len(ring):
        return ring[start : start + size]
    return bytearray(ring[start:]) + ring[: start + size - len(ring)]


def check_numbers(args: tuple[object, ...]) -> None:
    """Raise the TypeError for measurements that cannot be stored."""
    try:
        _RECORD.pack(0.0, *args, 0, 0, 0)
    except struct.error as error:
        raise TypeError(f"measurements must be real numbers, not {args!r} ({error})") from None
