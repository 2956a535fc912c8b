"""Forged input for the pure functions: records, folded areas, slot copies, workers and whole fleets, without a segment.

Whatever a test does not name has a harmless value, so that a test shows only what it is about.
"""

import math
from dataclasses import replace

import numpy as np

from shmetrics.board import Busy
from shmetrics.cells import Plan
from shmetrics.copies import SlotCopy, owners_of
from shmetrics.entries import Contents
from shmetrics.folded import Folded, merge
from shmetrics.layout import BOARD, CLAIMED, FOLDED, FREE, HEADER, LABEL_BYTES, OWNER, RECORD, Layout
from shmetrics.obituary import Obituary
from shmetrics.reader import HubCopy
from shmetrics.slots import Hot
from shmetrics.snapshot import Counters, Health, Snapshot, WorkerSnapshot

NOW = 1000.5
"""The monotonic time of every forged snapshot."""
LAYOUT = Layout(max_workers=4, window_size=100, max_series=16)


def records(times, **columns):
    """Records at these times. Other columns by name, one value or one for each; the default is a request of 0.1 s."""
    rows = np.zeros(len(times), RECORD)
    rows["time"] = times
    for name, value in {"inference_time": 0.1, "batch_size": 1.0, **columns}.items():
        rows[name] = value
    return rows


def _as_records(rows):
    """Records, or times that stand for default records."""
    return rows if getattr(rows, "dtype", None) == RECORD else records(rows)


def random_records(seed, count, *, seconds=40.0, start=900.0):
    """Records as a busy worker writes them: times and cumulative counters that only grow, some stages never run."""
    rng = np.random.default_rng(seed)
    return records(
        np.sort(rng.uniform(start, start + seconds, count)),
        inference_time=rng.lognormal(-3.0, 1.0, count),
        batch_size=rng.integers(1, 65, count),
        preprocessing_time=rng.exponential(0.002, count),
        quantization_time=np.where(rng.random(count) < 0.5, rng.uniform(0.0, 0.01, count), 0.0),
        errors=np.cumsum(rng.random(count) < 0.1),
        cache_hits=np.cumsum(rng.random(count) < 0.7),
        cache_misses=np.cumsum(rng.random(count) < 0.2),
    )


def folded_of(*batches):
    """A folded area to which these batches of records were added, in this order."""
    folded = Folded()
    for batch in batches:
        folded.add_rows(batch)
    return folded


def merged(*foldeds):
    """Folded areas added together."""
    return merge(np.array([folded.area for folded in foldeds], FOLDED))


def worker(rows=(), *, window_size=100, counters=None, **fields):
    """A live worker that recorded exactly `rows`, records or their times; busy since the oldest of its ``in_flight``.

    ``counters`` replaces single counts of those that the rows imply.
    """
    rows = _as_records(rows)
    window, before = rows[-window_size:], rows[:-window_size]
    if fields.get("in_flight"):
        begun = min(request.started_at for request in fields["in_flight"])
        fields.setdefault("busy", Busy(-begun, {int(begun): 0.0} if math.isfinite(begun) else {}))
    known = WorkerSnapshot(
        slot=0,
        generation=1,
        alive=True,
        counted=True,
        in_totals=True,
        stale=False,
        pid=4711,
        start_ticks=1,
        role="MainProcess",
        claimed_at=NOW - 500.0,
        last_seen=float(rows["time"][-1]) if len(rows) else NOW - 500.0,
        ended_at=None,
        counters=_counters_at(rows)._replace(**(counters or {})),
        kept=folded_of(rows).area,
        window=window,
        before_window=_counters_at(before),
        in_flight=(),
    )
    return replace(known, **fields)


def _counters_at(rows):
    if not len(rows):
        return Counters()
    last = rows[-1]
    return Counters(len(rows), int(last["errors"]), int(last["cache_hits"]), int(last["cache_misses"]))


def fleet(*workers, **fields):
    """A hub, 500 s old, in which these workers are all there ever was."""
    live = sum(worker.alive for worker in workers)
    known = Snapshot(
        name="forged",
        taken_at=NOW,
        taken_at_wall=1.7e9,
        created_at=NOW - 500.0,
        window_size=100,
        counters=sum((worker.counters for worker in workers), Counters()),
        folded=merged(*(worker.folded for worker in workers)),
        workers_seen=len(workers),
        peak_recorded=0.0,
        workers=workers,
        health=Health(
            bytes=LAYOUT.size,
            slots_live=live,
            slots_dead=len(workers) - live,
            slots_total=LAYOUT.max_workers,
            stale=False,
            stale_slots=0,
            corrupt={},
            corrupt_reaped=0,
            unlinked=False,
            seconds_waited=0.0,
        ),
    )
    return replace(known, **fields)


def obituary(**fields):
    """A worker that was killed a moment ago, serving one request."""
    known = Obituary(
        serial=1,
        slot=0,
        generation=1,
        pid=4711,
        role="MainProcess",
        exit_code=-9,
        oom_kills=0,
        noticed=NOW - 1.0,
        noticed_at=1.7e9 - 1.0,
        age=100.0,
        silent=2.0,
        believed=True,
        requests=1000,
        errors=3,
        cache_hits=0,
        cache_misses=0,
        rss_bytes=50 * 2**20,
        in_flight=1,
        requests_in_flight=({"label": "GET /predict", "age": 3.2},),
        last_records=(),
    )
    return replace(known, **fields)


def board_of(in_flight=(), *, history=None, **words):
    """A board with these requests on it: pairs of start and label. ``history``: busy words by second."""
    board = np.zeros(1, BOARD)
    for place, (start, label) in enumerate(in_flight):
        board["start"][0, place] = start
        board["label"][0, place] = np.void(label.encode().ljust(LABEL_BYTES, b"\0"))
    for place, (second, word) in enumerate((history or {}).items()):
        board["second"][0, place], board["busy_at"][0, place] = second, word
    for name, value in words.items():
        board[name] = value
    return board[0]


def slot_copy(
    slot,
    rows=(),
    *,
    folded=0,
    claimed=True,
    alive=True,
    generation=1,
    dropped=0,
    uncounted=0,
    in_flight=(),
    board=None,
    cells=None,
    **owner,
):
    """One slot as the reader brings it home: `rows` (records or their times), the first `folded` of them folded."""
    rows = _as_records(rows)
    identity = np.zeros(1, OWNER)
    known = {
        "state": CLAIMED if claimed else FREE,
        "generation": generation,
        "pid": 4711 + slot,
        "start_ticks": 1,
        "claimed_at": NOW - 100.0,
        "heartbeat": NOW - 100.0,
        "role": b"MainProcess",
    }
    for name, value in {**known, **owner}.items():
        identity[name] = value
    counters = _counters_at(rows)
    first = max(0, min(folded, len(rows) - LAYOUT.window_size - 1))
    return SlotCopy(
        slot=slot,
        claimed=claimed,
        alive=claimed and alive,
        generation=generation,
        owner=owners_of(identity)[0],
        hot=Hot(
            head=len(rows),
            fold=folded << 1,
            errors=counters.errors,
            cache_hits=counters.cache_hits,
            cache_misses=counters.cache_misses,
            dropped=dropped,
            uncounted=uncounted,
        ),
        kept=folded_of(rows).area,
        first=first,
        rows=rows[first:],
        board=board_of(in_flight, **(board or {})),
        cells=np.zeros(0) if cells is None else cells,
    )


def retired(rows=(), *, folded_generation=None, **counts):
    """A retired area that keeps `rows` of one dead worker; ``folded_generation`` maps slots to generations."""
    area = np.zeros(1, LAYOUT.retired)
    if len(rows):
        last = _counters_at(rows)
        area["incarnations"], area["requests"], area["errors"] = 1, last.requests, last.errors
        area["cache_hits"], area["cache_misses"] = last.cache_hits, last.cache_misses
        area["folded"][0] = folded_of(rows).area
    for slot, generation in (folded_generation or {}).items():
        area["folded_generation"][0, slot] = generation
    for name, value in counts.items():
        area[name] = value
    return area[0]


def hub_copy(*slots, retired_area=None, stale=(), header=None, **fields):
    """All that one read brings home."""
    head = np.zeros(1, HEADER)
    for name, value in {"created_monotonic": NOW - 500.0, **(header or {})}.items():
        head[name] = value
    known = HubCopy(
        name="forged",
        layout=LAYOUT,
        taken_at=NOW,
        taken_at_wall=1.7e9,
        unlinked=False,
        header=head[0],
        slots=list(slots),
        total=Folded(),
        retired=retired() if retired_area is None else retired_area,
        stale=list(stale),
        flaws={},
        plan=Plan(Contents()),
        refused_series=0,
        obituaries=(),
        seconds_waited=0.0,
    )
    return replace(known, **fields)
