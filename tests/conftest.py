"""Fixtures: names of one test alone, clean-up, and that every test leaves /dev/shm and signal handlers as they were."""

import itertools
import os
import re
import signal

import pytest

from shmetrics import naming, native, segment
from shmetrics.errors import ShmetricsError
from shmetrics.layout import Layout
from shmetrics.measurement import current

_count = itertools.count()
_PID = re.compile(r"\b(?:private|gunicorn|demo|fence|run-[a-z0-9_-]{1,24}?|t)[-.](\d+)")


def _entries() -> set[str]:
    return {file for file in os.listdir(naming.SHM_DIR) if "shmetrics." in file}


def _is_ours(file: str) -> bool:
    """Whether a file in /dev/shm is of this test process, or of a process that is gone. Other tests run beside us."""
    match = _PID.search(file)
    if match is None:
        return False
    pid = int(match[1])
    return pid == os.getpid() or not os.path.exists(f"/proc/{pid}")


@pytest.fixture(autouse=True)
def _shm_as_found(monkeypatch):
    """Fail a test that leaves a segment or a semaphore behind."""
    monkeypatch.delenv("SHMETRICS_HUB", raising=False)
    before = _entries()
    yield
    left = sorted(file for file in _entries() - before if _is_ours(file))
    for file in left:
        os.unlink(f"{naming.SHM_DIR}/{file}")
    assert not left, f"left behind in {naming.SHM_DIR}: {left}"


def _dispositions():
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


@pytest.fixture(autouse=True)
def _signals_as_found():
    """Fail a test that leaves a signal handler behind: processes forked by later tests would inherit it."""
    before = _dispositions()
    yield
    changed = {number: after for number, after in _dispositions().items() if after is not before[number]}
    for number in changed:
        signal.signal(number, before[number])
    assert not changed, f"signal handlers left behind: {changed}"


@pytest.fixture(autouse=True)
def _spans_as_found():
    """A request that a test begins and never ends is innermost in its thread, and the next test is in none."""
    before = current.get()
    yield
    current.set(before)


@pytest.fixture
def hub_name():
    """A hub name of this test alone; the hub is removed afterwards if the test made one."""
    name = f"t-{os.getpid()}-{next(_count)}"
    yield name
    try:
        target = segment.attach(name)
    except ShmetricsError:
        return
    segment.unlink(name, target.instance)
    target.close()


@pytest.fixture
def make_segment(hub_name):
    """A function that makes this test's segment with the dimensions given."""

    def make(**dims):
        return segment.create(hub_name, Layout(**{"max_workers": 4, "max_series": 16, **dims}))

    return make


@pytest.fixture(params=["Python", *["C"] * native.IS_BUILT])
def written_in(request, monkeypatch):
    """Runs a test twice: what it makes writes in Python, and in C where that could be compiled."""
    monkeypatch.setenv(native.VARIABLE, "1" if request.param == "C" else "0")
    return request.param


class FakeClock:
    """A clock that moves when told to, and a sleep that moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock():
    """A clock under the test's control."""
    return FakeClock()
