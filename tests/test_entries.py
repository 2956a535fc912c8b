"""What is written into a catalog is read as it was; what anybody else wrote is a flaw in words, and never an error."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shmetrics.entries import (
    MOST_BLOCKS,
    PAYLOAD,
    Blocks,
    Contents,
    blocks_of,
    encoded,
    in_blocks,
    of_definition,
    of_series,
    parse,
    read,
    run_length,
    updated,
)
from shmetrics.families import KINDS, Definition
from shmetrics.layout import BLOCK, Layout

DIMS = Layout(max_workers=2, max_series=80)
NEEDS = {"histogram": {"buckets": (0.1, 2.5)}, "gauge": {"merge": "last"}, "enum": {"states": ("up", "down")}}


def definition(kind="counter", **fields):
    return Definition(**{"name": f"a_{kind}", "kind": kind, **NEEDS.get(kind, {}), **fields})


def catalog_of(*payloads):
    """A catalog with these payloads one after another, numbered from 1."""
    catalog = np.zeros((), DIMS.catalog)
    block = 0
    for serial, payload in enumerate(payloads, 1):
        blocks = np.frombuffer(bytearray(in_blocks(payload)), BLOCK)
        blocks["serial"][0] = serial
        catalog["blocks"][block : block + len(blocks)] = blocks
        block += len(blocks)
    return catalog


def blocks_in(catalog):
    """The blocks of a catalog, as a copy."""
    return Blocks(memoryview(catalog["blocks"].tobytes()))


def said_by(catalog):
    """What a catalog says, read from its beginning."""
    return parse(blocks_in(catalog), int(catalog["changes"]), DIMS.cells)


def parsed(*payloads):
    return said_by(catalog_of(*payloads))


@pytest.mark.parametrize("kind", KINDS)
def test_a_definition_is_read_as_it_was_written(kind):
    written = definition(kind, help='a "help" \\ with\nlines, ä and 漢', unit="s", labels=("x", "y"), expire_after=3.5)
    contents = parsed(of_definition(written))
    assert contents.metrics == {1: written}
    assert contents.names == {written.name: 1}
    assert contents.flaws == ()


@pytest.mark.parametrize("size", [0, PAYLOAD - 30, PAYLOAD, PAYLOAD + 1, 10_000])
def test_long_entries_go_on_in_the_blocks_that_follow(size):
    written = definition(help="h" * size)
    contents = parsed(of_definition(written), of_definition(definition("gauge")))
    assert contents.metrics == {1: written, 2: definition("gauge")}
    used = blocks_of(len(of_definition(written))) + 1
    assert contents.used_blocks == bytearray(b"\1" * used + b"\0" * (DIMS.max_series - used))


def test_series_are_found_by_metric_and_label_values_and_take_their_cells():
    metric = definition("histogram", labels=("x",))
    contents = parsed(of_definition(metric), of_series(1, ("ä",), 4, {}), of_series(1, ("b",), 20, {}))
    assert contents.index[1, ("ä",)].cell == 4
    assert contents.index[1, ("b",)].serial == 3
    length = run_length(metric)
    assert length == 5
    assert contents.used_cells.count(1) == 2 * length
    assert contents.extent == 20 + length


def test_of_two_series_with_the_same_labels_the_later_counts():
    contents = parsed(
        of_definition(definition("info")), of_series(1, (), 0, {"v": "1"}), of_series(1, (), 0, {"v": "2"})
    )
    assert contents.index[1, ()].info == {"v": "2"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"{",
        b"[" * 5000,
        b'{"name":"m"}',
        b'{"name":"m","kind":"counter","colour":"red"}',
        b'{"name":"m","kind":"counter","labels":"xy"}',
        b'{"name":"m","kind":"counter","labels":[["x"]]}',
        b'{"name":"m","kind":["counter"]}',
        b'{"name":"m\\n# evil","kind":"counter"}',
        b'{"name":"m","kind":"counter","help":"\\ud800"}',
        b'{"name":"m","kind":"histogram","buckets":[1e999]}',
        b'{"name":"m","kind":"histogram","buckets":[NaN]}',
        b'{"name":"m","kind":"histogram","buckets":[' + b"9" * 400 + b"]}",
        b'{"name":"m","kind":"counter","expire_after":' + b"9" * 400 + b"}",
    ],
)
def test_an_entry_that_is_no_definition_is_a_flaw_and_the_others_are_read(payload):
    contents = parsed(of_definition(definition("gauge")), payload)
    assert list(contents.metrics) == [1]
    assert contents.flaws == ("entry 2 of the catalog cannot be read (" + contents.flaws[0].split("(")[1],)


@pytest.mark.parametrize(
    "entry",
    [
        {"of": 9, "labels": ["a"], "cell": 0},
        {"of": True, "labels": ["a"], "cell": 0},
        {"of": [1], "labels": ["a"], "cell": 0},
        {"of": 1, "labels": [], "cell": 0},
        {"of": 1, "labels": ["a", "b"], "cell": 0},
        {"of": 1, "labels": "a", "cell": 0},
        {"of": 1, "labels": [1], "cell": 0},
        {"of": 1, "labels": ["a"]},
        {"of": 1, "labels": ["a"], "cell": -1},
        {"of": 1, "labels": ["a"], "cell": 0.0},
        {"of": 1, "labels": ["a"], "cell": DIMS.cells - 1},
        {"of": 1, "labels": ["a"], "cell": 10**30},
        {"of": 1, "labels": ["a"], "cell": 0, "info": []},
        {"of": 1, "labels": ["a"], "cell": 0, "info": {"a": 1}},
        {"of": 1, "labels": ["a"], "cell": 0, "info": {'a"} 1\n': "x"}},
    ],
)
def test_a_series_that_cannot_be_is_a_flaw_and_takes_no_cells(entry):
    contents = parsed(of_definition(definition(labels=("x",))), encoded(entry))
    assert contents.series == {}
    assert contents.flaws == ("series 2 of the catalog is none that can be",)
    assert not any(contents.used_cells)


def test_a_series_on_cells_of_another_is_a_flaw():
    contents = parsed(
        of_definition(definition(labels=("x",))), of_series(1, ("a",), 3, {}), of_series(1, ("b",), 4, {})
    )
    assert [placement.labels for placement in contents.series.values()] == [("a",)]
    assert contents.flaws == ("series 3 of the catalog is none that can be",)


def test_a_name_defined_twice_counts_once():
    contents = parsed(of_definition(definition(help="1")), of_definition(definition(help="2")))
    assert contents.metrics == {1: definition(help="1")}
    assert contents.flaws == ("entry 2 of the catalog defines a_counter again",)


@pytest.mark.parametrize(
    ("field", "value"), [("length", 2**64 - 1), ("length", MOST_BLOCKS * PAYLOAD + 1), ("serial", 2**53)]
)
def test_a_block_whose_words_are_out_of_range_starts_no_entry(field, value):
    catalog = catalog_of(of_definition(definition()))
    catalog["blocks"][field][0] = value
    contents = said_by(catalog)
    assert contents.metrics == {}
    assert contents.flaws == ("block 0 of the catalog cannot start an entry",)


def test_an_empty_catalog_has_nothing():
    contents = parsed()
    assert contents == Contents(used_blocks=bytearray(DIMS.max_series), used_cells=bytearray(DIMS.cells))
    assert contents.extent == 0


@settings(max_examples=300, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_a_catalog_of_mutated_bytes_never_raises_nor_gives_what_cannot_be(seed, strikes):
    draw = random.Random(seed)
    catalog = catalog_of(
        of_definition(definition(labels=("x",))),
        of_definition(definition("histogram", help="h" * 500)),
        *(of_series(1, (f"v{number}",), 2 * number, {}) for number in range(10)),
        of_series(2, (), 40, {}),
    )
    raw = catalog.reshape(1).view(np.uint8)
    for _ in range(strikes):
        raw[draw.randrange(min(len(raw), 6000))] = draw.randrange(256)
    contents = said_by(catalog)
    for placement in contents.series.values():
        metric = contents.metrics[placement.metric]
        assert len(placement.labels) == len(metric.labels)
        assert 0 <= placement.cell <= DIMS.cells - run_length(metric)
    assert len(set(contents.names)) == len(contents.metrics)
    "".join(label for placement in contents.series.values() for label in placement.labels).encode()


class Changing:
    """A catalog that changes entry by entry, and what is known of it, brought up to date after each change."""

    def __init__(self):
        self.catalog = catalog_of()
        self.known = said_by(self.catalog)
        self.last_serial, self.looked_at = 0, []

    def add(self, payload, block=None):
        blocks = np.frombuffer(bytearray(in_blocks(payload)), BLOCK)
        block = said_by(self.catalog).used_blocks.find(bytes(len(blocks))) if block is None else block
        if 0 <= block <= DIMS.max_series - len(blocks):
            self.last_serial += 1
            blocks["serial"][0] = self.last_serial
            self.catalog["blocks"][block : block + len(blocks)] = blocks

    def remove(self, placement):
        self.catalog["blocks"]["serial"][placement.block] = 0

    def look(self):
        """What was looked at is noted."""
        self.catalog["changes"] += np.uint64(2)
        self.looked_at.clear()

        def entry_at(block):
            self.looked_at.append(block)
            return read(blocks_in(self.catalog), block)

        serials = blocks_in(self.catalog).serials
        self.known = updated(self.known, int(self.catalog["changes"]), serials, entry_at)
        return self.known


def test_only_what_is_new_is_looked_at_and_what_was_known_stays():
    changing = Changing()
    changing.add(of_definition(definition(labels=("x",))))
    changing.add(of_series(1, ("a",), 0, {}))
    before = changing.look()
    changing.add(of_series(1, ("b",), 2, {}))
    after = changing.look()
    assert changing.looked_at == [2]
    assert [placement.labels for placement in after.series.values()] == [("a",), ("b",)]
    assert [placement.labels for placement in before.series.values()] == [("a",)], "nothing known is changed"
    changing.remove(before.series[2])
    after = changing.look()
    assert changing.looked_at == []
    assert [placement.labels for placement in after.series.values()] == [("b",)]
    assert (after.used_blocks.count(1), after.used_cells.count(1)) == (2, 2)


def test_an_entry_in_the_place_of_another_is_looked_at():
    changing = Changing()
    changing.add(of_definition(definition(labels=("x",))))
    changing.add(of_series(1, ("a",), 0, {}))
    removed = changing.look().series[2]
    changing.remove(removed)
    changing.add(of_series(1, ("b",), 0, {}), removed.block)
    assert list(changing.look().series.values()) == [replace(removed, serial=3, labels=("b",))]
    assert changing.looked_at == [removed.block]


def test_when_one_of_two_with_the_same_labels_goes_the_other_counts():
    changing = Changing()
    changing.add(of_definition(definition("info")))
    changing.add(of_series(1, (), 0, {"v": "1"}))
    changing.add(of_series(1, (), 0, {"v": "2"}))
    changing.remove(changing.look().index[1, ()])
    assert changing.look().index[1, ()].info == {"v": "1"}


def test_when_the_earlier_of_two_with_the_same_labels_goes_nothing_is_read_again():
    changing = Changing()
    changing.add(of_definition(definition("info")))
    changing.add(of_series(1, (), 0, {"v": "1"}))
    earlier = changing.look().index[1, ()]
    changing.add(of_series(1, (), 0, {"v": "2"}))
    changing.remove(earlier)
    assert changing.look().index[1, ()].info == {"v": "2"}
    assert changing.looked_at == [2]
    changing.add(of_series(1, (), 0, {"v": "3"}))
    changing.look()
    changing.remove(changing.known.series[3])
    assert changing.look().index[1, ()].info == {"v": "3"}
    assert changing.looked_at == []


@settings(max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1))
def test_what_is_known_after_any_changes_is_what_the_catalog_says(seed):
    """Honest changes and others: nonsense, serial numbers out of order, twice, out of range, inside of entries."""
    draw = random.Random(seed)
    changing = Changing()
    for _ in range(draw.randrange(1, 40)):
        for _ in range(draw.randrange(1, 4)):
            _change(draw, changing)
        assert changing.look() == said_by(changing.catalog)


def _change(draw, changing):
    known, serials = changing.known, changing.catalog["blocks"]["serial"]
    kind = draw.choices(("metric", "series", "remove", "nonsense", "forge"), (3, 8, 4, 0.3, 0.3))[0]
    if kind == "metric":
        labels = draw.choice([(), ("x",)])
        changing.add(
            of_definition(definition(name=f"m{draw.randrange(9)}", labels=labels, help="h" * draw.choice((0, 400))))
        )
    elif kind == "series" and known.metrics:
        serial, metric = draw.choice(list(known.metrics.items()))
        labels = tuple(f"v{draw.randrange(6)}" for _ in metric.labels)
        changing.add(of_series(serial, labels, known.used_cells.find(bytes(2)), {}))
    elif kind == "remove" and known.series:
        changing.remove(draw.choice(list(known.series.values())))
    elif kind == "nonsense":
        changing.add(draw.choice((b"", b"[]", b'{"of":1}', of_series(77, (), 0, {}))), draw.randrange(DIMS.max_series))
    elif kind == "forge":
        serials[draw.randrange(DIMS.max_series)] = draw.choice((0, 1, 2, changing.last_serial, 2**53, 2**64 - 1))
