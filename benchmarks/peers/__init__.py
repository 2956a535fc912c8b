"""What the same work is with each of those that are compared: a module for each peer, ours among them.

A peer opens what its calls share (`Peer.open`, once, in the process that begins), and makes its calls in whatever
process does the work (`Peer.calls`, of what `open` gave).
"""

import os
import pkgutil
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from shmetrics.benchmarks.calls import Work
from shmetrics.naming import SHM_DIR

OURS: Final = "shmetrics"

REQUEST: Final = "request"
ERROR: Final = "error"
COUNTER: Final = "counter"
LABELLED: Final = "labelled counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
STAGE: Final = "stage"
IN_FLIGHT: Final = "in flight"
DISABLED: Final = "disabled"
WORKS: Final = {
    REQUEST: "a request: one count and four distributions",
    ERROR: "an error that is counted",
    COUNTER: "a counter with its labels bound",
    LABELLED: "a counter, found by its labels",
    GAUGE: "a gauge that is set",
    HISTOGRAM: "a histogram that observes",
    STAGE: "a block that is timed into a histogram",
    IN_FLIGHT: "a request that is in flight, and no longer",
    DISABLED: "a call that records nothing: a stage outside of a request, a counter without a provider",
}
"""What may be compared: work of one name is the same with each peer that has it."""

MEASUREMENT: Final = (0.0123, 4, 0.001, 0.002)
"""Of one request: inference time, batch size, preprocessing time, quantization time."""
VALUE: Final = MEASUREMENT[0]


@dataclass(frozen=True)
class Peer:
    """One of those that are compared."""

    name: str
    open: Callable[[str], AbstractContextManager[Any]]
    """What its calls share, while the block lasts. Given a directory in memory, which is removed afterwards."""
    calls: Callable[[Any], Mapping[str, Work]]
    """Its work, by names of `WORKS`, for the process that calls this."""
    lacking: Callable[[], str]
    """Which command brings it, or "" where it is there: see `needs`."""
    shared: bool = False
    """Whether its figures lie in memory that other processes read."""
    is_here: bool = True
    """Whether its calls are done by the process that asks for them."""


def needs(module: str, command: str = "pip install 'shmetrics[bench]'") -> Callable[[], str]:
    """`Peer.lacking` of one that is there when a module is."""

    def lacking() -> str:
        try:
            return "" if find_spec(module) is not None else command
        except ModuleNotFoundError:  # not even the package that it is in
            return command

    return lacking


def peers() -> dict[str, Peer]:
    """All of them, by name, ours first. A module of this package has one or more: ``PEERS``."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        for peer in import_module(f"{__name__}.{module.name}").PEERS:
            found[peer.name] = peer
    return dict(sorted(found.items(), key=lambda item: (item[0] != OURS, item[0])))


def missing() -> dict[str, str]:
    """Those that are not installed, each with the command that does it."""
    return {name: command for name, peer in peers().items() if (command := peer.lacking())}


@contextmanager
def opened(peer: Peer) -> Iterator[Any]:
    """`Peer.open` in a directory of its own."""
    with directory() as path, peer.open(path) as state:
        yield state


@contextmanager
def directory() -> Iterator[str]:
    """A directory in memory that lasts as long as a block. It has its name before it exists, and so is not left behind
    by whoever is interrupted while it is made.
    """
    path = f"{SHM_DIR}/shmetrics-bench-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        os.mkdir(path, 0o700)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
