"""Driving a bare ASGI application as a server does, and what the hub then has."""

import asyncio

from shmetrics import CustomMetrics

PATIENCE = 30.0
ASGI = {"version": "3.0", "spec_version": "2.3"}  # as uvicorn has it


def start(status=200):
    return {"type": "http.response.start", "status": status, "headers": []}


def part(body=b"", more_body=None):
    return {"type": "http.response.body", "body": body} | ({} if more_body is None else {"more_body": more_body})


def scope_of(path="/", method="GET", **more):
    return {"type": "http", "asgi": ASGI, "method": method, "path": path, "headers": [], **more}


class Client:
    """The server's side of one request: what it sends is the application's to receive, and the other way round."""

    def __init__(self, *messages):
        self.messages = list(messages) or [{"type": "http.request", "body": b"", "more_body": False}]
        self.sent = []

    async def receive(self):
        if not self.messages:
            await asyncio.Event().wait()
        return self.messages.pop(0)

    async def send(self, message):
        self.sent.append(message)

    async def serve(self, app, scope=None):
        await app(scope or scope_of(), self.receive, self.send)
        return self.sent


GONE = {"type": "http.disconnect"}


def serve(app, *messages, **scope):
    """Serve one request; what the application sent."""
    return asyncio.run(asyncio.wait_for(Client(*messages).serve(app, scope_of(**scope)), PATIENCE))


def replying(*messages, before=lambda: None, between=lambda: None):
    """An application that sends these messages."""

    async def app(scope, receive, send):
        before()
        for message in messages:
            await send(message)
            between()

    return app


OK = (start(), part(b"ok"))
STREAM = (start(), part(b"one ", True), part(b"two", True), part())


def recorded(metrics):
    """The one request there is."""
    figures = metrics.get_statistics()
    assert (figures["total_requests"], figures["window_count"]) == (1, 1)
    return figures


def last_seen(metrics):
    """When the only worker was last seen, as readers see it."""
    (worker,) = metrics._attachment.view.snapshot().workers
    return worker.last_seen


def totals(metrics):
    figures = metrics.get_statistics()
    return figures["total_requests"], figures["total_errors"]


def series(metrics, name):
    """The series of a custom metric that something was added to, by label values."""
    found = CustomMetrics(metrics).get_all_metrics()[name]["series"]
    return {tuple(each["labels"].values()): each for each in found if each.get("count") or each.get("value")}


def counts(metrics, name="http_server_request_duration_seconds"):
    return {labels: each.get("count", each.get("value")) for labels, each in series(metrics, name).items()}


def aborted(metrics):
    return counts(metrics, "http_server_aborted_requests_total")


def in_flight(metrics):
    return sum(len(worker.in_flight) for worker in metrics.snapshot().workers)
