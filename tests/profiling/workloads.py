"""Work of a known split, 60/30/10, in functions of a known name; half of it in Python, half in an extension."""

import hashlib
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


def work(unit=0.002):
    """One request: of processor time, so that whoever else computes on this machine does not change the split."""
    features(unit)
    infer(unit)
    encode(unit)


def work_until(enough, unit=0.002):
    """Work until ``enough()``."""
    while not enough():
        work(unit)


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


def assert_split(profile, points=5):
    """Each part has its share, to within so many points."""
    found = shares(profile)
    for part, units in PARTS.items():
        assert abs(100 * found[part] - 10 * units) <= points, found
