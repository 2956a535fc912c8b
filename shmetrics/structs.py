"""Structs: where each field of a piece of memory is, and how one field is read or stored. Pure.

numpy takes a `Struct` wherever it takes a dtype. What reads or stores single fields does so by `Fields`, without it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from shmetrics.arrays import np

if TYPE_CHECKING:
    from typing import TypeAlias

    Format: TypeAlias = "str | Struct"
    """"u8" and "f8", numbers of eight bytes; "S40", a text of so many at most; "V40", so many bytes; or a struct."""
    Shape: TypeAlias = tuple[int, ...]
    Field: TypeAlias = tuple[str, Format] | tuple[str, Format, Shape]

_ORDER: Final = "<" if sys.byteorder == "little" else ">"
_NUMBERS: Final = {"u8": "Q", "f8": "d"}


def round_up(number: int, step: int) -> int:
    """The least multiple of `step` that is not less."""
    return -(-number // step) * step


class Struct:
    """Fields one after the other, each from the next multiple of `align` on; the size is one of `multiple_of`, too.

    ``fields``: the name of each, its format, and its shape where it is an array.
    """

    def __init__(self, *fields: Field, align: int = 8, multiple_of: int = 8) -> None:
        self.formats: dict[str, tuple[Format, Shape]] = {}
        self.offsets: dict[str, int] = {}
        self._dtype: np.dtype[np.void] | None = None
        end = 0
        for name, form, *shape in fields:
            self.formats[name] = form, shape[0] if shape else ()
            self.offsets[name] = round_up(end, align)
            end = self.offsets[name] + self.size_of(name)
        self.itemsize: Final = round_up(end, max(align, multiple_of))

    @property
    def names(self) -> tuple[str, ...]:
        """Of its fields, in their order."""
        return tuple(self.formats)

    def size_of(self, name: str) -> int:
        """The bytes of a field, all elements of an array."""
        form, shape = self.formats[name]
        size = form.itemsize if isinstance(form, Struct) else int(form[1:])
        for length in shape:
            size *= length
        return size

    @property
    def dtype(self) -> np.dtype[np.void]:
        """numpy's: by this attribute it takes a struct for a dtype.

        (Kept by no ``cached_property``: before 3.12 that has a lock, which a child of fork would find held for ever.)
        """
        if self._dtype is None:
            forms = [(form.dtype if isinstance(form, Struct) else form, shape) for form, shape in self.formats.values()]
            offsets = [*self.offsets.values()]
            described: Any = {"names": self.names, "formats": forms, "offsets": offsets, "itemsize": self.itemsize}
            self._dtype = np.dtype(described)
        return self._dtype

    @property
    def description(self) -> str:
        """A text that two structs share only when every name, format, shape and offset in them is the same."""
        inner = ",".join(f"{name}@{self.offsets[name]}:{_described(*self.formats[name])}" for name in self.formats)
        return f"{{{inner}}}{self.itemsize}"


def _described(form: Format, shape: Shape) -> str:
    order = _ORDER if form in _NUMBERS else "|"
    return f"{form.description if isinstance(form, Struct) else order + form}{shape or ''}"


class Fields:
    """The fields of one struct in memory, by their names: numbers and bytes, but no arrays or structs.

    A number is loaded, or stored, whole. ``memory``: bytes, as many as the struct has; writable to be stored in.
    """

    __slots__ = ("_floats", "_memory", "_struct", "_words")

    def __init__(self, struct: Struct, memory: Any) -> None:
        self._struct = struct
        self._memory = memoryview(memory)[: struct.itemsize]
        self._words, self._floats = self._memory.cast("Q"), self._memory.cast("d")

    def __getitem__(self, name: str) -> Any:
        """Of "S" without the zeros behind it."""
        form, start = self._struct.formats[name][0], self._struct.offsets[name]
        if form in _NUMBERS:
            return (self._words if form == "u8" else self._floats)[start // 8]
        found = bytes(self._memory[start : start + self._struct.size_of(name)])
        return found.rstrip(b"\0") if isinstance(form, str) and form.startswith("S") else found

    def __setitem__(self, name: str, value: Any) -> None:
        form, start = self._struct.formats[name][0], self._struct.offsets[name]
        if form == "u8":
            self._words[start // 8] = value
        elif form == "f8":
            self._floats[start // 8] = value
        else:
            size = self._struct.size_of(name)
            self._memory[start : start + size] = value[:size].ljust(size, b"\0")
