"""The catalog: which custom metrics and series a hub has, seen by all processes and changed by any, under REGISTRY.

An entry is whole before its serial number is stored, and gone when that is 0 again, so a process may be killed anywhere
in a change. Serial numbers are never given twice: whoever remembers one can tell by one load whether its series is
still the one it was, and cells that carry another number are leftovers of a series that was removed. So a process reads
each entry once, however often others change the catalog, and none that it wrote itself.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, NamedTuple, NoReturn, TypeVar

from shmetrics import entries
from shmetrics.entries import BLOCK_WORDS, Blocks, Contents, Entry, Placement
from shmetrics.families import OVERFLOW, Definition
from shmetrics.forks import ForkedError
from shmetrics.layout import Layout, offset_of
from shmetrics.locks import REGISTRY, ByteLock, RegistryBusyError, polls
from shmetrics.segment import Segment

_CHANGES, _LAST_SERIAL, _REFUSED, _BLOCKS = (
    offset_of(Layout().catalog, name) // 8 for name in ("changes", "last_serial", "refused", "blocks")
)
_ATTEMPTS: Final = 20
_FIRST_PAUSE: Final = 0.02
"""Seconds before the second try for REGISTRY, at most: who has it often defines next what we do."""

_NEVER: Final = sys.maxsize

_Found = TypeVar("_Found")


class FullError(Exception):
    """No room for another entry. Internal: it becomes a count and a warning."""


class ReentrantError(RegistryBusyError):
    """A signal handler tried to change what this very thread is changing. Internal."""


class _Full(NamedTuple):
    """The least that found no room, at one state of the catalog."""

    changes: int = -1
    cells: int = _NEVER
    blocks: int = _NEVER


class Catalog:
    """The catalog of a mapped hub. Any thread may call; each change takes REGISTRY for its length.

    ``patience``: seconds a change may wait for REGISTRY at most; then it raises RegistryBusyError. What was read of the
    catalog is kept with the segment, for all that one process has of these.
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
        self._raw = memoryview(segment.memory)[start : start + size]
        self._words = self._raw.cast("Q")
        self._blocks = Blocks(self._raw[_BLOCKS * 8 : _BLOCKS * 8 + segment.layout.catalog.size_of("blocks")])
        self.serials = self._words[_BLOCKS:]
        """Of the entry that starts at block b, the serial number is at ``b * BLOCK_WORDS``."""
        self._full = _Full()
        self._changers: set[tuple[int, int]] = set()
        """Process and thread of whoever is in a change, or waits to be."""

    def contents(self) -> Contents:
        """What is in it now. One load, unless something changed."""
        known, changes = self._segment.known, self._words[_CHANGES]
        # Odd: a change is under way, or its author died in it and may have stored something since our last look.
        if changes != known.changes or changes & 1:
            known = self._segment.known = self._look(known)
        return known

    @property
    def refused(self) -> int:
        """How often there was no room for a series."""
        return self._words[_REFUSED]

    def define(self, definition: Definition, *, patience: float, overflow: bool = False) -> int:
        """The serial number of a metric, defined now or before.

        ``overflow``: create in the same change the series that takes what there is no room for. ValueError when a
        metric of that name has another shape; FullError when there is no room.
        """
        make = partial(self._add_metric, definition, overflow)
        return self._found_or_made(partial(self._defined, definition), make, patience)

    def place(
        self, metric: int, labels: tuple[str, ...], *, patience: float, info: dict[str, str] | None = None
    ) -> Placement:
        """The series of a metric with these label values, created if there is none. FullError when there is no room.

        ``info``: what an info metric says. The series that said something else is removed.
        """
        find, make = partial(self._placed, metric, labels, info), partial(self._replace_series, metric, labels, info)
        return self._found_or_made(find, make, patience)

    def reserve_overflow(self, metric: int, *, patience: float) -> None:
        """Create the series that takes what there is no room for, while there is room."""
        definition = self.contents().metrics.get(metric)
        if definition is not None and definition.labels:
            self.place(metric, _overflow(definition), patience=patience)

    def remove(self, placement: Placement, *, patience: float) -> None:
        """Remove a series; harmless when it is gone."""
        self._found_or_made(partial(self._is_gone, placement), partial(self._remove, placement), patience)

    def _is_gone(self, placement: Placement) -> bool:
        return self.serials[placement.block * BLOCK_WORDS] != placement.serial

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

    def _placed(self, metric: int, labels: tuple[str, ...], info: dict[str, str] | None) -> Placement | None:
        contents = self.contents()
        known = contents.index.get((metric, labels))
        if known is not None and (info is None or known.info == info):
            return known
        if self._is_too_large(metric, labels, contents):
            self.count_refusal()
            raise FullError
        return None

    def _is_too_large(self, metric: int, labels: tuple[str, ...], contents: Contents) -> bool:
        """Whether a series can find no room where one that is no larger found none, and nothing was removed since.

        So that a hub that is full costs no lock for each write of a series that is new. A small one is not judged by a
        large one: a value of too many characters must not send all others to the overflow series.
        """
        definition, full = contents.metrics.get(metric), self._full
        if full.changes != contents.changes or definition is None:
            return False
        return entries.run_length(definition) >= full.cells or entries.least_blocks(labels) >= full.blocks

    def _found_or_made(
        self, find: Callable[[], _Found | None], make: Callable[[ByteLock], _Found], patience: float
    ) -> _Found:
        """What `find` finds, at once or while REGISTRY is busy; else what `make` makes, holding it.

        Many processes that want the same at once so wait for one of them, and not each for all others; and they read
        what others add while they wait, not while others wait for them.
        """
        found = find()
        if found:
            return found
        with self._changing() as registry:
            for _ in polls(patience, self._clock, self._sleep, _FIRST_PAUSE):
                found = find()
                if not found and registry.try_acquire():
                    found = find() or make(registry)
                if found:
                    return found
        raise RegistryBusyError

    @contextmanager
    def _changing(self) -> Iterator[ByteLock]:
        """The lock for a change. A change within a change of the same thread, by a signal handler, is refused."""
        changer = os.getpid(), threading.get_ident()
        if changer in self._changers:
            raise ReentrantError
        try:
            self._changers.add(changer)
            with ByteLock(self._segment.descriptor, REGISTRY) as registry:
                yield registry
        except OSError as error:  # no descriptors are left to lock with
            raise RegistryBusyError from error
        finally:
            self._changers.discard(changer)

    # From here on the caller holds REGISTRY ---------------------------------------------------------------------------

    def _add_metric(self, definition: Definition, overflow: bool, registry: ByteLock) -> int:
        before, payload = self.contents(), entries.of_definition(definition)
        if entries.blocks_of(len(payload)) > entries.MOST_BLOCKS:
            raise ValueError(f"the texts of metric {definition.name!r}, its help and all, take {len(payload):,} bytes; "
                             f"no hub has room for more than {entries.MOST_BLOCKS * entries.PAYLOAD:,}")  # fmt: skip
        serial, block, blocks = self._add(registry, payload)
        self._remember(before, serial, block, Entry(blocks, definition))
        if overflow and definition.labels:
            self._add_series(serial, _overflow(definition), {}, registry)
        return serial

    def _replace_series(
        self, metric: int, labels: tuple[str, ...], info: dict[str, str] | None, registry: ByteLock
    ) -> Placement:
        contents = self.contents()
        made = self._add_series(metric, labels, info or {}, registry)
        if (metric, labels) in contents.index:  # and perhaps another, whose successor's author died here
            for placement in contents.series.values():
                if (placement.metric, placement.labels) == (metric, labels):
                    self._remove(placement, registry)
        return made

    def _add_series(self, metric: int, labels: tuple[str, ...], info: dict[str, str], registry: ByteLock) -> Placement:
        before = self.contents()
        definition = before.metrics.get(metric)
        length = 0 if definition is None else entries.run_length(definition)
        cell = -1 if definition is None else before.used_cells.find(bytes(length))
        if cell < 0:
            self._refuse(cells=length)
        serial, block, blocks = self._add(registry, entries.of_series(metric, labels, cell, info))
        placement = Placement(serial, metric, labels, cell, block, info, blocks)
        self._remember(before, serial, block, Entry(blocks, placement))
        return placement

    def _add(self, registry: ByteLock, payload: bytes) -> tuple[int, int, int]:
        """Write an entry into free blocks: its serial number, the first block, and how many.

        Nothing is called between the look at the lock and the last store, so no signal handler can fork there.
        """
        contents, words = self.contents(), self._words
        count = entries.blocks_of(len(payload))
        block = contents.used_blocks.find(bytes(count)) if count <= entries.MOST_BLOCKS else -1
        serial = max(words[_LAST_SERIAL], contents.last_serial) + 1
        if block < 0 or serial >= entries.MOST_SERIAL:
            self._refuse(blocks=count)
        data = entries.in_blocks(payload)
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
        return serial, block, count

    def _remember(self, before: Contents, serial: int, block: int, entry: Entry) -> None:
        """Know what was added to `before` without reading it."""
        changes = self._words[_CHANGES]
        if changes == (before.changes | 1) + 1:  # else somebody who needs no lock has written there
            serials = before.serials[:]
            serials[block] = serial
            self._segment.known = entries.updated(
                before, changes, serials, lambda at: entry if at == block else entries.read(self._blocks, at)
            )

    def _remove(self, placement: Placement, registry: ByteLock) -> bool:
        words, changes = self._words, self._words[_CHANGES] | 1
        if registry.is_left:
            raise ForkedError
        words[_CHANGES] = changes
        self.serials[placement.block * BLOCK_WORDS] = 0
        self._segment.fence()
        words[_CHANGES] = (changes + 1) % 2**64
        return True

    def _refuse(self, *, cells: int = _NEVER, blocks: int = _NEVER) -> NoReturn:
        """Find no room for so many cells, or so many blocks, and remember it."""
        self.count_refusal()
        changes, known = self._words[_CHANGES], self._full
        if known.changes == changes:
            cells, blocks = min(cells, known.cells), min(blocks, known.blocks)
        self._full = _Full(changes, cells, blocks)
        raise FullError

    def count_refusal(self) -> None:
        """Without a lock: two at once may count as one."""
        self._words[_REFUSED] = (self._words[_REFUSED] + 1) % 2**64

    def _look(self, known: Contents) -> Contents:
        """What is in it now, where `known` was before; where it changes under our eyes, the last of several looks."""
        found, read = known, _Read(self._blocks)
        for _ in range(_ATTEMPTS):
            changes = self._words[_CHANGES]
            self._segment.fence()
            read.serials = self._blocks.serials
            found = entries.updated_once(known, changes, read.serials, read.entry_at)
            self._segment.fence()
            stands = self._words[_CHANGES] == changes
            if stands and (known.flaws or not found.flaws):
                break
            if stands or not found.flaws:  # flaws that stand: with these, nothing is taken for known
                known = found
        return found


class _Read:
    """What several looks in a row have read of entries: each is read once, unless it could not be."""

    def __init__(self, blocks: Blocks) -> None:
        self.serials = blocks.serials
        """As the last look found them."""
        self._blocks = blocks
        self._entries: dict[tuple[int, int], Entry] = {}  # by block and serial number, which is not given twice

    def entry_at(self, block: int) -> Entry:
        """What the entry that starts there says."""
        key = block, self.serials[block]
        entry = self._entries.get(key)
        if entry is None:
            entry = entries.read(self._blocks, block)
            if not isinstance(entry.content, str):
                self._entries[key] = entry
        return entry


def _overflow(definition: Definition) -> tuple[str, ...]:
    return (OVERFLOW,) * len(definition.labels)
