"""The module in C (`in_c/`), where it could be compiled: the path of a request, and what reads compute.

A class of C's is put before one of Python's (`in_front`). Each method of it does its whole work, or nothing of it and
calls Python's, which it finds under another name; both work on the same attributes, so there is one protocol, in the
modules of Python, and one state. These modules tell C what it has to know of them (`tell`), and nobody else knows. A
single function of Python's has one of C's ahead of it in the same way (`ahead`), or in its place (`instead`). What is
arithmetic on arrays are functions, which those modules that would call numpy call where `is_used`.

Where there was no compiler when this package was installed, in interpreters without the GIL, and where
``SHMETRICS_NATIVE=0`` says so, Python works alone: slower by a few times, and the same in every other respect.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import MethodDescriptorType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from shmetrics import settings

try:
    from shmetrics import _native
except ImportError:  # nobody could compile it
    _native = None  # type: ignore[assignment]

VARIABLE: Final = "SHMETRICS_NATIVE"
"""Environment variable that has Python work alone, where it says no."""

IS_BUILT: Final = _native is not None
"""Whether there is one here."""

_Class = TypeVar("_Class")
_Callable = TypeVar("_Callable", bound=Callable[..., Any])


def is_used() -> bool:
    """Whether it is used from now on. ValueError where the environment says neither yes nor no.

    A variable that is empty says nothing, as files of environments have it.
    """
    setting = settings.switch(VARIABLE) if os.environ.get(VARIABLE) else None
    return setting is not False and IS_BUILT


def tell(function: str, *args: object, **facts: object) -> None:
    """Call a function of C's that takes facts about a module: once, when the module is imported."""
    if IS_BUILT:
        with _of_this_version():
            getattr(_native, function)(*args, **facts)


@contextmanager
def _of_this_version() -> Iterator[None]:
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise ImportError(
            f"the compiled part of shmetrics ({_native.__file__}) is of another version ({error}); install it "
            f"again: pip install --force-reinstall --no-deps shmetrics, or -e . where it was installed so"
        ) from error


if IS_BUILT and not TYPE_CHECKING:
    with _of_this_version():
        Middleware = _native.Middleware
else:

    class Middleware:
        """What the middlewares' classes are next to: where there is one, a class of C's that has two attributes."""

        _app: Any
        _ahead: Any


def add_tails(areas: Any, tails: list[Any]) -> list[int]:
    """Add to each area its records; the indices of those to which nothing was added. Only where `is_used`."""
    return _native.add_tails(areas, tails)


def doubtful(areas: Any, folded_records: list[int], now: float) -> list[int]:
    """The indices of those areas that may have a flaw: see `folded.flaws`. Only where `is_used`."""
    return _native.doubtful(areas, folded_records, now)


def add_areas(merged: Any, areas: Any, which: list[int]) -> None:
    """Add those of these areas to an empty one: see `folded.merge`. Only where `is_used`."""
    _native.add_areas(merged, areas, which)


def merge_cells(merged: Any, rows: list[Any], live: list[bool], now: float, *plan: Any) -> None:
    """Merge rows of cells into one that is 0: see `cells.Plan.merge`. Only where `is_used`."""
    _native.merge_cells(merged, rows, live, now, *plan)


def fill_measures(table: Any, parts: list[Any]) -> int | None:
    """Fill a table with measures: the largest bits of one, or None where Python has to. Only where `is_used`."""
    return _native.fill_measures(table, parts)


def moments(values: Any) -> tuple[float, float, float, float]:
    """Mean, standard deviation, least and largest of contiguous valid numbers, one at least. Only where `is_used`."""
    return _native.moments(values)


def recent_rates(areas: list[Any], lifetimes: list[float], now: float) -> list[tuple[float, float, float]]:
    """Of each area of a worker so many seconds old the `statistics.RecentRates`. Only where `is_used`."""
    return _native.recent_rates(areas, lifetimes, now)


def unpack(packed: Any, area: Any) -> None:
    """Make a packed area a whole one, which is 0 before: see `folded.unpacked`. Only where `is_used`."""
    _native.unpack(packed, area)


def bring(
    slots: list[int], place: tuple[int, ...], clock: Any, descriptor: int, types: tuple[Any, ...], *memory: Any
) -> list[Any]:
    """Bring slots of a segment home: see `copies`. Only where `is_used`.

    ``memory``: the segment's; what is filled with boards and cells; and a total or None.
    """
    return _native.bring(slots, place, clock, descriptor, types, *memory)


def at_ranks(rows: Any, count: int, ranks: list[int]) -> bytearray:
    """What `percentiles` wants of contiguous rows of so many numbers, as float64s. Only where `is_used`."""
    return _native.at_ranks(rows, count, ranks)


def written(numbers: list[float], remembered: dict[float, str], most: int) -> list[str]:
    """Numbers as `exporters.prometheus.forms` has them, and remembers `most` of them at most. Only where `is_used`."""
    return _native.written(numbers, remembered, most)


def in_front(name: str, python: type[_Class], **attributes: object) -> type[_Class]:
    """A class of Python's, with the methods of C's of that name before its own where C is used."""
    return _in_front(name, cast("Any", python), *attributes.items()) if is_used() else python


def instead(name: str, python: _Callable) -> _Callable:
    """What is called as Python's is: that of C's of that name where C is used."""
    return cast("_Callable", getattr(_native, name)) if is_used() else python


def ahead(name: str, python: _Callable, *facts: object) -> _Callable:
    """What is called as a function of Python's is: where C is used, what C has of that name, which knows these facts.

    It does an ordinary call, and leaves any other to the function.
    """
    return cast("_Callable", getattr(_native, name)(python, *facts)) if is_used() else python


@cache
def _in_front(name: str, python: type, *attributes: tuple[str, object]) -> Any:
    """The same for good. C finds the methods of Python as ``_<name>_slowly``."""
    native = getattr(_native, name, _native.Instrument)
    slowly = {
        f"_{name.strip('_')}_slowly": getattr(python, name)
        for each in native.__mro__
        for name, method in vars(each).items()
        if isinstance(method, MethodDescriptorType) and not name.startswith("__")
    }
    described = {"__doc__": python.__doc__, "__module__": python.__module__}
    return type(python.__name__, (native, python), {**described, **slowly, **dict(attributes)})
