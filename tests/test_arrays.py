"""numpy comes when somebody reads, and not before: a worker that only records does without it."""

import subprocess
import sys

import numpy
import pytest

from shmetrics import arrays, native

BEGIN = """
import os, sys, threading
import shmetrics, shmetrics.workers.asgi, shmetrics.workers.wsgi, shmetrics.workers.gunicorn
assert "numpy" not in sys.modules, "imported"
"""
WORK = """
from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.layout import FOLD_BATCH

with PerformanceMetrics(window_size=100) as metrics:
    own = CustomMetrics(metrics)
    wsgi = shmetrics.workers.wsgi.MetricsMiddleware(lambda environ, start: start("200 OK", []) or [b""], metrics)
    requests = own.counter("requests_total", labels=("user",))
    depth = own.gauge("depth")
    took = own.histogram("seconds", buckets=(0.1, 1.0))
    state = own.enum("state", states=("up", "down"))
    about = own.info("about")
    for turn in range(3 * FOLD_BATCH):
        wsgi({"REQUEST_METHOD": "GET", "PATH_INFO": f"/{turn}"}, lambda status, headers: None)
        metrics.update_inference(0.01, batch_size=4)
        requests.labels(str(turn % 5)).inc()
        depth.set(turn)
        took.observe(0.5)
    state.state("down")
    about.info({"version": "1"})
    with metrics.request(), metrics.stage("preprocessing"):
        metrics.record_error()
    own.remove("requests_total", {"user": "3"})
    requests.labels("another").inc()
    for child in range(2):
        pid = os.fork()
        if not pid:
            metrics.update_inference(0.01)
            requests.labels(f"child {child}").inc()
            os._exit("numpy" in sys.modules)
        assert os.waitpid(pid, 0)[1] == 0, "a child imported it"
    assert "numpy" not in sys.modules, "used"
    assert metrics.get_statistics()["total_requests"] >= 6 * FOLD_BATCH + 1
    assert "numpy" in sys.modules
"""
ALONE = """
from shmetrics import PerformanceMetrics

with PerformanceMetrics() as metrics:
    metrics.update_inference(0.01)  # which takes a slot
    assert "numpy" in sys.modules
"""


def run(code, way):
    """What a fresh process says when it fails."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], capture_output=True, text=True, env={native.VARIABLE: way}, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
def test_a_worker_that_records_never_imports_numpy():
    run(WORK, "1")


def test_where_python_folds_numpy_is_there_before_the_first_request_that_folds():
    run(ALONE, "0")


def test_what_is_asked_for_is_numpys_and_found_at_once_the_second_time():
    assert arrays.np.ndarray is numpy.ndarray
    assert vars(arrays.np)["ndarray"] is numpy.ndarray


def test_what_numpy_does_not_have_is_an_error_that_names_it():
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        _ = arrays.np.nothing_of_the_kind
