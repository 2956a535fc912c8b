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

NO_FILES = """
import resource
from shmetrics import PerformanceMetrics, arrays, hub, segment, slots

name = f"no-files-{os.getpid()}"
with PerformanceMetrics(name=name) as metrics:
    mapped = segment.attach(name, writable=True)
    pid = os.fork()
    if not pid:
        metrics.update_inference(0.1)
        os._exit(os.kill(os.getpid(), 9))
    os.waitpid(pid, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    assert not arrays.can_be_had()
    assert slots.reap(mapped) == 0
    assert "numpy" not in sys.modules
    for descriptor in taken:
        os.close(descriptor)
    assert slots.reap(mapped) == 1
hub.remove(name, force=True)
"""
FORKED = """
import importlib.util, types
from shmetrics import PerformanceMetrics, arrays

with PerformanceMetrics(max_workers=1) as metrics:
    pid = os.fork()
    if not pid:
        metrics.update_inference(0.1)
        os._exit(os.kill(os.getpid(), 9))
    os.waitpid(pid, 0)  # the hub is full of the dead
    begun, stay = threading.Event(), threading.Event()

    class Slow:
        def find_spec(self, name, path=None, target=None):
            return importlib.util.spec_from_loader(name, self) if name == "numpy" else None

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            begun.set()
            stay.wait()

    sys.meta_path.insert(0, Slow())
    thread = threading.Thread(target=lambda: __import__("numpy"))  # the application's own import, not ours
    thread.start()
    begun.wait()
    pid = os.fork()
    if not pid:
        metrics.update_inference(0.2)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    sys.meta_path.pop(0)
    stay.set()
    thread.join()
    del sys.modules["numpy"]
    assert arrays.can_be_had()
"""


def run(code, way):
    """What a fresh process says when it fails."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        capture_output=True,
        text=True,
        env={native.VARIABLE: way},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
def test_a_worker_that_records_never_imports_numpy():
    run(WORK, "1")


def test_where_python_folds_numpy_is_there_before_the_first_request_that_folds():
    run(ALONE, "0")


def test_where_it_cannot_be_opened_the_dead_wait_and_nothing_raises():
    run(NO_FILES, "1")


def test_a_child_that_was_forked_while_a_thread_imported_it_records_and_never_waits():
    run(FORKED, "1")


def test_what_is_asked_for_is_numpys_and_found_at_once_the_second_time():
    assert arrays.np.ndarray is numpy.ndarray
    assert vars(arrays.np)["ndarray"] is numpy.ndarray


def test_what_numpy_does_not_have_is_an_error_that_names_it():
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_the_kind'"):
        _ = arrays.np.nothing_of_the_kind
