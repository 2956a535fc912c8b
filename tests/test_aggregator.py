"""The aggregator: one leads, another is ready, the dead are noticed and the best second is kept."""

import math
import time

import pytest

from shmetrics import doorbell, obituaries, oom, segment, slots
from shmetrics.aggregator import STANDBY_INTERVAL, Aggregator
from shmetrics.layout import CLAIMED, FREE
from shmetrics.locks import ROLE, is_locked
from shmetrics.writer import Writer
from tests.conftest import FakeClock
from tests.processes import in_forked_child
from tests.test_forks import Child, Survivor

TAKEOVER = 1.0
BEST = 50


@pytest.fixture
def clock():
    """A clock under the test's control, that starts where the clock of the processes it starts is."""
    return FakeClock(time.monotonic())


@pytest.fixture
def make_aggregator(make_segment, clock):
    """A function that makes an aggregator with an attachment of its own, on the test's clock."""
    target = make_segment()
    made = []

    def make():
        aggregator = Aggregator(segment.attach(target.name, writable=True), clock=clock, sleep=clock.sleep)
        made.append(aggregator)
        return aggregator

    yield make
    for aggregator in made:
        aggregator.close()


@pytest.fixture
def hub(make_aggregator, hub_name):
    """The hub that the aggregators serve, as its workers have it."""
    return segment.attach(hub_name, writable=True)


def lead(aggregator):
    assert aggregator.try_lead()
    return aggregator


# Leading --------------------------------------------------------------------------------------------------------------


def test_nobody_leads_before_trying_to(make_aggregator, hub):
    assert not make_aggregator().leads
    assert not is_locked(hub.descriptor, ROLE)


def test_the_first_leads_and_stays_when_it_tries_again(make_aggregator, hub):
    first = make_aggregator()
    assert first.try_lead()
    assert first.try_lead()
    assert first.leads
    assert is_locked(hub.descriptor, ROLE)


def test_the_second_stands_by(make_aggregator):
    lead(make_aggregator())
    second = make_aggregator()
    assert not second.try_lead()
    assert not second.leads


def test_the_second_leads_once_the_first_has_closed(make_aggregator):
    first, second = lead(make_aggregator()), make_aggregator()
    first.close()
    assert not first.leads
    assert second.try_lead()


def test_a_standby_that_closes_leaves_the_leader_and_its_bell(make_aggregator, hub):
    leader, standby = lead(make_aggregator()), make_aggregator()
    standby.try_lead()
    standby.close()
    assert leader.leads
    assert doorbell.ring(hub)


def takes_over(standby):
    """Whether a standby leads within TAKEOVER seconds, trying as often as it is told to."""
    deadline = time.monotonic() + TAKEOVER
    while not standby.try_lead():
        if time.monotonic() > deadline:
            return False
        time.sleep(STANDBY_INTERVAL)
    return True


def test_the_standby_takes_over_within_a_second_when_the_leader_is_killed(make_aggregator, hub):
    with Child(lambda: lead(make_aggregator())) as leader:
        standby = make_aggregator()
        assert not standby.try_lead()
        leader.make_zombie()
        assert takes_over(standby)
    assert doorbell.ring(hub)
    assert standby.wait(1.0)


def test_the_standby_takes_over_from_a_killed_leader_whose_child_lives(make_aggregator):
    def lead_and_fork():
        leader = lead(make_aggregator())
        survivor.fork()
        return leader

    with Survivor() as survivor, Child(lead_and_fork) as leader:
        standby = make_aggregator()
        assert not standby.try_lead()
        leader.kill()
        assert takes_over(standby)


def test_a_child_of_the_leader_does_not_lead_and_can_close_its_copy_without_harm(make_aggregator, hub):
    leader = lead(make_aggregator())

    def check():
        assert not leader.leads
        leader.close()

    in_forked_child(check)
    assert leader.leads
    assert is_locked(hub.descriptor, ROLE)
    assert doorbell.ring(hub), "the child took the leader's bell away"


# Waiting --------------------------------------------------------------------------------------------------------------


def test_the_leader_waits_until_the_next_tick_is_due(make_aggregator, clock):
    start = clock.now
    assert not lead(make_aggregator()).wait(5.0)
    assert clock.now == pytest.approx(start + 5.0)


def test_a_ring_ends_the_leaders_wait(make_aggregator, hub, clock):
    leader, start = lead(make_aggregator()), clock.now
    in_forked_child(lambda: doorbell.ring(hub))
    assert leader.wait(60.0)
    assert clock.now == start


def test_a_standby_waits_undisturbed(make_aggregator, hub, clock):
    lead(make_aggregator())
    standby = make_aggregator()
    doorbell.ring(hub)
    start = clock.now
    assert not standby.wait(0.2)
    assert clock.now == pytest.approx(start + 0.2)


def test_a_closed_aggregator_has_no_bell(make_aggregator, hub):
    lead(make_aggregator()).close()
    assert not doorbell.ring(hub)


# Ticking --------------------------------------------------------------------------------------------------------------


def record(hub, count, second=None):
    """Record in this process, all within one second of the monotonic clock if that is given."""
    writer = Writer(hub) if second is None else Writer(hub, clock=lambda: float(second))
    for _ in range(count):
        writer.record(0.01)
    return writer


def test_a_tick_reaps_the_dead_and_not_the_living(make_aggregator, hub):
    leader = lead(make_aggregator())
    living = record(hub, 3)
    with Child(lambda: record(hub, 5)):
        pass
    assert hub.slots["owner"]["state"][:2].tolist() == [CLAIMED, CLAIMED]
    figures = leader.tick()
    assert hub.slots["owner"]["state"][:2].tolist() == [CLAIMED, FREE]
    assert figures["total_requests"] == 8
    assert figures["active_workers"] == 1
    assert figures["workers_seen"] == 2
    living.close()


def test_a_tick_of_an_empty_hub_records_no_peak(make_aggregator, hub):
    assert lead(make_aggregator()).tick()["peak_throughput"] == 0.0
    assert hub.header["peak_throughput"] == 0.0


@pytest.fixture
def busy_hub(hub):
    """The hub, with BEST requests in a second that is over."""
    writer = record(hub, BEST, second=math.floor(time.monotonic()) - 2)
    yield hub
    writer.close()


@pytest.mark.parametrize("known", [0.0, BEST - 1.0])
def test_a_tick_records_a_better_second(make_aggregator, busy_hub, known):
    busy_hub.header["peak_throughput"] = known
    assert lead(make_aggregator()).tick()["peak_throughput"] == BEST
    assert busy_hub.header["peak_throughput"] == BEST


def test_a_tick_never_lowers_the_peak(make_aggregator, busy_hub):
    busy_hub.header["peak_throughput"] = BEST + 0.5
    leader = lead(make_aggregator())
    for _ in range(2):
        assert leader.tick()["peak_throughput"] == BEST + 0.5
    assert busy_hub.header["peak_throughput"] == BEST + 0.5


@pytest.mark.parametrize("forged", [math.nan, math.inf, -math.inf, -1.0])
def test_a_peak_that_cannot_be_is_repaired(make_aggregator, busy_hub, forged):
    busy_hub.header["peak_throughput"] = forged
    assert lead(make_aggregator()).tick()["peak_throughput"] == BEST
    assert busy_hub.header["peak_throughput"] == BEST


# What the leader notes ------------------------------------------------------------------------------------------------


def test_each_workers_memory_is_noted_in_its_slot_for_its_obituary(make_aggregator, hub):
    aggregator = lead(make_aggregator())
    with Child(lambda: recorded(hub)) as child:
        figures = aggregator.tick()
        (row,) = figures["workers"]
        assert slots.words_of(hub, 0)[slots.RSS_BYTES] == row["rss_bytes"] > 2**20
        child.make_zombie()
        aggregator.tick()
    (obituary,) = aggregator.obituaries()
    assert obituary.rss_bytes == row["rss_bytes"]


def recorded(hub):
    writer = Writer(hub)
    writer.record(0.1)
    return writer


def test_oom_kills_are_news_for_ten_seconds(make_aggregator, hub, clock, monkeypatch):
    """A process that large takes a while to go; and after a quarter of a minute it has nothing to do with it."""
    count = [1 << 48]
    monkeypatch.setattr(oom, "reading", lambda: count[0])
    obituaries.begin_to_watch_oom_kills(hub)
    aggregator = lead(make_aggregator())
    aggregator.tick()
    count[0] += 1
    for _ in range(9):
        clock.now += 1.0
        aggregator.tick()
        assert oom.kills_between(int(hub.raw[hub.layout.obituaries_offset :][:8].view("u8")[0]), count[0]) == 1
    for _ in range(20):
        clock.now += 1.0
        aggregator.tick()
    assert oom.kills_between(int(hub.raw[hub.layout.obituaries_offset :][:8].view("u8")[0]), count[0]) == 0


def test_what_is_stuck_is_up_to_the_operator(make_segment, clock):
    target = make_segment()
    writer = Writer(target, clock=clock)
    writer.record(0.1)
    writer.enter("GET /slow")
    clock.now += 3.0
    for limit, kinds in ((2.0, ["hung_worker"]), (4.0, [])):
        with Aggregator(
            segment.attach(target.name, writable=True), stuck_after=limit, clock=clock, sleep=clock.sleep
        ) as aggregator:
            lead(aggregator)
            assert [finding["kind"] for finding in aggregator.tick()["findings"]] == kinds
    writer.close()
