"""Catalog entries: custom metrics and series as JSON in blocks of shared memory. Pure.

What is read was possibly written by anybody, so it becomes a checked `Definition` or `Placement`, or a flaw in words.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from shmetrics.families import Definition, is_label_name
from shmetrics.layout import BLOCK, offset_of

if TYPE_CHECKING:
    Serials: TypeAlias = array[int]

PAYLOAD: Final = BLOCK.size_of("payload")
_SERIAL, _LENGTH = (offset_of(BLOCK, name) // 8 for name in ("serial", "length"))
_PAYLOAD_AT: Final = offset_of(BLOCK, "payload")
BLOCK_WORDS: Final = BLOCK.itemsize // 8
_CHUNK: Final = 256
MOST_BLOCKS: Final = 70
"""Blocks that one entry may take: 16 KiB of labels, say."""
MOST_SERIAL: Final = 1 << 53
"""A serial number is also kept as a float64."""

_RUN: Final = {"counter": 2, "gauge": 4, "summary": 3, "ratio": 3, "info": 0, "enum": 3}
_FIELDS: Final = tuple(Definition.__dataclass_fields__)
_TUPLES: Final = ("labels", "buckets", "states")
_NO_SERIES: Final = "series {} of the catalog is none that can be"


def run_length(definition: Definition) -> int:
    """Cells of one series: its serial number, and what `cells` says; none where the catalog holds it all."""
    if definition.kind == "histogram":
        return 3 + len(definition.buckets)
    return _RUN[definition.kind]


@dataclass(frozen=True)
class Placement:
    """A series as the catalog has it: of which metric, with which label values, and where its cells are."""

    serial: int
    metric: int
    """Serial number of the metric's own entry."""
    labels: tuple[str, ...]
    cell: int
    """Index of the first of its cells, the same in every slot."""
    block: int
    """Where its entry starts; it is removed when the serial number there is another."""
    info: dict[str, str] = field(default_factory=dict)
    blocks: int = 1
    """How many its entry takes."""


class Entry(NamedTuple):
    """What one entry says, and how many blocks it takes."""

    blocks: int
    content: Definition | Placement | str
    """A text where it says nothing that can be: the flaw, in words."""


@dataclass(frozen=True)
class Contents:
    """Everything in a catalog at one moment. Nothing in it changes once it is made: `updated` makes another."""

    changes: int = 0
    metrics: dict[int, Definition] = field(default_factory=dict)
    """By serial number, in the order of definition."""
    names: dict[str, int] = field(default_factory=dict)
    """Serial numbers of the metrics by name."""
    series: dict[int, Placement] = field(default_factory=dict)
    """By serial number, in the order of creation."""
    index: dict[tuple[int, tuple[str, ...]], Placement] = field(default_factory=dict)
    """The series by metric and label values: the last, where there are several."""
    used_blocks: bytearray = field(default_factory=bytearray)
    """1 for each block of an entry, 0 for each that is free."""
    used_cells: bytearray = field(default_factory=bytearray)
    flaws: tuple[str, ...] = ()
    serials: Serials = field(default_factory=lambda: array("Q"), compare=False)
    """Of the entry that starts at each block; 0 where none does."""

    @classmethod
    def blank(cls, blocks: int, cells: int) -> Contents:
        """Of an empty catalog with so many blocks, in a hub whose slots have so many cells."""
        return cls(used_blocks=bytearray(blocks), used_cells=bytearray(cells), serials=array("Q", bytes(8 * blocks)))

    def metric(self, name: str) -> int:
        """Serial number of the metric of that name; 0 where there is none."""
        return self.names.get(name, 0)

    @property
    def has_doubles(self) -> bool:
        """Whether a metric has two series with the same label values: one is about to be removed."""
        return len(self.series) > len(self.index)

    @property
    def last_serial(self) -> int:
        """The serial number of the latest entry that is there; 0 where there is none."""
        return max(next(reversed(self.metrics), 0), next(reversed(self.series), 0))

    @property
    def extent(self) -> int:
        """Cells up to the last that is used."""
        return self.used_cells.rfind(b"\1") + 1


def encoded(entry: dict[str, Any]) -> bytes:
    """An entry's payload."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()


def of_definition(definition: Definition) -> bytes:
    """The payload of a metric's entry; what is empty goes without saying."""
    return encoded({name: value for name in _FIELDS if (value := getattr(definition, name))})


def of_series(metric: int, labels: tuple[str, ...], cell: int, info: dict[str, str]) -> bytes:
    """The payload of a series' entry."""
    return encoded({"of": metric, "labels": labels, "cell": cell, **({"info": info} if info else {})})


def blocks_of(payload: int) -> int:
    """How many blocks a payload of so many bytes takes."""
    return max(1, -(-payload // PAYLOAD))


def least_blocks(labels: tuple[str, ...]) -> int:
    """Fewer blocks than this a series with these label values cannot take."""
    return blocks_of(sum(map(len, labels)))


def in_blocks(payload: bytes) -> bytes:
    """The blocks of an entry; its serial number is to be stored last, and is left 0 here."""
    data = bytearray(blocks_of(len(payload)) * BLOCK.itemsize)
    for block, start in enumerate(range(0, len(payload), PAYLOAD)):
        part, at = payload[start : start + PAYLOAD], block * BLOCK.itemsize + _PAYLOAD_AT
        data[at : at + len(part)] = part
    memoryview(data).cast("Q")[_LENGTH] = len(payload)
    return bytes(data)


class Blocks:
    """Blocks one after the other, in shared memory or a copy: the bytes of so many of `layout.BLOCK`."""

    def __init__(self, memory: memoryview[int]) -> None:
        self._memory = memory
        self._words = memory.cast("Q")

    def __len__(self) -> int:
        return len(self._words) // BLOCK_WORDS

    @property
    def serials(self) -> Serials:
        """A copy of the serial number in each block."""
        return array("Q", self._words[_SERIAL::BLOCK_WORDS].tobytes())

    def serial(self, block: int) -> int:
        """Of the entry that starts at a block; 0 where none does."""
        return self._words[block * BLOCK_WORDS + _SERIAL]

    def length(self, block: int) -> int:
        """Bytes of the payload of the entry that starts at a block."""
        return self._words[block * BLOCK_WORDS + _LENGTH]

    def payload(self, block: int, length: int) -> bytes:
        """A copy of so many bytes of it, which go on in the blocks that follow."""
        starts = range(block, block + blocks_of(length))
        parts = (self._memory[at * BLOCK.itemsize :][_PAYLOAD_AT : BLOCK.itemsize] for at in starts)
        return b"".join(parts)[:length]


def parse(blocks: Blocks, changes: int, cells: int) -> Contents:
    """What the blocks of a copy of a catalog say, which had so many changes; never raises for its contents.

    ``cells``: how many each slot has.
    """
    blank = Contents.blank(len(blocks), cells)
    return updated(blank, changes, blocks.serials, lambda block: read(blocks, block))


def updated(known: Contents, changes: int, serials: Serials, entry_at: Callable[[int], Entry]) -> Contents:
    """What a catalog that had `known` says now: only entries whose serial number is another are looked at.

    An entry stays as it is for as long as its serial number stands, and no number is given twice. So this is what
    `parse` says; where that finds any flaw, it begins with nothing known, as `parse` does.

    ``changes``, ``serials``: as `Contents` has them. ``entry_at``: what the entry that starts at a block says.
    """
    found = updated_once(known, changes, serials, entry_at)
    return found if known.flaws or not found.flaws else updated_once(found, changes, serials, entry_at)


def updated_once(known: Contents, changes: int, serials: Serials, entry_at: Callable[[int], Entry]) -> Contents:
    """The same, but for flaws: those found beside what was known are there, and may be others than `parse` finds.

    Where the catalog changes meanwhile they are gone at the next look, most likely: a series was there, say, that came
    after the look at its metric. Of what has flaws nothing is taken for known.
    """
    kept = _kept(known, serials)
    if kept is None:
        kept = Contents.blank(len(serials), len(known.used_cells))
    return _extended(kept, changes, serials, entry_at)


def _differing(one: Serials, other: Serials) -> list[int]:
    """Where two of the same length differ: looked for where a chunk does."""
    found: list[int] = []
    for start in range(0, len(one), _CHUNK):
        ours, theirs = one[start : start + _CHUNK], other[start : start + _CHUNK]
        if ours != theirs:
            found += [at for at, pair in enumerate(zip(ours, theirs, strict=True), start) if pair[0] != pair[1]]
    return found


def _kept(known: Contents, serials: Serials) -> Contents | None:
    """`known` without the series that are gone; None where more is gone than series that can be taken out singly."""
    if known.flaws:
        return None
    gone = [block for block in _differing(known.serials, serials) if known.serials[block]]
    if not gone:
        return known
    numbers = [known.serials[block] for block in gone]
    if not all(number in known.series for number in numbers):
        return None
    series, index = dict(known.series), dict(known.index)
    used_blocks, used_cells = bytearray(known.used_blocks), bytearray(known.used_cells)
    for number in numbers:
        placement = series.pop(number)
        key = placement.metric, placement.labels
        if index[key] is placement:
            if known.has_doubles:  # then another may have to take its place
                return None
            del index[key]
        length = run_length(known.metrics[placement.metric])
        used_blocks[placement.block : placement.block + placement.blocks] = bytes(placement.blocks)
        used_cells[placement.cell : placement.cell + length] = bytes(length)
    left = known.serials[:]
    for block in gone:
        left[block] = 0
    return replace(known, series=series, index=index, used_blocks=used_blocks, used_cells=used_cells, serials=left)


def _extended(known: Contents, changes: int, serials: Serials, entry_at: Callable[[int], Entry]) -> Contents:
    """`known`, and with it every entry of a serial number that it does not have."""
    used_blocks, flaws = bytearray(known.used_blocks), list(known.flaws)
    found: list[tuple[int, Definition | Placement | str]] = []
    for block in _differing(serials, known.serials):
        serial, entry = serials[block], entry_at(block)
        end = block + entry.blocks
        if serial >= MOST_SERIAL or entry.blocks > MOST_BLOCKS or end > len(serials) or any(used_blocks[block:end]):
            flaws.append(f"block {block} of the catalog cannot start an entry")
            continue
        used_blocks[block:end] = b"\1" * entry.blocks
        found.append((serial, entry.content))
    metrics, names, series, index = known.metrics, known.names, known.series, known.index
    if any(isinstance(content, Definition) for _, content in found):
        metrics, names = dict(metrics), dict(names)
    if any(isinstance(content, Placement) for _, content in found):
        series, index = dict(series), dict(index)
    used_cells = bytearray(known.used_cells)
    for serial, content in sorted(found, key=lambda each: each[0]):
        if isinstance(content, str):
            flaws.append(content)
        elif serial in metrics or serial in series:
            flaws.append(f"serial number {serial} of the catalog is there twice")
        elif isinstance(content, Definition):
            if names.setdefault(content.name, serial) == serial:
                metrics[serial] = content
            else:
                flaws.append(f"entry {serial} of the catalog defines {content.name} again")
        elif _fits(content, metrics, used_cells):
            length = run_length(metrics[content.metric])
            used_cells[content.cell : content.cell + length] = b"\1" * length
            series[serial] = content
            index[content.metric, content.labels] = content
        else:
            flaws.append(_NO_SERIES.format(serial))
    return Contents(changes, metrics, names, series, index, used_blocks, used_cells, tuple(flaws), serials)


def _fits(placement: Placement, metrics: dict[int, Definition], used_cells: bytearray) -> bool:
    """Whether a series is of a metric that is there, and its cells are nobody else's."""
    metric = metrics.get(placement.metric)
    if metric is None or len(placement.labels) != len(metric.labels):
        return False
    length = run_length(metric)
    return placement.cell + length <= len(used_cells) and not any(used_cells[placement.cell : placement.cell + length])


def read(blocks: Blocks, block: int) -> Entry:
    """What the entry says that starts at a block, in shared memory too. The copy that is looked at is the only one."""
    serial, length = blocks.serial(block), blocks.length(block)
    count = blocks_of(length)
    if count > MOST_BLOCKS or block + count > len(blocks):
        return Entry(count, "")  # which nobody asks for: so many blocks are not to be had
    payload = blocks.payload(block, length)
    try:
        text = payload.decode()
        entry = json.loads(text)
        if not isinstance(entry, dict):
            raise ValueError("an entry is no object")
        if "\\u" in text:
            encoded(entry)  # or it could not be exported: JSON knows halves of characters, as escapes
        if "of" in entry:
            return Entry(count, _placement(serial, block, count, entry) or _NO_SERIES.format(serial))
        return Entry(count, _definition(entry))
    except (ValueError, TypeError, RecursionError) as error:
        return Entry(count, f"entry {serial} of the catalog cannot be read ({type(error).__name__})")


def _definition(entry: dict[str, Any]) -> Definition:
    """A definition from JSON; ValueError or TypeError for what is none."""
    for name in _TUPLES:
        if name in entry:
            if not isinstance(entry[name], list):
                raise ValueError(f"{name} is no list")
            entry[name] = tuple(entry[name])
    return Definition(**entry)


def _placement(serial: int, block: int, blocks: int, entry: dict[str, Any]) -> Placement | None:
    """A series from JSON; None for what is none."""
    metric, labels, cell, info = entry["of"], entry.get("labels"), entry.get("cell"), entry.get("info", {})
    if (
        type(metric) is not int
        or type(cell) is not int
        or cell < 0
        or not isinstance(labels, list)
        or not all(isinstance(label, str) for label in labels)
        or not isinstance(info, dict)
        or not all(is_label_name(key) and isinstance(value, str) for key, value in info.items())
    ):
        return None
    return Placement(serial, metric, tuple(labels), cell, block, info, blocks)
