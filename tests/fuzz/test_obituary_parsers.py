"""Obituaries of arbitrary bytes: left out, or shown as they are, and never in the way of those that are to come."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmetrics.layout import OBITUARIES
from shmetrics.obituaries import Obituaries
from shmetrics.obituary import PAYLOAD, parse, payload_of, sentence
from tests.forge import random_records
from tests.fuzz.strikes import strike
from tests.fuzz.test_parsers import COUNT, VICTIM, Fleet, examples, reaped, seeds, words
from tests.test_obituary import FACTS, entry


@pytest.fixture
def fleet(hub_name):
    made = Fleet(hub_name)
    yield made
    made.close()


@examples(150)
@given(seeds, st.integers(1, 8), st.sampled_from(["obituaries", "newest obituaries"]))
def test_obituaries_of_mutated_bytes_are_left_out_and_new_ones_are_written_all_the_same(fleet, seed, count, part):
    """The victim is made a stranger's, since this process lives."""
    draw = random.Random(seed)
    fleet.restore()
    for number in range(3):
        payload = payload_of(FACTS, [], random_records(number, 4), 1000.0)
        Obituaries(fleet.target).add(number, 50 + number, 4711, -9, payload)
    start, size = fleet.parts[part][0]
    inside = fleet.memory[start : start + size]
    for _ in range(count):
        strike(draw, inside, 0, size)
    shown = reaped(fleet, lambda: None, pid=2**31)
    mine = [obituary for obituary in shown.obituaries if (obituary.slot, obituary.generation) == (VICTIM, 1)]
    assert len(mine) == 1
    assert mine[0].requests == COUNT
    assert len(shown.obituaries) <= OBITUARIES
    assert fleet.writers[VICTIM]._folding.claim.alive.try_acquire()
    fleet.restore()


@examples(300)
@given(st.binary(max_size=300) | st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
       lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FACTS, "label", "age"]), inner),
       max_leaves=8), st.sampled_from([*FACTS, "requests_in_flight", "last_records"]), words)  # fmt: skip
def test_an_entry_of_arbitrary_json_is_an_obituary_that_can_be_shown_or_none(value, name, word):
    if isinstance(value, bytes):
        payload = value
    else:
        document = FACTS | {"requests_in_flight": [], "last_records": []} | {name: value}
        payload = json.dumps(document).encode()[:PAYLOAD]
    found = parse(entry(payload, pid=word, ending=word))
    if found is not None:
        json.dumps(found.as_json(), allow_nan=False).encode()
        assert sentence(found, 1000.0).isprintable()
