"""The native writes: those on the path of a request in C (`in_c/`), put before those in Python.

A class here is one of Python's with C's methods put before its own. Each of these does its whole write, or nothing of
it and calls Python's, which is found under another name; they work on the same attributes, so there is one protocol, in
`writer`, `completion`, `board` and `instruments`, and one state. Nothing else of this package knows which one writes.

Where there was no compiler when this package was installed, in interpreters without the GIL, and where
``SHMETRICS_NATIVE=0`` says so, Python writes alone: slower by a few times, and the same in every other respect.
"""

from contextvars import ContextVar
from functools import cache
from types import MethodDescriptorType
from typing import Any, Final, TypeVar, cast

from shmetrics import folded, instruments, measurement, settings, sketch, slots
from shmetrics.board import BUSY_WORD, Board
from shmetrics.completion import RequestWriter
from shmetrics.folding import Folding
from shmetrics.instruments import Instrument
from shmetrics.layout import FOLDED, SECONDS

try:
    from shmetrics import _native
except ImportError:  # nobody could compile it
    _native = None  # type: ignore[assignment]
else:
    _native.use_layout(
        head=slots.HEAD,
        errors=slots.ERRORS,
        cache_hits=slots.CACHE_HITS,
        cache_misses=slots.CACHE_MISSES,
        busy=BUSY_WORD,
    )
    _native.use_context(measurement.current)
    _native.use_fold(
        **{name: at for name, at in folded.AT.items() if name != "invalid"},
        seconds=SECONDS,
        buckets=sketch.SIZE,
        end=FOLDED.itemsize // 8,
        surely_valid=int(folded.SURELY_VALID),
        latest=folded.LATEST,
        shift=sketch.CELL_SHIFT,
        lowest=sketch.LOWEST.data,
        upper=sketch.UPPER.data,
    )

VARIABLE: Final = "SHMETRICS_NATIVE"
"""Environment variable that has Python write alone, where it says no."""

IS_BUILT: Final = _native is not None
"""Whether there are any here."""

_Class = TypeVar("_Class")


def is_used() -> bool:
    """Whether what is made from now on writes in C. ValueError where the environment says neither yes nor no."""
    return settings.switch(VARIABLE) is not False and IS_BUILT


def writer_class() -> type[RequestWriter]:
    """What writes requests."""
    board, folding = in_front("Board", Board), in_front("Folding", Folding)
    return in_front("Writer", RequestWriter, board_class=board, folding_class=folding)


def instrument_class(kind: str) -> type[Instrument]:
    """What changes a series of a kind."""
    python = instruments.KINDS[kind]
    return in_front(python.__name__, python)


def use_calls(*, variable: ContextVar[Any], call: type, nested: type, most_spent: int) -> None:
    """Tell C what calls of profiled functions are, which are no part of the core. For `profiling.functions`."""
    if IS_BUILT:
        _native.use_calls(variable=variable, call=call, nested=nested, most_spent=most_spent)


def in_front(name: str, python: type[_Class], **attributes: object) -> type[_Class]:
    """A class of Python's, with the methods of C's of that name before its own where C is used."""
    return _in_front(name, cast("Any", python), *attributes.items()) if is_used() else python


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
