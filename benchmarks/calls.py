"""A call as it is timed: a line of code in a loop of its own, as `timeit` has it, so that nothing else is in it."""

import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

_LOOPS: Final = """\
def made({names}):
    def many(_calls):
        _begun = _processor()
        for _ in range(_calls):
{code}
        return _processor() - _begun
    def each(_calls):
        _times = []
        _keep = _times.append
        for _ in range(_calls):
            _begun = _clock()
{code}
            _keep(_clock() - _begun)
        return _times
    return many, each
"""


class Work(Protocol):
    """Something that can be done many times; a peer with a process of its own does it there, and times it there."""

    def many(self, calls: int) -> float:
        """The seconds of processor time that so many calls take, one after the other; what others had is not in it."""

    def each(self, calls: int) -> Sequence[float]:
        """The seconds that pass in each of so many calls; what the clock takes is in them."""


class Call:
    """``code``, which uses ``names``: ``Call("counter.inc()", counter=counter)``."""

    def __init__(self, code: str, **names: object) -> None:
        self.code = code
        source = _LOOPS.format(names=", ".join(names), code=textwrap.indent(code, 12 * " "))
        module: dict[str, Any] = {"_clock": time.perf_counter, "_processor": time.thread_time}
        exec(compile(source, f"<{code}>", "exec"), module)
        loops: tuple[Callable[[int], float], Callable[[int], list[float]]] = module["made"](**names)
        self.many, self.each = loops
