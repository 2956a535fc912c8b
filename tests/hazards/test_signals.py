"""Signal handlers that record, that raise, and that do so at every single moment of a write."""

import itertools
import traceback

import pytest

from tests.hazards.injection import KINDS, Interrupt, happen, interrupt
from tests.hazards.worlds import World, descriptors

SCENES = {
    "first record": ((), World.record),
    "first record with others waiting": ((World.let_records_wait,), World.record),
    "record": ((World.record,), World.record),
    "record that folds": ((World.fill_batch,), World.record),
    "record that waits for the registry": ((), lambda world: world.while_registry_is_busy(world.record)),
    "first error": ((), World.add),
    "error": ((World.record,), World.add),
    "claim": ((), lambda world: world.writer.claim()),
    "close": ((World.record,), lambda world: world.writer.close()),
    "close with records waiting": ((World.let_records_wait,), lambda world: world.writer.close()),
}


def through(kind, scene, act, hub_name, check):
    """Play a scene as often as it has moments, `act` at each, and say where `check` failed afterwards."""
    prepare, write = SCENES[scene]
    failures = []
    for number in itertools.count():
        with World(hub_name) as world:
            for step in prepare:
                step(world)
            place = happen(kind, number, lambda world=world: act(world), lambda world=world: write(world))
            world.clock.step = 0.0
            try:
                check(world)
            except Exception as error:
                failures.append(f"{place}: {error!r}"[:300])
        if place is None:
            break
    print(scene, kind, number)
    return failures


@pytest.fixture
def quiet_destructors(monkeypatch):
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", [s for s in SCENES if "close" not in s])
def test_a_raise(hub_name, scene, kind, quiet_destructors):
    before = descriptors()
    def check(world):
        world.check_slot()
        world.check()
    failures = through(kind, scene, lambda world: interrupt(), hub_name, check)
    assert not failures, "\n".join(["", *failures])
    assert descriptors() == before

@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", [s for s in SCENES if "close" in s])
def test_a_raise_close(hub_name, scene, kind, quiet_destructors):
    before = descriptors()
    def check(world):
        world.writer.close()
        assert world.held() == []
        world.check()
    failures = through(kind, scene, lambda world: interrupt(), hub_name, check)
    assert not failures, "\n".join(["", *failures])
    assert descriptors() == before
