"""Reading a table of a rules file: every key checked, every problem told with its line and what to write. Pure."""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shmetrics.alerting.locate import Address, line_of
from shmetrics.alerting.wording import parse_span

_KINDS: Final = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list",
                 dict: "a table"}  # fmt: skip
_ABSENT: Final = object()


@dataclass
class Page:
    """A rules file while it is read: where its lines are, and what is wrong with it."""

    path: str
    lines: dict[Address, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)

    def complain(self, address: Address, text: str) -> None:
        """Note a problem at a key or table."""
        self.problems.append((line_of(self.lines, address), text))

    def report(self) -> list[str]:
        """Every problem as ``file:line: what``, by line."""
        return [f"{self.path}:{line}: {text}" for line, text in sorted(self.problems)]


class Fields:
    """One table. Each method takes a key and returns its value, or the default where it is absent or wrong.

    `finish` complains of the keys that nobody took. ``what``: how messages call the table.
    """

    def __init__(self, page: Page, address: Address, table: Mapping[str, Any], what: str) -> None:
        self.page = page
        self.address = address
        self.what = what
        self._table = table
        self._known: dict[str, None] = {}
        self._problems = len(page.problems)

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong so far."""
        return len(self.page.problems) == self._problems

    def has(self, key: str) -> bool:
        """Whether the key is given."""
        self._known[key] = None
        return key in self._table

    def complain(self, key: str, text: str) -> None:
        """Note what is wrong with a key."""
        self.page.complain((*self.address, key), f"{self.what}: {text}")

    def _take(self, key: str) -> Any:
        self._known[key] = None
        return self._table.get(key, _ABSENT)

    def _wrong(self, key: str, wanted: str, found: Any) -> None:
        kind = _KINDS.get(type(found), type(found).__name__)
        self.complain(key, f"`{key}` must be {wanted}, not {kind} ({_short(found)})")

    def text(self, key: str, default: str | None = None, *, required: bool = False) -> str | None:
        """A text that is not empty."""
        value = self._take(key)
        if value is _ABSENT:
            if required:
                self.complain(key, f"`{key}` is missing")
            return default
        if not isinstance(value, str) or not value.strip():
            self._wrong(key, "a text", value)
            return default
        return value

    def number(
        self, key: str, default: float | None = None, *, low: float = -math.inf, high: float = math.inf
    ) -> float | None:
        """A finite number in a range."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        found = _finite(value)
        if found is None:
            self._wrong(key, "a number", value)
            return default
        if not low <= found <= high:
            wanted = f"from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
            self.complain(key, f"`{key}` must be {wanted}, not {found:g}")
            return default
        return found

    def whole(self, key: str, default: int | None = None, *, low: int = 0, high: int = 1_000_000) -> int | None:
        """A whole number in a range."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self._wrong(key, f"a whole number from {low} to {high:,}", value)
            return default
        return value

    def seconds(self, key: str, default: float | None = None, *, low: float = 0.0) -> float | None:
        """A duration: ``"5m"``, ``"1h30m"``, or a number of seconds."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        found = duration(value)
        if found is None or not low <= found < 1e9:
            least = "" if low == 0.0 else f", {low:g} s or more"
            self._wrong(key, f'a duration such as "90s", "5m" or "1h30m"{least}', value)
            return default
        return found

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str | None:
        """One of some texts."""
        value = self.text(key, default)
        if value is not None and value != default and value not in options:
            self.complain(key, f"`{key}` must be one of {', '.join(options)}, not {value!r}{meant(value, options)}")
            return default
        return value

    def texts(self, key: str, options: Sequence[str] = ()) -> tuple[str, ...]:
        """A list of texts; of some options where there are any."""
        value = self._take(key)
        if value is _ABSENT:
            return ()
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self._wrong(key, f'a list of texts such as ["{options[0] if options else "a"}"]', value)
            return ()
        for each in value:
            if options and each not in options:
                self.complain(key, f"`{key}` may have {', '.join(options)}, not {each!r}{meant(each, options)}")
        return tuple(value)

    def table(self, key: str) -> dict[str, str]:
        """A table of texts: ``{ team = "vision" }``."""
        value = self._take(key)
        if value is _ABSENT:
            return {}
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            self._wrong(key, 'a table of texts such as { team = "vision" }', value)
            return {}
        return dict(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key)
        if value is _ABSENT:
            return default
        if not isinstance(value, bool):
            self._wrong(key, "true or false", value)
            return default
        return value

    def raw(self, key: str) -> Any:
        """Whatever it is; None where it is absent."""
        value = self._take(key)
        return None if value is _ABSENT else value

    def finish(self) -> bool:
        """Complain of keys that nobody knows; whether the whole table is good."""
        for key in self._table:
            if key not in self._known:
                near = meant(key, tuple(self._known), code=True)
                self.complain(key, f"there is no key `{key}`{near or '; there are ' + ', '.join(self._known)}")
        return self.is_good


def meant(found: str, options: Sequence[str], *, code: bool = False) -> str:
    """``; did you mean ...?``, or nothing where nothing is near."""
    near = difflib.get_close_matches(found, options, 1, 0.6) or [
        option for option in options if len(found) > 2 and re.sub(r"\W", "", found).lower() == option.lower()
    ]
    if not near:
        return ""
    return f"; did you mean `{near[0]}`?" if code else f"; did you mean {near[0]!r}?"


def duration(value: Any) -> float | None:
    """Seconds of ``"5m"``, ``"1h30m"``, or a number; None for what is no duration."""
    return parse_span(value) if isinstance(value, str) else _finite(value)


def _finite(value: Any) -> float | None:
    """A number of TOML; None for what is none, or too large to calculate with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
