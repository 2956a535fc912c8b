"""Which requests the ASGI middleware measures, and how many at once."""

import asyncio
import logging

import pytest

from shmetrics import CustomMetrics, PerformanceMetrics
from shmetrics.workers.asgi import MetricsMiddleware
from tests.processes import in_forked_child
from tests.workers.bare_asgi import (
    OK,
    PATIENCE,
    STREAM,
    Client,
    aborted,
    counts,
    in_flight,
    replying,
    scope_of,
    series,
    serve,
    totals,
)

pytestmark = pytest.mark.usefixtures("written_in")


@pytest.fixture
def wrap(metrics, clock):
    """A function that puts the middleware around an application, on the test's clock."""
    return lambda app, **options: MetricsMiddleware(app, metrics, clock=clock, **options)


# Which requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "measured"),
    [
        ("/healthz", 0),
        ("/healthz/", 1),
        ("/healthzz", 1),
        ("/static/", 0),
        ("/static/a.css", 0),
        ("/static", 1),
        ("/", 1),
    ],
)
def test_paths_are_skipped_exactly_or_by_their_beginning(wrap, metrics, path, measured):
    app = wrap(replying(*OK), skip_paths=["/healthz", "/static/*"])
    assert serve(app, path=path) == list(OK)
    assert totals(metrics) == (measured, 0)


@pytest.mark.parametrize(
    ("paths", "error"),
    [("/healthz", TypeError), (["healthz"], ValueError), (["/a*b"], ValueError), ([5], ValueError), ([""], ValueError)],
)
def test_what_is_no_path_cannot_be_skipped(wrap, paths, error):
    with pytest.raises(error, match="skip_paths"):
        wrap(replying(*OK), skip_paths=paths)


def test_a_request_in_two_middlewares_of_one_hub_is_counted_once(wrap, metrics):
    """Where `shmetrics run` has put one around an application that has its own."""
    serve(wrap(wrap(replying(*OK))))
    assert (totals(metrics), counts(metrics)) == ((1, 0), {("GET", "200", ""): 1})


def test_what_the_inner_of_two_middlewares_skips_is_skipped(wrap, metrics):
    serve(wrap(wrap(replying(*OK), skip_paths=["/healthz"])), path="/healthz")
    assert (totals(metrics), counts(metrics), in_flight(metrics)) == ((0, 0), {}, 0)


def test_two_middlewares_of_two_hubs_both_count(wrap, metrics):
    with PerformanceMetrics(max_workers=2, max_series=16) as other:
        serve(wrap(MetricsMiddleware(replying(*OK), other)))
        assert totals(other) == (1, 0)
    assert totals(metrics) == (1, 0)


def test_without_http_metrics_only_the_hubs_own_are_recorded(wrap, metrics):
    serve(wrap(replying(*STREAM), http_metrics=False))
    assert totals(metrics) == (1, 0)
    assert CustomMetrics(metrics).get_all_metrics() == {}


def test_other_buckets_than_those_a_hub_has_stand_back_and_are_told(wrap, metrics, caplog):
    serve(wrap(replying(*OK), buckets=[1.0, 2.0]))
    with caplog.at_level(logging.WARNING, "shmetrics"):
        serve(wrap(replying(*OK), buckets=[3.0, 4.0]))
    assert counts(metrics) == {("GET", "200", ""): 2}
    assert set(series(metrics, "http_server_request_duration_seconds")["GET", "200", ""]["buckets"]) == {
        "1",
        "2",
        "+Inf",
    }
    assert "that one stands" in caplog.text


def test_buckets_that_cannot_be_are_an_error(wrap):
    with pytest.raises(ValueError, match="ascending order"):
        wrap(replying(*OK), buckets=[2.0, 1.0])


# Many, and elsewhere --------------------------------------------------------------------------------------------------


def test_thousands_of_tasks_at_once_are_all_counted(wrap, metrics):
    """Half of them are cancelled in the middle; the board has fewer places than that."""
    tasks_at_once = 4000

    async def main():
        go_on = asyncio.Event()

        async def app(scope, receive, send):
            with metrics.stage("preprocessing", batch_size=int(scope["path"][1:])):
                await go_on.wait()
            await replying(*STREAM)(scope, receive, send)

        measured = wrap(app)
        tasks = [
            asyncio.create_task(Client().serve(measured, scope_of(f"/{number}"))) for number in range(tasks_at_once)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        go_on.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == tasks_at_once / 2

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["total_errors"]) == (tasks_at_once, 0)
    assert figures["max_batch_size"] == tasks_at_once - 1
    assert aborted(metrics) == {("GET", "", "cancelled"): tasks_at_once / 2}
    assert counts(metrics) == {("GET", "", ""): tasks_at_once / 2, ("GET", "200", ""): tasks_at_once / 2}
    assert in_flight(metrics) == 0


def test_a_child_of_fork_counts_in_its_own_slot(wrap, metrics):
    app = wrap(replying(*OK))
    serve(app)
    in_forked_child(lambda: serve(app))
    serve(app)
    assert (totals(metrics), counts(metrics)) == ((3, 0), {("GET", "200", ""): 3})
    assert len(metrics.snapshot().workers) == 2
