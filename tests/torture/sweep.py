"""The sweep: every state that one writer or one reaper can be stopped in, or killed in, once each, in quiet.

A process stops itself at a line; the monitor looks, and somebody reaps, who must leave the living alone. Then the
process is killed there, and the monitor looks before and after another reap. The slots are used again and again, so
what a predecessor left is always there to be mistaken for one's own.
"""

import signal

from shmetrics.layout import FOLD_BATCH
from tests.torture import workers
from tests.torture.failpoints import Fate, points_of
from tests.torture.scenarios import leave_a_dead_writer

RECORDS = FOLD_BATCH + 44
"""More than one batch, so that a writer folds."""
SHARE = 0.25
"""How much of a run the sweep may take."""
_VISITS = {"writer.Writer.record": (1, 2, 7), "writer.Writer.add": (1, 2, 7)}
_FIRST = (
    *("writer.Writer.record", "writer.Writer._move_in", "folding.Folding.fold", "slots._take", "slots._retire"),
    *("obituaries.write", "obituaries.Obituaries.add"),
)
_WRITER_STEPS = ("claim", "renew", "serve", "write", "fold", "release")


def sweep(torture):
    """Visit the points in random order, those where a step is decided first, as many as there is time for."""
    points = [(workers.write, *point) for step in _WRITER_STEPS for point in points_of(step)]
    points += [(workers.reap, *point) for point in points_of("reap")]
    torture.draw.shuffle(points)
    points.sort(key=lambda point: point[1] not in _FIRST)
    for role, function, line in points:
        if torture.is_over or torture.share > SHARE:
            return
        fate = Fate(function, line, (torture.draw.choice(_VISITS.get(function, (1,))),), signal.SIGSTOP)
        if role is workers.reap:
            leave_a_dead_writer(torture)
        process = torture.fleet.start(role, fate, RECORDS)
        if torture.fleet.halted(process, rounds=3):
            torture.look()
            if role is workers.write:
                torture.reap()
        torture.fleet.kill_now(process)
        torture.look()
        torture.reap()
        torture.look()
