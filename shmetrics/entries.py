"""Catalog entries: custom metrics and series as JSON in blocks of shared memory. Pure.

What is read was possibly written by anybody, so it becomes a checked `Definition` or `Placement`, or a flaw in words.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from shmetrics.families import Definition, is_label_name
from shmetrics.layout import BLOCK

PAYLOAD: Final = BLOCK["payload"].itemsize
MOST_BLOCKS: Final = 70
"""Blocks that one entry may take: 16 KiB of labels, say."""
MOST_SERIAL: Final = 1 << 53
"""A serial number is also kept as a float64."""

_RUN: Final = {"counter": 2, "gauge": 4, "summary": 3, "ratio": 3, "info": 0, "enum": 3}
_TUPLES: Final = ("labels", "buckets", "states")


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


@dataclass(frozen=True)
class Contents:
    """Everything in a catalog at one moment."""

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

    def metric(self, name: str) -> int:
        """Serial number of the metric of that name; 0 where there is none."""
        return self.names.get(name, 0)

    @property
    def extent(self) -> int:
        """Cells up to the last that is used."""
        return self.used_cells.rfind(b"\1") + 1


def encoded(entry: dict[str, Any]) -> bytes:
    """An entry's payload."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()


def of_definition(definition: Definition) -> bytes:
    """The payload of a metric's entry; what is empty goes without saying."""
    return encoded({name: value for name, value in asdict(definition).items() if value})


def of_series(metric: int, labels: tuple[str, ...], cell: int, info: dict[str, str]) -> bytes:
    """The payload of a series' entry."""
    return encoded({"of": metric, "labels": labels, "cell": cell, **({"info": info} if info else {})})


def blocks_of(payload: int) -> int:
    """How many blocks a payload of so many bytes takes."""
    return max(1, -(-payload // PAYLOAD))


def in_blocks(payload: bytes) -> np.ndarray[Any, np.dtype[np.void]]:
    """The blocks of an entry; its serial number is to be stored last, and is left 0 here."""
    blocks = np.zeros(blocks_of(len(payload)), BLOCK)
    blocks["length"][0] = len(payload)
    padded = payload.ljust(len(blocks) * PAYLOAD, b"\0")
    blocks["payload"] = np.frombuffer(padded, f"V{PAYLOAD}")
    return blocks


def parse(catalog: Any, cells: int) -> Contents:
    """What a private copy of a catalog (``Layout.catalog``, zero-dimensional) says; never raises for its contents.

    ``cells``: how many each slot has.
    """
    blocks = catalog["blocks"]
    used_blocks, used_cells = bytearray(len(blocks)), bytearray(cells)
    metrics: dict[int, Definition] = {}
    found: list[tuple[int, int, dict[str, Any]]] = []
    flaws: list[str] = []
    end = 0
    for block in np.flatnonzero(blocks["serial"]).tolist():
        serial, length = int(blocks["serial"][block]), int(blocks["length"][block])
        count = blocks_of(length)
        if block < end or serial >= MOST_SERIAL or count > MOST_BLOCKS or block + count > len(blocks):
            flaws.append(f"block {block} of the catalog cannot start an entry")
            continue
        end = block + count
        used_blocks[block:end] = b"\1" * count
        try:
            entry = json.loads(blocks["payload"][block:end].tobytes()[:length])
            if not isinstance(entry, dict):
                raise ValueError("an entry is no object")
            encoded(entry)  # or it could not be exported: JSON knows halves of characters
            if "of" in entry:
                found.append((serial, block, entry))
            else:
                metrics[serial] = _definition(entry)
        except (ValueError, TypeError, RecursionError) as error:
            flaws.append(f"entry {serial} of the catalog cannot be read ({type(error).__name__})")
    names: dict[str, int] = {}
    for serial, metric in sorted(metrics.items()):
        if names.setdefault(metric.name, serial) != serial:
            flaws.append(f"entry {serial} of the catalog defines {metric.name} again")
    metrics = {serial: metrics[serial] for serial in names.values()}
    series: dict[int, Placement] = {}
    for serial, block, entry in sorted(found, key=lambda item: item[0]):
        placement = _placement(serial, block, entry, metrics)
        length = 0 if placement is None else run_length(metrics[placement.metric])
        if placement is None or placement.cell + length > cells or any(used_cells[placement.cell :][:length]):
            flaws.append(f"series {serial} of the catalog is none that can be")
            continue
        used_cells[placement.cell : placement.cell + length] = b"\1" * length
        series[serial] = placement
    index = {(placement.metric, placement.labels): placement for placement in series.values()}
    return Contents(int(catalog["changes"]), metrics, names, series, index, used_blocks, used_cells, tuple(flaws))


def _definition(entry: dict[str, Any]) -> Definition:
    """A definition from JSON; ValueError or TypeError for what is none."""
    for name in _TUPLES:
        if name in entry:
            if not isinstance(entry[name], list):
                raise ValueError(f"{name} is no list")
            entry[name] = tuple(entry[name])
    return Definition(**entry)


def _placement(serial: int, block: int, entry: dict[str, Any], metrics: dict[int, Definition]) -> Placement | None:
    """A series from JSON; None for what is none."""
    metric, labels, cell, info = entry["of"], entry.get("labels"), entry.get("cell"), entry.get("info", {})
    if (
        type(metric) is not int
        or metric not in metrics
        or type(cell) is not int
        or cell < 0
        or not isinstance(labels, list)
        or len(labels) != len(metrics[metric].labels)
        or not all(isinstance(label, str) for label in labels)
        or not isinstance(info, dict)
        or not all(is_label_name(key) and isinstance(value, str) for key, value in info.items())
    ):
        return None
    return Placement(serial, metric, tuple(labels), cell, block, info)
