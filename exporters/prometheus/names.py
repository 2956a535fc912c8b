"""Names on a page: which are legal, and which are taken. One bad name must not cost the page."""

import re
from typing import Final

from prometheus_client.core import Metric

_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_SUFFIXES: Final = {
    "counter": ("_total", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "gaugehistogram": ("_bucket", "_gsum", "_gcount"),
    "info": ("_info",),
}
"""What each type appends to a family's name on a page (prometheus_client's registry has the same list)."""


def is_metric_name(name: str) -> bool:
    """Whether every Prometheus ever can read it; prometheus_client itself now takes all of UTF-8."""
    return _METRIC.fullmatch(name) is not None


def is_label_name(name: str) -> bool:
    """Whether it can be a label's name; two underscores in front are Prometheus' own."""
    return _LABEL.fullmatch(name) is not None


def check_prefix(prefix: str) -> str:
    """`prefix`, or ValueError when no name can begin with it."""
    if prefix and not is_metric_name(prefix):
        raise ValueError(f"prefix must be letters, digits, _ and :, and not begin with a digit, not {prefix!r}")
    return prefix


def writable(text: str) -> str:
    """`text` as it can be encoded: what is no character of UTF-8, such as half a surrogate pair, becomes ``?``."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class Names:
    """The names on one page. Not for two threads at once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, family: Metric) -> bool:
        """Take all names of a family; False, and none is taken, when one is already."""
        wanted = {family.name, *(family.name + suffix for suffix in _SUFFIXES.get(family.type, ()))}
        if wanted & self._taken:
            return False
        self._taken |= wanted
        return True
