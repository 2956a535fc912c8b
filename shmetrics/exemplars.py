"""Exemplars: for some values, which request they were of; the slowest recent one of each bucket.

A few places in each slot; where series and buckets are more, the one that was not seen for longest gives way. Each is
guarded by a version that is odd while it is written (a seqlock): a reader that finds another version after its copy
than before, or an odd one, leaves the place out. The owner alone writes, and never waits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from shmetrics.arrays import np
from shmetrics.families import Exemplar, is_label_name
from shmetrics.layout import EXEMPLAR, EXEMPLARS, offset_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

RECENT: Final = 60.0
"""Seconds after which any value displaces an exemplar, not only a greater one."""
MOST_CHARACTERS: Final = 128
"""Of all names and values together: what OpenMetrics allows."""
INFERENCE_TIME: Final = 0
"""In place of a series: the serial number of none."""

_SIZE: Final = EXEMPLAR.itemsize
_WORDS: Final = _SIZE // 8
_VERSION, _SERIES, _BUCKET, _VALUE, _TIME, _LENGTH = (
    offset_of(EXEMPLAR, name) // 8 for name in ("version", "series", "bucket", "value", "time", "length")
)
_LABELS: Final = offset_of(EXEMPLAR, "labels")


def octave(value: float) -> int:
    """The bucket of a built-in measure: a factor of two. Any float will do."""
    return math.frexp(value)[1] + 1100 if math.isfinite(value) else 0


def checked(labels: Mapping[str, object]) -> bytes:
    """What is kept of an exemplar's labels; ValueError for what no page could show."""
    texts = {name: str(value) for name, value in labels.items()}
    for name in texts:
        if not is_label_name(name):
            raise ValueError(f"{name!r} cannot be a label of an exemplar: wanted letters, digits and _, no digit first")
    if sum(len(name) + len(value) for name, value in texts.items()) > MOST_CHARACTERS:
        raise ValueError(f"an exemplar's labels must not be longer than {MOST_CHARACTERS} characters: {texts!r}")
    return json.dumps(texts, separators=(",", ":")).encode()


class Exemplars:
    """One process's exemplars. Its caller has the write token. ``clock``: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._places: dict[tuple[int, int], int] = {}
        """Where those of a series and bucket are, the one that was not seen for longest first. Only a hint: a signal
        handler's exception may leave two with one place, which then displace each other."""

    def use(self, memory: memoryview) -> None:
        """Keep them in these bytes from now on."""
        self._bytes = memory[: EXEMPLARS * _SIZE]
        self._words, self._floats = self._bytes.cast("Q"), self._bytes.cast("d")

    def keep(self, series: int, bucket: int, value: float, labels: bytes) -> None:
        """Keep this exemplar, unless there is a recent greater one of its bucket. Too long ones are not kept."""
        if len(labels) > _SIZE - _LABELS:
            return
        place = self._place_of((series, bucket))
        words, floats, start = self._words, self._floats, place * _WORDS
        now = self._clock()
        same = words[start + _SERIES] == series and words[start + _BUCKET] == bucket
        recent = now - RECENT < floats[start + _TIME] <= now and words[start + _VERSION]
        if same and recent and floats[start + _VALUE] > value:
            return
        version = words[start + _VERSION] | 1
        words[start + _VERSION] = version
        words[start + _SERIES] = series
        words[start + _BUCKET] = bucket
        floats[start + _VALUE] = value
        floats[start + _TIME] = now
        words[start + _LENGTH] = len(labels)
        at = place * _SIZE + _LABELS
        self._bytes[at : at + len(labels)] = labels
        words[start + _VERSION] = (version + 1) % 2**64

    def _place_of(self, key: tuple[int, int]) -> int:
        places = self._places
        place = places.pop(key, None)
        if place is None:
            place = len(places) if len(places) < EXEMPLARS else places.pop(next(iter(places)))
        places[key] = place
        return place


def read(raw: NDArray[np.uint8], fence: Callable[[], None]) -> tuple[Exemplar, ...]:
    """The exemplars in a slot's bytes, shared memory; those that are being written, or cannot be, are left out."""
    versions = raw.view(np.uint64)[::_WORDS]
    before = versions.copy()
    if not before.any():
        return ()
    fence()
    copy = raw.copy().view(EXEMPLAR)
    fence()
    steady = (before == versions) & (before % 2 == 0) & (before > 0)
    return tuple(exemplar for entry in copy[steady] if (exemplar := _exemplar(entry)) is not None)


def _exemplar(entry: Any) -> Exemplar | None:
    """An exemplar from bytes that anybody may have written; None for what is none."""
    value, at, length = float(entry["value"]), float(entry["time"]), int(entry["length"])
    if not (math.isfinite(value) and 0.0 < at < 2.0**40 and length <= _SIZE - _LABELS):
        return None
    try:
        labels = json.loads(entry["labels"].tobytes()[:length])
        checked(labels)
        json.dumps(labels, ensure_ascii=False).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if not all(isinstance(text, str) for text in labels.values()):
        return None
    return Exemplar(int(entry["series"]), int(entry["bucket"]), value, at, labels)


def slowest(found: list[Exemplar], now: float) -> dict[tuple[int, int], Exemplar]:
    """By series and bucket: of several workers' exemplars the greatest recent one, else the newest."""
    best: dict[tuple[int, int], Exemplar] = {}
    for exemplar in found:
        key = (exemplar.series, exemplar.bucket)
        known = best.get(key)
        if known is None or _rank(exemplar, now) > _rank(known, now):
            best[key] = exemplar
    return best


def _rank(exemplar: Exemplar, now: float) -> tuple[bool, float]:
    recent = exemplar.time > now - RECENT
    return recent, exemplar.value if recent else exemplar.time
