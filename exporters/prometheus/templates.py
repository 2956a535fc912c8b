"""Templates: text that stays from page to page, and places in it for numbers.

C writes the numbers where they belong, without a text of its own for each.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from shmetrics import native
from shmetrics.exporters.prometheus.numbers import MOST_REMEMBERED, REMEMBERED, written

Fill = Callable[[bytes, bytes, str, Sequence[float], bytes | None, dict[float, str], int], bytes]

_INDEX: Final = "q"
"""The type of what C has for an index."""


class Template:
    """Text with places. ``before``: what is before each of them; ``tail``: what is behind the last."""

    def __init__(self, before: Sequence[str], tail: str = "\n") -> None:
        self.before, self.tail = tuple(before), tail
        encoded, places = bytearray(), []
        for piece in before:
            encoded += piece.encode()
            places.append(len(encoded))
        encoded += tail.encode()
        self._format = "%s".join([piece.replace("%", "%%") for piece in (*before, tail)])
        self._text, self._places = bytes(encoded), indices(places)

    def filled(self, numbers: Sequence[float], which: bytes | None, fill: Fill) -> bytes:
        """The text with these numbers in its places, or with those of them whose `indices` are ``which``.

        ``fill``: what `filler` gives, which is asked once for many. ValueError or TypeError unless there are as
        many as places.
        """
        return fill(self._text, self._places, self._format, numbers, which, REMEMBERED, MOST_REMEMBERED)

    def formatted(self, texts: Sequence[str]) -> str:
        """The text with these in its places."""
        return self._format % tuple(texts)


def joined(templates: Iterable[Template]) -> Template:
    """A template of which the text is that of all these, one behind the other."""
    before, tail = list[str](), ""
    for template in templates:
        first, *others = (*template.before, template.tail)
        before += [tail + first, *others]
        tail = before.pop()
    return Template(before, tail)


def indices(numbers: Iterable[int]) -> bytes:
    """Indices as `Template.filled` takes them."""
    return array(_INDEX, numbers).tobytes()


def filler() -> Fill:
    """What fills templates: in C where that is used."""
    return native.instead("filled", _filled)


def _filled(
    _text: bytes,
    _places: bytes,
    form: str,
    numbers: Sequence[float],
    which: bytes | None,
    _remembered: dict[float, str],
    _most: int,
) -> bytes:
    chosen = numbers if which is None else map(numbers.__getitem__, memoryview(which).cast(_INDEX))
    return (form % tuple(written(chosen))).encode()
