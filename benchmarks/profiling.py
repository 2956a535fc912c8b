"""What profiling a function costs beside calling it, in one interleaved run.

    python -m benchmarks.profiling [--rounds 200] [--json]

What a call takes more than a bare one are the figures, in microseconds of this machine and minute; the ratio to one
`update_inference` is what holds elsewhere too. Rounds are many and short, so that some have the processor for
themselves: where others want it, the best rounds tell more than the medians.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress

from shmetrics import PerformanceMetrics
from shmetrics.benchmarks.timing import Timing, interleaved
from shmetrics.profiling.profiler import Profiler

BASE = "update_inference"


def _bare(x: int) -> int:
    return x


def _values(x: int) -> Iterator[int]:
    yield x


def _endless() -> Iterator[int]:
    while True:
        yield 1


async def _answer(x: int) -> int:
    return x


def _run(made: Callable[[int], Coroutine[None, None, int]]) -> Callable[[], None]:
    """Run a coroutine to its end without an event loop, which would cost more than all that is measured here."""

    def run() -> None:
        with suppress(StopIteration):
            made(1).send(None)

    return run


def candidates(metrics: PerformanceMetrics) -> dict[str, Callable[[], object]]:
    """Everything that is timed."""
    profiler = Profiler(metrics)
    profiled = profiler.profile_function(_bare)
    looked = profiler.profile_function(name="looked", breakdown="cprofile")(_bare)
    values, answer = profiler.profile_function(_values), profiler.profile_function(_answer)
    bare_step, step = _endless().__next__, profiler.profile_function(_endless)().__next__

    @profiler.profile_function
    def outer(x: int) -> int:
        return profiled(x)

    @profiler.profile_function
    def staged(x: int) -> int:
        with profiler.stage("stage"):
            return x

    class Model:
        def bare(self, x: int) -> int:
            return x

        @profiler.profile_function
        def predict(self, x: int) -> int:
            return x

    model = Model()
    return {
        BASE: lambda: metrics.update_inference(0.0123, 4, 0.001, 0.002),
        "bare function": lambda: _bare(1),
        "profiled function": lambda: profiled(1),
        "bare method": lambda: model.bare(1),
        "profiled method": lambda: model.predict(1),
        "profiled, either of two nested calls": lambda: outer(1),
        "profiled, with a stage": lambda: staged(1),
        "profiled, cProfile on 1 % of calls": lambda: looked(1),
        "bare coroutine": _run(_answer),
        "profiled coroutine": _run(answer),
        "bare step": bare_step,
        "step of a profiled generator": step,
        "bare generator": lambda: list(_values(1)),
        "profiled generator of one value": lambda: list(values(1)),
    }


def watched(metrics: PerformanceMetrics) -> dict[str, Callable[[], object]]:
    """With the sampler, which goes on for a moment, and would be in all other figures."""
    looked = Profiler(metrics).profile_function(name="watched", breakdown="sampling")(_bare)
    return {"bare function": lambda: _bare(1), "profiled, watched by the sampler": lambda: looked(1)}


_BARE_OF = {
    "profiled function": "bare function",
    "profiled method": "bare method",
    "profiled, either of two nested calls": "bare function",
    "profiled, with a stage": "bare function",
    "profiled, cProfile on 1 % of calls": "bare function",
    "profiled, watched by the sampler": "bare function",
    "profiled coroutine": "bare coroutine",
    "step of a profiled generator": "bare step",
    "profiled generator of one value": "bare generator",
}
_CALLS = {"profiled, either of two nested calls": 2}
"""Profiled calls in one, where there is more than one."""


def added(found: dict[str, Timing], name: str) -> tuple[float, float]:
    """Microseconds that a profiled call takes more than a bare one: the medians, and the best rounds."""
    bare, calls = found[_BARE_OF[name]], _CALLS.get(name, 1)
    return (found[name].median - bare.median) / calls, (found[name].low - bare.low) / calls


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--calls", type=int, default=500, help="calls per round and candidate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with PerformanceMetrics(window_size=1000) as metrics:
        found = interleaved(candidates(metrics), options.calls, options.rounds)
        found = {**interleaved(watched(metrics), options.calls, options.rounds), **found}
    if options.json:
        rows = {
            name: {**vars(found[name]), **dict(zip(("added", "added_low"), added(found, name), strict=True))}
            for name in _BARE_OF
        }
        print(json.dumps({"python": platform.python_version(), "cpus": os.cpu_count(), "microseconds": rows}, indent=2))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs")
    print(
        f"{options.rounds} interleaved rounds of {options.calls} calls; us per call, and added to a bare one: medians,"
    )
    print(f"best rounds, and these times {BASE}")
    print(f"{BASE:40}{found[BASE].median:9.3f}{'':9}{found[BASE].low:9.3f}")
    for name in _BARE_OF:
        median, low = added(found, name)
        print(f"  {name:38}{found[name].median:9.3f}{median:9.3f}{low:9.3f}{low / found[BASE].low:9.1f}")


if __name__ == "__main__":
    main()
