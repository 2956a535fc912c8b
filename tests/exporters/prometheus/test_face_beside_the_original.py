"""The same operations done to prometheus_client and to the face give the same pages, sample by sample."""

import contextlib
import random
import time
from time import monotonic
from types import SimpleNamespace

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, context_managers, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from shmetrics.exporters import prometheus as face
from shmetrics.exporters.prometheus import around
from shmetrics.exporters.prometheus.home import current
from tests.processes import PATIENCE, run_in_processes

SEEDS = range(12)
WORKERS = 3
VALUES = ["a", "b", "é", 'with "quotes"\n', 7]
BUCKETS = [0.25, 1, "4", 16]
STEP = 0.125
"""Seconds that pass from one look at the clock to the next."""


def build(module):
    """One metric of each kind and shape, on a registry of their own."""
    registry = CollectorRegistry()

    def make(kind, name, *args, **options):
        return getattr(module, kind)(name, f"Help of {name}.", *args, registry=registry, **options)

    world = SimpleNamespace(
        registry=registry,
        plain=[
            make("Counter", "requests_total"),
            make("Gauge", "queue", namespace="app", subsystem="in", unit="jobs", multiprocess_mode="sum"),
            make("Histogram", "latency", unit="seconds"),
            make("Summary", "size", unit="bytes"),
        ],
        labelled=[
            make("Counter", "tokens", ["model", "code"], namespace="app"),
            make("Gauge", "load", ["model", "code"], multiprocess_mode="livesum"),
            make("Histogram", "steps", ["model", "code"], buckets=BUCKETS),
            make("Summary", "wait", ["model", "code"]),
        ],
        own=make("Gauge", "own", ["model", "code"]),
        newest=make("Gauge", "newest", multiprocess_mode="mostrecent"),
        info=make("Info", "build", ["model"]),
        version=make("Info", "version"),
        enum=make("Enum", "task", ["model"], states=["off", "on", "broken"]),
        power=make("Enum", "power", states=["off", "on"]),
    )
    return world


class Operations:
    """Operations on a world, the same for the same seed. Each returns what was raised, by type."""

    ADDING = ("add", "measure", "fail", "progress")
    """Those whose order makes no difference."""
    ALL = (*ADDING, "set", "say", "remove", "clear", "wrong")

    def __init__(self, seed):
        self._random = random.Random(seed)

    def run(self, world, count, kinds=ALL):
        raised = []
        for _ in range(count):
            operation = getattr(self, self._random.choice(kinds))
            try:
                operation(world)
                raised.append(None)
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                raised.append(type(error))
        return raised

    def _labels(self):
        return self._random.choice(VALUES), self._random.choice(VALUES)

    def _child(self, metric):
        model, code = self._labels()
        if self._random.random() < 0.5:
            return metric.labels(model, code)
        return metric.labels(code=code, model=model)

    def _one(self, world, kind):
        if self._random.random() < 0.5:
            return world.plain[kind]
        return self._child(world.labelled[kind])

    def _amount(self):
        return self._random.choice([0, 1, 0.25, 0.125, 0.5, 1.0, 2.5, 4, 9.75, 16, 1000])

    def add(self, world):
        kind = self._random.randrange(4)
        metric, amount = self._one(world, kind), self._amount()
        if kind == 0:
            metric.inc(amount) if amount != 1 else metric.inc()
        elif kind == 1:
            self._random.choice([metric.inc, metric.dec])(amount)
        else:
            metric.observe(amount)

    def measure(self, world):
        metric = self._one(world, self._random.choice([2, 3]))
        if self._random.random() < 0.5:
            with metric.time() as timer:
                pass
            assert timer is None or timer.duration == STEP
        else:
            decorated = metric.time()(lambda depth: depth and decorated(depth - 1))
            assert decorated(0) == 0

    def fail(self, world):
        counter = self._one(world, 0)
        error = self._random.choice([KeyError, ValueError, OSError])
        counting = counter.count_exceptions(self._random.choice([LookupError, (KeyError, OSError), Exception]))
        with contextlib.suppress(error):
            if self._random.random() < 0.5:
                with counting:
                    raise error
            counting(lambda: (_ for _ in ()).throw(error))()

    def progress(self, world):
        gauge = self._one(world, 1)
        if self._random.random() < 0.5:
            with gauge.track_inprogress():
                gauge.inc(2)
        else:
            gauge.track_inprogress()(lambda: gauge.dec(4))()

    def set(self, world):
        value = self._random.choice([0, -3, 2.5, "7", 1e300, float("inf")])
        gauge = self._random.choice([world.plain[1], world.newest, world.own])
        if gauge is world.own:
            gauge = self._child(gauge)
        choice = self._random.random()
        if choice < 0.6:
            gauge.set(value)
        elif choice < 0.8:
            gauge.set_to_current_time()
        else:
            with gauge.time():
                pass

    def say(self, world):
        model, state = self._random.choice(VALUES), self._random.choice(["off", "on", "broken"])
        choice = self._random.randrange(4)
        if choice == 0:
            world.info.labels(model).info({"text": str(model), "n": state})
        elif choice == 1:
            world.version.info({"release": state})
        elif choice == 2:
            world.enum.labels(model=model).state(state)
        else:
            world.power.state(state)

    def remove(self, world):
        metric, (model, code) = self._random.choice([*world.labelled, world.own]), self._labels()
        if self._random.random() < 0.8:
            metric.remove(model, code)
        elif metric is not world.own and hasattr(metric, "remove_by_labels"):
            metric.remove_by_labels({"code": code})
        if self._random.random() < 0.5 and metric is not world.own:
            metric.labels(model, code)

    def clear(self, world):
        if self._random.random() < 0.2:
            self._random.choice([*world.labelled, world.own]).clear()

    def wrong(self, world):
        counter, gauge, histogram, _ = world.labelled
        self._random.choice([
            lambda: counter.labels("a", "b").inc(-1),
            counter.inc,
            gauge.track_inprogress,
            lambda: histogram.observe(1),
            lambda: counter.labels("a"),
            counter.labels,
            lambda: counter.labels("a", code="b"),
            lambda: counter.labels(model="a", kind="b"),
            lambda: counter.labels("a", "b").labels("a", "b"),
            lambda: world.plain[0].labels("a"),
            lambda: world.plain[0].remove("a"),
            lambda: counter.remove("a"),
            world.newest.inc,
            world.newest.dec,
            lambda: world.power.state("broken"),
            lambda: world.info.labels("a").info({"model": "a"}),
            lambda: world.info.labels("a").info({"text": None}),
        ])()  # fmt: skip


def samples(world):
    """Every sample of a world's page: when each was made is not ours to say, which worker a gauge is of is."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(world.registry).decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = {name: text for name, text in sample.labels.items() if name != "worker"}
                key = sample.name, frozenset(labels.items())
                assert key not in found
                found[key] = sample.value
    return found


def headers(world):
    """The HELP and TYPE lines of a world's page, but those of creation times."""
    lines = generate_latest(world.registry).decode().splitlines()
    return [line for line in lines if line.startswith("#") and "_created" not in line]


@pytest.fixture(autouse=True)
def _steady_clocks(monkeypatch):
    """Whatever is timed takes STEP, and the time is always the same."""

    class Clock:
        now = 0.0

        def __call__(self):
            self.now += STEP
            return self.now

    monkeypatch.setattr(context_managers, "default_timer", Clock())
    monkeypatch.setattr(around, "perf_counter", Clock())
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.25)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_of_one_process_give_the_page_of_the_original(hub, seed):
    original, ours = build(prometheus_client), build(face)
    assert headers(ours) == headers(original)
    assert samples(ours) == samples(original)
    for part in range(6):
        run = f"{seed}.{part}"
        assert Operations(run).run(ours, 60) == Operations(run).run(original, 60)
        assert samples(ours) == samples(original)


def _work(world, seed, index):
    return Operations(f"{seed}.{index}").run(world, 400, Operations.ADDING)


def _work_of_a_worker(world, seed, index):
    raised = _work(world, seed, index)
    deadline = monotonic() + PATIENCE
    while current().metrics.book.waiting:  # new series that have no place yet
        assert monotonic() < deadline
        current().metrics.book.settle()
    return raised


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_random_operations_of_three_forked_workers_give_the_page_of_one_process_that_did_all(hub, seed):
    original, ours = build(prometheus_client), build(face)
    raised = run_in_processes("fork", WORKERS, _work_of_a_worker, ours, seed)
    for index in range(WORKERS):
        assert raised[index] == _work(original, seed, index)
    found, wanted = samples(ours), samples(original)
    live = {key for key in wanted if key[0] == "load"}  # a gauge of the living, and they have ended
    wanted = {key: 0.0 if key in live else value for key, value in wanted.items()}
    # A series that had to wait for its place, and to which only 0 was added meanwhile, was never begun.
    assert {key: value for key, value in wanted.items() if value or key in found} == found


def test_a_seed_raises_something_and_does_something(hub):
    raised = Operations(0).run(build(face), 400)
    assert {None, ValueError, RuntimeError} <= set(raised)
    assert raised.count(None) > 200
