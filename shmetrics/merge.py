"""Merging: from one read's copies of slots to one `Snapshot` of the fleet. Pure."""

from dataclasses import replace
from typing import Any

import numpy as np

from shmetrics.board import Busy, busy_of, crowd_of, requests_on
from shmetrics.copies import SlotCopy
from shmetrics.exemplars import INFERENCE_TIME, slowest
from shmetrics.folded import merge
from shmetrics.reader import HubCopy
from shmetrics.series import families
from shmetrics.slots import LINGER
from shmetrics.snapshot import Counters, Health, Snapshot, WorkerSnapshot, added
from shmetrics.tails import add_tails
from shmetrics.texts import printable

_NOTHING = Counters()
_NEVER_BUSY = Busy()
_MOST = 1 << 62
"""Nanoseconds of over a hundred years, and more objects than there can be."""
_COUNTERS = ("requests", "errors", "cache_hits", "cache_misses", "dropped")


def snapshot(copy: HubCopy, previous: Snapshot | None = None) -> Snapshot:
    """The fleet as `copy` shows it: live workers, the windows of those that ended, and what the retired area keeps.

    What changed faster than it could be copied is shown as `previous` had it, marked stale: a slot, or where it is the
    retired area, everything. The folded data of `copy` becomes the snapshot's: the tails are added in place.
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
    workers = [
        _worker(slot, copy, retired=done)
        for slot, believed, done in zip(copy.slots, is_believed, is_retired, strict=True)
        # A FREE slot that the retired area does not know is one whose claimant died half-way: no worker to show.
        if believed and (slot.claimed or retired_generation[slot.slot] == slot.generation)
    ]
    counted = [worker for worker in workers if worker.in_totals]
    areas = copy.areas
    areas[0] = retired["folded"]
    add_tails(areas[1:], [slot.rows[slot.hot.folded - slot.first :] for slot in copy.slots])
    in_totals = [0, *(at for at, done in enumerate(is_retired, 1) if not done and copy.slots[at - 1].hot.head)]
    if copy.stale and previous is not None:
        stale = [
            _as_stale(worker, copy, retired=retired_generation[worker.slot] >= worker.generation)
            for worker in previous.workers
            if worker.slot in copy.stale
        ]
        workers = sorted(workers + stale, key=lambda worker: worker.slot)
        still = [worker for worker in stale if worker.in_totals]
        counted += still
        in_totals += range(len(areas), len(areas) + len(still))
        areas = np.concatenate([areas, *(worker.area.reshape(1) for worker in still)])
    shown = slowest([each for slot in copy.slots for each in slot.exemplars], copy.taken_at_wall)
    total = Counters(*(int(retired[name]) for name in _COUNTERS)) + Counters(dropped=int(header["dropped"]))
    return Snapshot(
        name=copy.name,
        taken_at=copy.taken_at,
        taken_at_wall=copy.taken_at_wall,
        created_at=_time(header["created_monotonic"], copy.taken_at),
        window_size=copy.layout.window_size,
        counters=added([total, *(worker.counters for worker in counted)]),
        folded=merge(areas, in_totals),
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


def _worker(copy: SlotCopy, hub: HubCopy, *, retired: bool) -> WorkerSnapshot:
    hot, owner, rows, now = copy.hot, copy.owner, copy.rows, hub.taken_at
    alive = copy.alive and not retired
    window_start = max(0, hot.head - hub.layout.window_size)
    window = rows[window_start - copy.first :]
    before = _NOTHING
    if window_start:
        *_, errors, hits, misses = rows.item(window_start - copy.first - 1)
        before = Counters(window_start, errors, hits, misses)
    last_seen = max(_time(owner.heartbeat, now), _time(rows.item(-1)[0], now) if len(rows) else 0.0)
    ended_at = _time(owner.ended_at, now) or None
    worker = object.__new__(WorkerSnapshot)
    worker.__dict__.update(  # its constructor sets field by field, past its own lock: three times as long
        slot=copy.slot,
        generation=copy.generation,
        alive=alive,
        counted=alive or (ended_at or last_seen) > now - LINGER,
        in_totals=not retired,
        stale=False,
        pid=owner.pid,
        start_ticks=owner.start_ticks,
        role=printable(owner.role),
        claimed_at=_time(owner.claimed_at, now),
        last_seen=last_seen,
        ended_at=None if alive else ended_at,
        counters=Counters(hot.requests, hot.errors, hot.cache_hits, hot.cache_misses, hot.dropped),
        area=copy.area,
        window=window,
        before_window=before,
        in_flight=() if copy.board is None else requests_on(copy.board, now),
        crowd=0 if copy.board is None else crowd_of(copy.board),
        busy=_NEVER_BUSY if copy.board is None else busy_of(copy.board),
        cells=copy.cells,
        garbage_counts=owner.garbage if max(owner.garbage) < _MOST else [],
    )
    return worker


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
    number = float(value)
    return min(number, now) if number > 0.0 else 0.0
