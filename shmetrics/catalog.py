"""The catalog: which custom metrics and series a hub has, seen by all processes and changed by any, under REGISTRY.

An entry is whole before its serial number is stored, and gone when that is 0 again, so a process may be killed anywhere
in a change. Serial numbers are never given twice: whoever remembers one can tell by one load whether its series is
still the one it was, and cells that carry another number are leftovers of a series that was removed.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from shmetrics import entries
from shmetrics.entries import Contents, Placement
from shmetrics.families import OVERFLOW, Definition
from shmetrics.forks import ForkedError
from shmetrics.layout import BLOCK, Layout, offset_of
from shmetrics.locks import REGISTRY, ByteLock, RegistryBusyError
from shmetrics.segment import Segment

BLOCK_WORDS: Final = BLOCK.itemsize // 8
_CHANGES, _LAST_SERIAL, _REFUSED, _BLOCKS = (
    offset_of(Layout().catalog, name) // 8 for name in ("changes", "last_serial", "refused", "blocks")
)
_ATTEMPTS: Final = 20


class FullError(Exception):
    """No room for another entry. Internal: it becomes a count and a warning."""


class ReentrantError(RegistryBusyError):
    """A signal handler tried to change what this very thread is changing. Internal."""


class Catalog:
    """The catalog of a mapped hub. Any thread may call; each change takes REGISTRY for its length.

    ``patience``: seconds a change may wait for REGISTRY at most; then it raises RegistryBusyError.
    """

    def __init__(
        self,
        segment: Segment,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segment = segment
        self._clock, self._sleep = clock, sleep
        start, size = segment.layout.catalog_offset, segment.layout.catalog.itemsize
        self._raw = segment.raw[start : start + size]
        self._words = memoryview(segment.memory)[start : start + size].cast("Q")
        self.serials = self._words[_BLOCKS:]
        """Of the entry that starts at block b, the serial number is at ``b * BLOCK_WORDS``."""
        self._known = Contents(
            used_blocks=bytearray(segment.layout.max_series), used_cells=bytearray(segment.layout.cells)
        )
        self._full_at = -1
        self._changing_in = 0

    def contents(self) -> Contents:
        """What is in it now. One load, unless something changed."""
        if self._words[_CHANGES] != self._known.changes:
            self._known = self._parse()
        return self._known

    @property
    def refused(self) -> int:
        """How often there was no room for a series."""
        return self._words[_REFUSED]

    def define(self, definition: Definition, *, patience: float) -> int:
        """The serial number of a metric, defined now or before.

        ValueError when one of that name has another shape; FullError when there is no room.
        """
        known = self._defined(definition)
        if known:
            return known
        with self._changing(patience) as registry:
            known = self._defined(definition)
            if known:
                return known
            return self._add(registry, entries.of_definition(definition))

    def place(
        self, metric: int, labels: tuple[str, ...], *, patience: float, info: dict[str, str] | None = None
    ) -> Placement:
        """The series of a metric with these label values, created if there is none. FullError when there is no room.

        ``info``: what an info metric says. The series that said something else is removed.
        """
        before = self.contents()
        known = before.index.get((metric, labels))
        if known is not None and (info is None or known.info == info):
            return known
        if self._full_at == before.changes:
            self.count_refusal()
            raise FullError
        with self._changing(patience) as registry:
            contents = self.contents()
            known = contents.index.get((metric, labels))
            if known is None or (info is not None and known.info != info):
                length = entries.run_length(contents.metrics[metric])
                cell = contents.used_cells.find(bytes(length))
                if cell < 0:
                    self._refuse()
                self._add(registry, entries.of_series(metric, labels, cell, info or {}))
                if known is not None:
                    self._remove(registry, known)
            return self.contents().index[metric, labels]

    def reserve_overflow(self, metric: int, *, patience: float) -> None:
        """Create the series that takes what there is no room for, while there is room."""
        labels = self.contents().metrics[metric].labels
        if labels:
            self.place(metric, (OVERFLOW,) * len(labels), patience=patience)

    def remove(self, placement: Placement, *, patience: float) -> None:
        """Remove a series; harmless when it is gone."""
        with self._changing(patience) as registry:
            if self._is_there(placement):
                self._remove(registry, placement)

    def _is_there(self, placement: Placement) -> bool:
        return self.serials[placement.block * BLOCK_WORDS] == placement.serial

    def _defined(self, definition: Definition) -> int:
        contents = self.contents()
        serial = contents.metric(definition.name)
        if serial and contents.metrics[serial] != definition:
            known = contents.metrics[serial]
            raise ValueError(
                f"metric {definition.name!r} is defined already, differently: it has {known.differences(definition)}; "
                f"use one definition everywhere, or another name"
            )
        return serial

    @contextmanager
    def _changing(self, patience: float) -> Iterator[ByteLock]:
        """Hold REGISTRY. A change within a change of the same thread, by a signal handler, finds it busy at once."""
        thread = threading.get_ident()
        if self._changing_in == thread:
            raise ReentrantError
        outer, self._changing_in = self._changing_in, thread
        try:
            with ByteLock(self._segment.descriptor, REGISTRY) as registry:
                if not registry.acquire(patience, self._clock, self._sleep):
                    raise RegistryBusyError
                yield registry
        except OSError as error:  # no descriptors are left to lock with
            raise RegistryBusyError from error
        finally:
            self._changing_in = outer

    def _add(self, registry: ByteLock, payload: bytes) -> int:
        """Write an entry into free blocks; returns its serial number. The caller holds REGISTRY.

        Nothing is called between the look at the lock and the last store, so no signal handler can fork there.
        """
        contents, words = self.contents(), self._words
        count = entries.blocks_of(len(payload))
        block = contents.used_blocks.find(bytes(count)) if count <= entries.MOST_BLOCKS else -1
        serial = max(words[_LAST_SERIAL], *contents.metrics, *contents.series, 0) + 1
        if block < 0 or serial >= entries.MOST_SERIAL:
            self._refuse()
        data = entries.in_blocks(payload).view("u1")
        start = (_BLOCKS + block * BLOCK_WORDS) * 8
        raw, fence, changes = self._raw, self._segment.fence, words[_CHANGES] | 1
        if registry.is_left:
            raise ForkedError
        words[_CHANGES] = changes
        words[_LAST_SERIAL] = serial
        raw[start : start + len(data)] = data
        fence()
        self.serials[block * BLOCK_WORDS] = serial
        fence()
        words[_CHANGES] = (changes + 1) % 2**64
        return serial

    def _remove(self, registry: ByteLock, placement: Placement) -> None:
        words, changes = self._words, self._words[_CHANGES] | 1
        if registry.is_left:
            raise ForkedError
        words[_CHANGES] = changes
        self.serials[placement.block * BLOCK_WORDS] = 0
        self._segment.fence()
        words[_CHANGES] = (changes + 1) % 2**64

    def _refuse(self) -> None:
        self.count_refusal()
        self._full_at = self._words[_CHANGES]
        raise FullError

    def count_refusal(self) -> None:
        """Without a lock: two at once may count as one."""
        self._words[_REFUSED] = (self._words[_REFUSED] + 1) % 2**64

    def _parse(self) -> Contents:
        """What a private copy of it says; where it changes under our eyes, the last of several copies."""
        copy: Any = None
        for _ in range(_ATTEMPTS):
            changes = self._words[_CHANGES]
            self._segment.fence()
            copy = self._raw.copy().view(self._segment.layout.catalog)[0]
            self._segment.fence()
            if self._words[_CHANGES] == changes:
                break
        return entries.parse(copy, self._segment.layout.cells)
