"""Merging: from one read's copies of slots to one `Snapshot` of the fleet. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from shmetrics import native
from shmetrics.arrays import np
from shmetrics.board import Busy, busy_of, crowd_of, requests_on
from shmetrics.copies import SlotCopy
from shmetrics.exemplars import INFERENCE_TIME, slowest
from shmetrics.folded import merge, unpacked
from shmetrics.layout import FOLDED
from shmetrics.reader import HubCopy
from shmetrics.series import families
from shmetrics.slots import LINGER
from shmetrics.snapshot import Counters, Health, Snapshot, WorkerSnapshot, added
from shmetrics.texts import printable

_NOTHING = Counters()
_NEVER_BUSY = Busy()
_MOST = 1 << 62
"""Nanoseconds of over a hundred years, and more objects than there can be."""
_COUNTERS = ("requests", "errors", "cache_hits", "cache_misses", "dropped")


def snapshot(copy: HubCopy, previous: Snapshot | None = None) -> Snapshot:
    """The fleet as `copy` shows it: live workers, the windows of those that ended, and what the retired area keeps.

    What changed faster than it could be copied is shown as `previous` had it, marked stale: a slot, or where it is the
    retired area, everything.
    """
    if copy.retired is None and previous is not None:
        return replace(previous, health=replace(previous.health, stale=True, corrupt=copy.flaws))
    header = copy.header
    retired = np.zeros((), copy.layout.retired) if copy.retired is None else copy.retired
    # A worker reaped while we were reading is in the retired area already, and so may be its successor in the slot;
    # whoever is not, counts from its slot.
    retired_generation = retired["folded_generation"].tolist()
    is_believed = [f"slot {slot.slot}" not in copy.flaws for slot in copy.slots]
    is_retired = [
        not believed or not slot.claimed or retired_generation[slot.slot] >= slot.generation
        for slot, believed in zip(copy.slots, is_believed, strict=True)
    ]
    facts, fleet = native.instead("worker_facts", _facts), _Fleet(copy.taken_at, copy.layout.window_size)
    workers = [
        _worker(slot, facts, fleet, retired=done)
        for slot, believed, done in zip(copy.slots, is_believed, is_retired, strict=True)
        # A FREE slot that the retired area does not know is one whose claimant died half-way: no worker to show.
        if believed and (slot.claimed or retired_generation[slot.slot] == slot.generation)
    ]
    counted, still = [worker for worker in workers if worker.in_totals], list[WorkerSnapshot]()
    in_totals = [not done and slot.hot.head > 0 for slot, done in zip(copy.slots, is_retired, strict=True)]
    is_total_right = in_totals == [slot.is_added for slot in copy.slots]  # as it mostly is where C is used
    if copy.stale and previous is not None:
        stale = [
            _as_stale(worker, copy, retired=retired_generation[worker.slot] >= worker.generation)
            for worker in previous.workers
            if worker.slot in copy.stale
        ]
        workers = sorted(workers + stale, key=lambda worker: worker.slot)
        still = [worker for worker in stale if worker.in_totals]
        is_total_right = is_total_right and not still
        counted += still
    kept = [slot.kept for slot, counts in zip(copy.slots, in_totals, strict=True) if counts]
    kept += [worker.kept for worker in still]
    areas = [copy.total.area] if is_total_right else list(map(unpacked, kept))
    shown = slowest([each for slot in copy.slots for each in slot.exemplars], copy.taken_at_wall)
    total = Counters(*(int(retired[name]) for name in _COUNTERS)) + Counters(dropped=int(header["dropped"]))
    return Snapshot(
        name=copy.name,
        taken_at=copy.taken_at,
        taken_at_wall=copy.taken_at_wall,
        created_at=_time(header["created_monotonic"], copy.taken_at),
        window_size=copy.layout.window_size,
        counters=added([total, *(worker.counters for worker in counted)]),
        folded=merge(np.array([*areas, retired["folded"]], FOLDED)),
        workers_seen=int(retired["incarnations"]) + len(counted),
        peak_recorded=float(np.nan_to_num(header["peak_throughput"], posinf=0.0)),
        workers=tuple(workers),
        health=Health(
            bytes=copy.layout.size,
            slots_total=copy.layout.max_workers,
            slots_live=sum(worker.alive for worker in workers),
            slots_dead=sum(not worker.alive for worker in counted),
            stale=copy.retired is None,
            stale_slots=len(copy.stale),
            corrupt=copy.flaws,
            corrupt_reaped=int(header["corrupt"]),
            unlinked=copy.unlinked,
            seconds_waited=copy.seconds_waited,
            catalog_used=copy.plan.contents.used_blocks.count(1),
            catalog_total=copy.layout.max_series,
            cells_used=copy.plan.contents.used_cells.count(1),
            cells_total=copy.layout.cells,
            refused_series=copy.refused_series,
        ),
        families=families(
            copy.plan,
            np.asarray(retired["cells"]),
            workers,
            copy.taken_at,
            shown,
        ),
        obituaries=copy.obituaries,
        exemplars=tuple(each for (series, _), each in sorted(shown.items()) if series == INFERENCE_TIME),
    )


class _Fleet(NamedTuple):
    """What has to be known of the fleet to tell the facts about a worker."""

    now: float
    window_size: int
    linger: float = LINGER
    most: int = _MOST
    """From here on a count cannot be believed."""
    nothing: Counters = _NOTHING
    """The counters before the first record."""


def _worker(copy: SlotCopy, facts: _Facts, fleet: _Fleet, *, retired: bool) -> WorkerSnapshot:
    known, board = facts(copy, retired, fleet), copy.board
    known["role"] = _role(known["role"])
    known["in_flight"] = () if board is None else requests_on(board, fleet.now)
    known["crowd"] = 0 if board is None else crowd_of(board)
    known["busy"] = _NEVER_BUSY if board is None else busy_of(board)
    worker = object.__new__(WorkerSnapshot)
    object.__setattr__(worker, "__dict__", known)  # its constructor sets field by field, past its own lock: far longer
    return worker


_Facts = Callable[[SlotCopy, bool, _Fleet], dict[str, Any]]
_role = lru_cache(1024)(printable)
"""Roles as they are shown: those of one fleet are mostly the same, read after read."""


def _facts(copy: SlotCopy, retired: bool, fleet: _Fleet) -> dict[str, Any]:
    """What is known of a worker, but for its board: the fields of `WorkerSnapshot`."""
    hot, owner, rows = copy.hot, copy.owner, copy.rows
    now, alive = fleet.now, copy.alive and not retired
    window_start = max(0, hot.head - fleet.window_size)
    before = fleet.nothing
    if window_start:
        *_, errors, hits, misses = rows.item(window_start - copy.first - 1)
        before = Counters(window_start, errors, hits, misses)
    last_seen = max(_time(owner.heartbeat, now), _time(rows.item(-1)[0], now) if len(rows) else 0.0)
    ended_at = _time(owner.ended_at, now) or None
    return {
        "slot": copy.slot,
        "generation": copy.generation,
        "alive": alive,
        "counted": alive or (ended_at or last_seen) > now - fleet.linger,
        "in_totals": not retired,
        "stale": False,
        "pid": owner.pid,
        "start_ticks": owner.start_ticks,
        "role": owner.role,
        "claimed_at": _time(owner.claimed_at, now),
        "last_seen": last_seen,
        "ended_at": None if alive else ended_at,
        "expected": owner.ended_at < 0.0,
        "counters": Counters(hot.requests, hot.errors, hot.cache_hits, hot.cache_misses, hot.dropped),
        "kept": copy.kept,
        "window": rows[window_start - copy.first :],
        "before_window": before,
        "cells": copy.cells,
        "garbage_counts": owner.garbage if max(owner.garbage) < fleet.most else [],
    }


def _as_stale(worker: WorkerSnapshot, hub: HubCopy, *, retired: bool) -> WorkerSnapshot:
    """A worker of an earlier snapshot, whose slot could not be copied now."""
    alive = worker.alive and not retired
    return replace(
        worker,
        stale=True,
        alive=alive,
        in_totals=worker.in_totals and not retired,
        counted=alive or (worker.ended_at or worker.last_seen) > hub.taken_at - LINGER,
    )


def _time(value: Any, now: float) -> float:
    """A time read from shared memory, made plausible: from 0 to now."""
    if 0.0 < value <= now:
        return float(value)
    return now if value > 0.0 else 0.0
