"""Findings: what an operator should know of a fleet, each said by one rule. Pure.

A rule is one small function of the `Evidence` that yields findings; `RULES` lists them. To add one, write it, name its
thresholds above it, and put it into the list. A finding says who, what, how much against what, and what to do.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from shmetrics import stragglers
from shmetrics.evidence import Evidence, Finding, Rule, about
from shmetrics.obituary import Obituary, sentence, way
from shmetrics.texts import counted, duration


def find(evidence: Evidence) -> list[Finding]:
    """Everything there is to say, in the order of `RULES`."""
    return [finding for rule in RULES for finding in rule(evidence)]


# Workers that stand still ---------------------------------------------------------------------------------------------


def _stuck(evidence: Evidence) -> Iterator[Finding]:
    """A request in flight for longer than ``stuck_after``; the worker hangs if it has recorded nothing either."""
    now, limit = evidence.fleet.taken_at, evidence.stuck_after
    for worker in evidence.live:
        late = [request for request in worker.in_flight if now - request.started_at > limit]
        if not late or evidence.state(worker) in _STOPPED:
            continue
        age, silent = now - late[0].started_at, now - worker.last_seen
        what = f"{late[0].label or 'one request'} for {duration(age)}"
        if len(late) > 1:
            what += f", and {len(late) - 1} more for over {duration(limit)}"
        look = f"look at it (py-spy dump --pid {worker.pid})"
        if silent > limit:
            said = f"has recorded nothing for {duration(silent)}"
            text = f"hangs: it has been serving {what}, and {said}; {look}, or end it"
            yield about(worker, "hung_worker", "problem", text, value=age, threshold=limit)
        else:
            text = f"has been serving {what}, while it goes on, with others or with parts of it; {look}"
            yield about(worker, "stuck_request", "warning", text, value=age, threshold=limit)


_STOPPED: Final = ("T", "t")


def _stopped(evidence: Evidence) -> Iterator[Finding]:
    """A process that was stopped by a signal, or by a debugger."""
    now = evidence.fleet.taken_at
    for worker in evidence.live:
        if evidence.state(worker) in _STOPPED:
            text = "is alive but stopped (SIGSTOP, a debugger?); continue it, or end it"
            yield about(worker, "stopped_worker", "problem", text, value=now - worker.last_seen, threshold=0.0)


# Workers that died ----------------------------------------------------------------------------------------------------

RECENT_DEATH: Final = 300.0
"""Seconds for which a death is news."""
_DEATHS_SHOWN: Final = 3
_REQUESTS_SHOWN: Final = 3
_GONE: Final = (None, "Z", "X")
"""States of a process that is no more, or is a zombie. One that closed its descriptors has lost its slot, and lives."""


def _dead(evidence: Evidence) -> Iterator[Finding]:
    """Workers that crashed, or were lost with requests in flight; the newest one by one."""
    now = evidence.fleet.taken_at
    recent = [each for each in evidence.fleet.obituaries if each.is_news and now - each.noticed < RECENT_DEATH]
    for obituary in reversed(recent[-_DEATHS_SHOWN:]):
        yield Finding(
            "dead_worker",
            "problem",
            f"{sentence(obituary, now)}; shmetrics obituaries {evidence.fleet.name} tells more",
            worker=obituary.slot,
            pid=obituary.pid,
            value=now - obituary.noticed,
            threshold=RECENT_DEATH,
        )
    if len(recent) > _DEATHS_SHOWN:
        text = f"{len(recent)} workers died in the last {duration(RECENT_DEATH)}; {_ways(recent)}"
        yield Finding("many_deaths", "problem", text, value=len(recent), threshold=_DEATHS_SHOWN)


def _lost(evidence: Evidence) -> Iterator[Finding]:
    """Workers that are gone over their requests, while nobody is there to write their obituaries."""
    fleet = evidence.fleet
    if evidence.has_aggregator:
        return  # it is about to
    for worker in fleet.workers:
        is_seen = worker.in_totals and not worker.stale and evidence.state(worker) in _GONE
        if worker.gone_unnoticed and is_seen and worker.in_flight_count:
            seen = max([worker.last_seen, *(request.started_at for request in worker.in_flight)])
            labels = ", ".join(request.label or "one" for request in worker.in_flight[:_REQUESTS_SHOWN])
            count = worker.in_flight_count
            labels += ", ..." if labels and count > _REQUESTS_SHOWN else ""
            text = (
                f"is gone, with {counted(count, 'request')} in flight{labels and f' ({labels})'}; it was last seen "
                f"{duration(fleet.taken_at - seen)} ago; `shmetrics serve {fleet.name}` writes its obituary and frees "
                f"its slot"
            )
            yield about(worker, "lost_worker", "problem", text, value=count, threshold=1)


def _ways(obituaries: Sequence[Obituary]) -> str:
    """How many of them ended in each way."""
    ways = ["in an unknown way" if each.exit_code is None else f"by {way(each)}" for each in obituaries]
    return ", ".join(f"{ways.count(each)} {each}" for each in sorted(set(ways)))


# What the hub itself has to say ---------------------------------------------------------------------------------------


def _dropped(evidence: Evidence) -> Iterator[Finding]:
    """Records of workers that found no slot."""
    fleet = evidence.fleet
    if fleet.counters.dropped:
        text = (
            f"{fleet.counters.dropped:,} records were dropped: there were more workers than the "
            f"{fleet.health.slots_total} slots; stop the server, `shmetrics rm {fleet.name}`, and start it with a "
            f"larger max_workers"
        )
        yield Finding("dropped_records", "problem", text, value=fleet.counters.dropped, threshold=1)


def _invalid(evidence: Evidence) -> Iterator[Finding]:
    """Measurements that are none."""
    count = int(evidence.fleet.folded.invalid)
    if count:
        text = f"{count:,} records with NaN, infinite or negative measurements are left out; look at what measures them"
        yield Finding("invalid_records", "warning", text, value=count, threshold=1)


def _beliefs(evidence: Evidence) -> Iterator[Finding]:
    """What could not be believed, or not be copied."""
    health = evidence.fleet.health
    for part, why in health.corrupt.items():
        text = f"{part} cannot be believed and is left out: {why}; restart the server with a fresh hub"
        yield Finding("corrupt", "problem", text)
    if health.corrupt_reaped:
        text = f"{health.corrupt_reaped:,} dead workers left slots that could not be believed; theirs is lost"
        yield Finding("corrupt_reaped", "problem", text, value=health.corrupt_reaped, threshold=1)
    if health.stale:
        yield Finding("stale", "warning", "these figures are older: what dead workers left could not be copied now")
    if health.stale_slots:
        text = f"{health.stale_slots} slots changed too fast to be copied; they are shown as they were before"
        yield Finding("stale_slots", "warning", text, value=health.stale_slots, threshold=1)
    if health.unlinked:
        text = "its name was removed; workers that start now will not find it; restart the server"
        yield Finding("unlinked", "problem", text)


_NEARLY_FULL: Final = 0.9


def _series(evidence: Evidence) -> Iterator[Finding]:
    """Room for custom metrics."""
    health = evidence.fleet.health
    used = (
        f"custom metrics take {health.catalog_used:,} of {health.catalog_total:,} blocks, and {health.cells_used:,} of "
        f"{health.cells_total:,} cells"
    )
    remedy = "use fewer label values, or create the hub with a larger max_series"
    fill = max(_ratio(health.catalog_used, health.catalog_total), _ratio(health.cells_used, health.cells_total))
    if health.refused_series:
        text = f"{used}, and series were refused; {remedy}"
        yield Finding("refused_series", "problem", text, value=health.refused_series, threshold=1)
    elif fill > _NEARLY_FULL:
        yield Finding("series_nearly_full", "warning", f"{used}; {remedy}", value=fill, threshold=_NEARLY_FULL)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


RULES: Final[tuple[Rule, ...]] = (
    _stuck,
    _stopped,
    _dead,
    _lost,
    *stragglers.RULES,
    _dropped,
    _invalid,
    _beliefs,
    _series,
)
