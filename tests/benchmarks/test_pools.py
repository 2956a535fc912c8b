"""Pools that are compared."""

import multiprocessing
import os
import signal

import psutil
import pytest

from shmetrics.benchmarks.scenarios import pools


def test_a_pool_whose_worker_does_no_more_is_not_waited_for_for_ever(monkeypatch):
    before = {child.pid for child in psutil.Process().children()}
    with multiprocessing.get_context("fork").Pool(1) as pool:
        (worker,) = {child.pid for child in psutil.Process().children()} - before
        assert pools._turn(pool, 1)() > 0.0
        monkeypatch.setattr(pools, "PATIENCE", 0.1)
        os.kill(worker, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError, match="has its worker been killed"):
                pools._turn(pool, 1)()
        finally:
            os.kill(worker, signal.SIGCONT)
        # A pool that is ended while its worker tells what it has done may wait for the rest of that for ever.
        assert pool.apply(os.getpid) == worker
