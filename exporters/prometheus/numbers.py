"""Numbers as Prometheus reads them: Python's shortest texts, with Go's exponents where they are large."""

from collections.abc import Iterable
from typing import Final

from shmetrics import native
from shmetrics.exporters.prometheus.names import go_float

_LARGE: Final = 1e6
"""From here on a number is written with an exponent, where it is no sooner in Python."""
MOST_REMEMBERED: Final = 1 << 14
_MANY: Final = 16
"""Numbers that are worth a look at whether C is used."""


def written(numbers: Iterable[float]) -> list[str]:
    """Numbers as both formats have them."""
    numbers = list(numbers)
    if len(numbers) >= _MANY and native.is_used():
        return native.written(numbers, REMEMBERED, MOST_REMEMBERED)
    return [REMEMBERED[each] if each else repr(float(each)) for each in numbers]


class _Written(dict[float, str]):
    """Numbers as they are written: most are on a page several times, or on the next one again.

    Not for 0.0 and -0.0, which are equal. What else is equal is written alike, whatever its type.
    """

    def __missing__(self, number: float) -> str:
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        value = float(number)
        self[number] = text = repr(value) if -_LARGE < value < _LARGE else go_float(value)
        return text


REMEMBERED: Final = _Written()
