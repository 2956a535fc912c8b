"""WSGI middleware: measures every request of any WSGI application.

    app = MetricsMiddleware(app, metrics)

The time of a request runs from the call of the application until its last byte was handed to the server, streaming
included. A status of 5xx and an exception are errors. An application that knows more says so:

    environ["shmetrics.request"].preprocessing_time = 0.002
    environ["shmetrics.request"].batch_size = 16

What it does not say is inference time. Metrics never raise into a request.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from shmetrics.metrics import HUB_VARIABLE, PerformanceMetrics

ENVIRON_KEY: Final = "shmetrics.request"

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class RequestMeasurement:
    """One request being measured; the application finds it in its environ and may add what it knows."""

    __slots__ = ("_clock", "_done", "_failed", "_metrics", "_start", "_ticket",
                 "batch_size", "inference_time", "preprocessing_time", "quantization_time")  # fmt: skip

    def __init__(self, metrics: PerformanceMetrics, clock: Callable[[], float]) -> None:
        self.batch_size: float = 1
        """Samples in this request."""
        self.preprocessing_time: float = 0.0
        """Seconds."""
        self.quantization_time: float = 0.0
        """Seconds."""
        self.inference_time: float | None = None
        """Seconds; None for whatever the other two leave of the whole."""
        self._metrics = metrics
        self._clock = clock
        self._failed = False
        self._done = False
        self._ticket = metrics.recorder.enter(0)
        self._start = clock()

    def fail(self) -> None:
        """Count this request as an error, once, before or after it was recorded."""
        if self._done and not self._failed:
            self._metrics.record_error()
        self._failed = True

    def finish(self) -> None:
        """Record the request, once."""
        if self._done:
            return
        self._done = True
        elapsed = self._clock() - self._start
        try:
            self._record(elapsed)
        except Exception as error:  # noqa: BLE001  the application's own objects do this arithmetic, and may raise anything
            self._metrics.mention("request", f"a request's measurements cannot be recorded, only its time: {error!r}")
            self._metrics.update_inference(elapsed)
        if self._failed:
            self._metrics.record_error()
        self._metrics.recorder.leave(self._ticket)

    def _record(self, elapsed: float) -> None:
        inference = self.inference_time
        if inference is None:
            inference = max(0.0, elapsed - self.preprocessing_time - self.quantization_time)
        self._metrics.update_inference(inference, self.batch_size, self.preprocessing_time, self.quantization_time)


class MetricsMiddleware:
    """Wraps a WSGI application. One object serves all threads and greenlets of a process, and children of fork."""

    def __init__(
        self, app: Application, metrics: PerformanceMetrics, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock
        self._first = True

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        if self._first:
            self._first = False
            self._check(environ)
        request = environ[ENVIRON_KEY] = RequestMeasurement(self._metrics, self._clock)

        def measured_start_response(status: str, *rest: Any) -> Callable[[bytes], object]:
            if status.startswith("5"):
                request.fail()
            return start_response(status, *rest)

        try:
            body = self._app(environ, measured_start_response)
            return _measured(body, request, environ.get("wsgi.file_wrapper"))
        except BaseException:
            request.fail()
            request.finish()
            raise

    def _check(self, environ: Environ) -> None:
        """Say so, once, when the workers of a server do not share a hub."""
        if environ.get("wsgi.multiprocess") and self._metrics.is_of_this_process_alone:
            self._metrics.mention(
                "alone",
                f"a hub of this worker alone, though the server has others; set {HUB_VARIABLE}, give the hub a name=, "
                f"or install shmetrics' hooks for the server",
            )


def _measured(body: Iterable[bytes], request: RequestMeasurement, file_wrapper: Any) -> Iterable[bytes]:
    """The same body, which finishes `request` when the server has taken all of it, or closes it."""
    if isinstance(file_wrapper, type) and isinstance(body, file_wrapper) and _finish_on_close(body, request):
        return body  # left as it is, so that the server may use sendfile
    return _SizedBody(body, request) if hasattr(body, "__len__") else _Body(body, request)


def _finish_on_close(body: Any, request: RequestMeasurement) -> bool:
    close = getattr(body, "close", None)

    def measured_close() -> None:
        try:
            if close is not None:
                close()
        except BaseException:
            request.fail()
            raise
        finally:
            request.finish()

    try:
        body.close = measured_close
    except AttributeError:
        return False
    return True


class _Body:
    """An iterable of bytes that says when it is through."""

    def __init__(self, body: Iterable[bytes], request: RequestMeasurement) -> None:
        self._body = body
        self._request = request
        self._iterator = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._iterator)
        except StopIteration:
            self._request.finish()
            raise
        except BaseException:
            self._request.fail()
            self._request.finish()
            raise

    def close(self) -> None:
        """What PEP 3333 asks of the server at the end of every request, complete or not."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                close()
        except BaseException:
            self._request.fail()
            raise
        finally:
            self._request.finish()


class _SizedBody(_Body):
    """A body of known length: servers take a list of one part for a reason to send Content-Length."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # only bodies with a length come here
