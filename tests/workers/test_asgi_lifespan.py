"""The ASGI middleware over the life of an application: a worker's slot from its startup to its shutdown."""

import asyncio
import contextlib
import os
import signal

import pytest

from shmetrics import Hub, PerformanceMetrics, slots
from shmetrics.obituaries import Obituaries
from shmetrics.workers.asgi import MetricsMiddleware

pytestmark = pytest.mark.usefixtures("written_in")

STARTED, STOPPED = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


def live(metrics, *messages, within=None):
    """What a server is told of the life of an application that says these things.

    ``within``: another life, which comes and goes before the last of them.
    """
    told = []

    async def app(scope, receive, send):
        assert await receive() == "asked"
        for message in messages:
            if within is not None and message is messages[-1]:
                await asyncio.to_thread(live, metrics, *within)
            await send(message)

    async def receive():
        return "asked"

    async def send(message):
        told.append(message)

    asyncio.run(MetricsMiddleware(app, metrics)({"type": "lifespan"}, receive, send))
    return told


def test_what_is_said_passes_through_and_the_slot_is_taken(make_segment):
    failed = {"type": "lifespan.startup.failed", "message": "no model"}
    with PerformanceMetrics(name=make_segment().name, max_workers=4, max_series=16) as metrics:
        for messages in ([STARTED, STOPPED], [failed]):
            assert live(metrics, *messages) == messages
        assert [worker.alive for worker in metrics.snapshot().workers] == [True]


def told_of(target, *lives, before=lambda metrics: None, end=signal.SIGTERM, **more):
    """Whether there is an obituary of a process that has been through these lives and is then ended by a signal."""
    child = os.fork()
    if child == 0:
        try:
            metrics = PerformanceMetrics(name=target.name, max_workers=4, max_series=16)
            before(metrics)
            for messages in lives:
                live(metrics, *messages, **more)
            metrics.update_inference(0.5)
            os.kill(os.getpid(), end)
        finally:
            os._exit(1)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # so that it is to be seen how it ended
    slots.reap(target)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -end
    return [each.pid for each in Obituaries(target).read()] == [child]


def test_who_is_ended_by_a_signal_after_the_shutdown_is_not_told_of(make_segment):
    """As uvicorn ends its workers."""
    target = make_segment()
    assert not told_of(target, [STARTED, STOPPED])
    with Hub.attach(target.name) as hub:
        assert hub.statistics()["total_requests"] == 1


def test_who_is_ended_by_a_signal_before_it_is(make_segment):
    assert told_of(make_segment(), [STARTED])


def test_a_crash_after_the_shutdown_is_told_of(make_segment):
    assert told_of(make_segment(), [STARTED, STOPPED], end=signal.SIGKILL)


def test_a_request_that_outlives_the_shutdown_is_told_of(make_segment):
    assert told_of(make_segment(), [STARTED, STOPPED], before=lambda metrics: metrics.recorder.enter("GET /hang"))


def test_another_life_in_the_same_process_begins_anew(make_segment):
    """As with the test clients of frameworks."""
    assert told_of(make_segment(), [STARTED, STOPPED], [STARTED])


def test_one_within_another_that_goes_on_is_no_end_of_the_process(make_segment):
    assert told_of(make_segment(), [STARTED, {"type": "still running"}], within=[STARTED, STOPPED])


def test_one_that_failed_goes_on_no_more(make_segment):
    """As with applications that have no lifespan, and say so by an exception."""

    async def app(scope, receive, send):
        raise NotImplementedError

    def work(metrics):
        with contextlib.suppress(NotImplementedError):
            asyncio.run(MetricsMiddleware(app, metrics)({"type": "lifespan"}, None, None))

    assert not told_of(make_segment(), [STARTED, STOPPED], before=work)
