"""Work of a known split, 60/30/10, in functions of a known name; half of it in Python, half in an extension."""

import hashlib
import mmap
import time

PARTS = {"features": 6, "infer": 3, "encode": 1}
"""Units of each; the names of the functions below."""
_BLOCK = b"x" * 20_000  # hashing more than 2 KB releases the interpreter's lock


def features(unit):
    _compute(6 * unit)


def infer(unit):
    _hash(3 * unit)


def encode(unit):
    _compute(unit)


def work(unit=0.002, account=None):
    """One request: so much processor time for each part.

    ``account``: three numbers, to which the seconds are added that each part took. On a machine whose processors are
    taken by others, time passes differently from what was asked for, and that is what a sampler is to find.
    """
    for at, part in enumerate((features, infer, encode)):
        begun = time.perf_counter()
        part(unit)
        if account is not None:
            account[at] += time.perf_counter() - begun


def shared_account(path=None):
    """An account in memory that forked children share, or that of a file. For one that works."""
    if path is None:
        return memoryview(mmap.mmap(-1, 24)).cast("d")
    with open(path, "w+b") as file:
        file.truncate(24)
        return memoryview(mmap.mmap(file.fileno(), 24)).cast("d")


def _compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(100))


def _hash(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        hashlib.sha256(_BLOCK).digest()


def shares(profile):
    """Of the samples that are in one of the parts, those of each; by the names of the functions."""
    total = profile.total()
    found = {part: sum(n for name, n in total.items() if name.endswith(f":{part}")) for part in PARTS}
    return {part: samples / sum(found.values()) for part, samples in found.items()}


def assert_split(profile, accounts=(), points=5):
    """Each part has its share, to within so many points: that of the accounts, where there are any."""
    true = [sum(parts) for parts in zip(*accounts, strict=True)] or list(PARTS.values())
    found = shares(profile)
    for share, seconds in zip(found.values(), true, strict=True):
        assert abs(100 * share - 100 * seconds / sum(true)) <= points, (found, true, profile.samples)
