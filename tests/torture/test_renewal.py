"""Owners that die again and again while they renew their guard leave no more behind than once."""

import os

from shmetrics import naming, slots
from shmetrics import writer as writers
from tests.processes import in_forked_child
from tests.torture.failpoints import Fate, points_of


def test_deaths_at_every_line_of_a_renewal_leave_two_guards_at_most(make_segment):
    target = make_segment(max_workers=1)
    prefix = "sem." + naming.semaphore_prefix(target.name, target.instance)
    for function, line in points_of("renew"):
        for _ in range(3):
            _die(target, Fate(function, line))
            slots.reap(target)
            left = [file for file in os.listdir(naming.SHM_DIR) if file.startswith(prefix)]
            assert len(left) <= 2, (function, line, left)
    in_forked_child(lambda: _claim(target))  # and whoever comes next has a guard
    assert len([file for file in os.listdir(naming.SHM_DIR) if file.startswith(prefix)]) == 1


def _claim(target):
    writers.Writer(target).record(0.1)


def _die(target, fate):
    pid = os.fork()
    if not pid:
        try:
            fate.seal()
            _claim(target)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
