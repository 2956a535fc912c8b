"""Names and numbers on a page: which names are legal, and which are taken. One bad name must not cost the page."""

from collections.abc import Iterable, Set
from functools import lru_cache
from typing import Final

from prometheus_client import utils
from prometheus_client.core import Metric

from shmetrics.families import Definition

_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}
"""What each type appends to a family's name on a page (prometheus_client's registry has the same list)."""


def check_prefix(prefix: str) -> str:
    """`prefix`, or ValueError when no name can begin with it."""
    if prefix:
        Definition(prefix, "counter")
    return prefix


def writable(text: str) -> str:
    """`text` as it can be encoded: what is no character of UTF-8, such as half a surrogate pair, becomes ``?``."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def go_float(number: float) -> str:
    """A number as Prometheus writes those that are labels."""
    text: str = utils.floatToGoString(number)  # type: ignore[no-untyped-call]
    return text


class Names:
    """The names on one page. Not for two threads at once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, family: Metric) -> bool:
        """Take all names of a family; False, and none is taken, when one is already."""
        return self.take_all(_names(family.name, family.type))

    def take_all(self, names: Set[str] | None) -> bool:
        """Take all of these, as `names_of` several families gives them; False, and none is taken, when one is."""
        if names is None or not self._taken.isdisjoint(names):
            return False
        self._taken |= names
        return True


def names_of(families: Iterable[tuple[str, str]]) -> frozenset[str] | None:
    """Every name that families of these names and types have on a page; None where two of them want the same."""
    each = [_names(name, kind) for name, kind in families]
    every = frozenset[str]().union(*each)
    return every if len(every) == sum(map(len, each)) else None


@lru_cache(4096)
def _names(name: str, kind: str) -> frozenset[str]:
    """Every name that a family of this name and type has on a page."""
    return frozenset((name, *(name + suffix for suffix in _SUFFIXES.get(kind, ()))))
