"""mpmetrics, the nearest relative: metrics of all processes in one shared memory, with atomics.

Its last release does not import with the prometheus_client that we need (`prometheus_client<0.19`), so it lives in an
environment of its own in the user's cache directory, which `shmetrics bench --install` makes, and a child process of
that environment does its calls.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shmetrics.benchmarks.calls import Work
from shmetrics.benchmarks.peers import (
    COUNTER,
    ERROR,
    GAUGE,
    HISTOGRAM,
    IN_FLIGHT,
    LABELLED,
    MEASUREMENT,
    REQUEST,
    STAGE,
    VALUE,
    Peer,
)
from shmetrics.benchmarks.remote import child

REQUIREMENTS: Final = ("mpmetrics==0.1.0", "prometheus_client<0.19")
_NAMES: Final = ("inference", "batch", "preprocessing", "quantization")
_SETUP: Final = f"""\
import os, tempfile
tempfile.tempdir = {{directory!r}}
from mpmetrics import Counter, Gauge, Histogram
from prometheus_client import CollectorRegistry
registry = CollectorRegistry()
counter = Counter("things", "Things.", registry=registry)
errors = Counter("errors", "Errors.", registry=registry)
labelled = Counter("labelled", "Things.", ["model", "route"], registry=registry)
gauge = Gauge("queue", "Queue.", registry=registry)
histogram = Histogram("latency", "Latency.", registry=registry)
{", ".join(_NAMES)} = [Histogram(name, name, registry=registry) for name in {_NAMES}]
"""
_OBSERVATIONS: Final = "\n".join(f"{name}.observe({value})" for name, value in zip(_NAMES, MEASUREMENT, strict=True))
_CODES: Final = {
    REQUEST: f"counter.inc()\n{_OBSERVATIONS}",
    ERROR: "errors.inc()",
    COUNTER: "counter.inc()",
    LABELLED: "labelled.labels('a', 'b').inc()",
    GAUGE: f"gauge.set({VALUE})",
    HISTOGRAM: f"histogram.observe({VALUE})",
    STAGE: "with histogram.time():\n    pass",
    IN_FLIGHT: "gauge.inc()\ngauge.dec()",
}


def environment() -> Path:
    """Where it lives, for this version of Python."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache) / "shmetrics" / "bench" / f"mpmetrics-{sys.version_info[0]}.{sys.version_info[1]}"


def _python() -> Path:
    return environment() / "bin" / "python"


def _lacking() -> str:
    there = (environment() / "installed").exists() and _python().exists()  # not where its Python has been removed
    return "" if there else "shmetrics bench --install"


def install() -> None:
    """Make the environment, unless it is there; subprocess.CalledProcessError where pip cannot."""
    if not _lacking():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment())], check=True)
    command = [str(_python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
    subprocess.run(command, check=True)
    (environment() / "installed").touch()


@contextmanager
def _open(directory: str) -> Iterator[Mapping[str, Work]]:
    with child(str(_python()), _SETUP.format(directory=directory), _CODES) as works:
        yield works


def _calls(works: Mapping[str, Work]) -> Mapping[str, Work]:
    return works


PEERS = (Peer("mpmetrics", _open, _calls, _lacking, shared=True, is_here=False),)
