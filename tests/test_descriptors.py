"""Descriptors above the standard three: what a library prints where there is no stderr does not end up in a hub."""

import ctypes
import os
import resource

import pytest

from shmetrics import Hub, PerformanceMetrics, segment
from shmetrics.descriptors import FIRST, above_standard, standard_taken
from shmetrics.layout import Layout
from tests.processes import in_forked_child
from tests.test_locks import open_descriptors


def close_all_but(kept):
    for descriptor in set(range(FIRST)) - kept:
        os.close(descriptor)


@pytest.mark.parametrize("kept", [set(), {0}, {0, 1}, {1, 2}, {0, 2}])
@pytest.mark.parametrize("exists", [True, False])
def test_what_a_library_prints_without_stdout_or_stderr_spares_the_hub(hub_name, kept, exists):
    def record():
        close_all_but(kept)
        with PerformanceMetrics(name=hub_name, max_workers=4, max_series=16) as metrics:
            metrics.update_inference(0.01)
            for descriptor in set(range(FIRST)) - kept:
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(descriptor)
            ctypes.CDLL(None).perror(b"some library")
            metrics.update_inference(0.01)

    if exists:
        segment.create(hub_name, Layout(4, 100, 16)).close()
    in_forked_child(record)
    with Hub.attach(hub_name) as hub:
        assert hub.snapshot().counters.requests == 2


def test_a_descriptor_above_the_standard_ones_stays_what_it_is():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    assert above_standard(descriptor) == descriptor
    os.close(descriptor)


def test_a_descriptor_that_cannot_be_moved_is_closed_and_an_error():
    def move():
        close_all_but(set())
        low = os.open(os.devnull, os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (FIRST, FIRST))
        with pytest.raises(OSError):  # noqa: PT011  EINVAL or EMFILE, as the kernel likes
            above_standard(low)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(low)

    in_forked_child(move)


def test_the_standard_numbers_are_taken_only_for_as_long_as_it_lasts():
    def take():
        os.close(1)
        with standard_taken():
            inside = os.open(os.devnull, os.O_RDONLY)
        assert inside >= FIRST
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(1)

    before = open_descriptors()
    with standard_taken():
        assert open_descriptors() == before
    in_forked_child(take)
