"""WSGI middleware: measures every request of any WSGI application.

    app = MetricsMiddleware(app, metrics)

The time of a request runs from the call of the application until its last byte was handed to the server, streaming
included; a list is handed over whole. A status of 5xx and an exception are errors; a response that the server did not
take to its end, because the client went away, is none, and is counted apart. An application that knows more says so in
stages, or itself:

    environ["shmetrics.request"].batch_size = 16

What it does not say is inference time. Metrics never raise into a request.
"""

from __future__ import annotations  # those of a function within another are made again at each call

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NoReturn

from shmetrics import native
from shmetrics.measurement import Steps, is_failure
from shmetrics.metrics import HUB_VARIABLE, PerformanceMetrics
from shmetrics.workers.http_metrics import (
    DISCONNECT,
    HTTP_BUCKETS,
    REQUEST_KEY,
    HttpMiddleware,
    HttpRequest,
)
from shmetrics.workers.routes import route_of_environ

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

ENVIRON_KEY: Final = REQUEST_KEY


class MetricsMiddleware(HttpMiddleware):
    """Wraps a WSGI application. One object serves all threads and greenlets of a process, and children of fork.

    Arguments as `HttpMiddleware` takes them.
    """

    _app: Application
    _ahead: Callable[..., Iterable[bytes]]

    def __init__(
        self,
        app: Application,
        metrics: PerformanceMetrics,
        *,
        skip_paths: Collection[str] = (),
        http_metrics: bool = True,
        buckets: Sequence[float] = HTTP_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(metrics, skip_paths=skip_paths, http_metrics=http_metrics, buckets=buckets, clock=clock)
        self._app = app
        self._first = True
        self._ahead = native.ahead("serve_wsgi", MetricsMiddleware.serve, self, self._source, self._skips)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request (PEP 3333)."""
        return self._ahead(self, environ, start_response)

    def serve(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request, whatever it is like."""
        if self._first:
            self._first = False
            self._check(environ)
            self.metrics.claim()  # or the first request, should it hang, would be seen by nobody
        if (self._skips or REQUEST_KEY in environ) and self._passes(environ.get(REQUEST_KEY), path_of(environ)):
            return self._app(environ, start_response)
        request = environ[REQUEST_KEY] = self._source.request(environ.get("REQUEST_METHOD", ""), path_of(environ))
        measured_start_response = partial(start_measured, request, start_response, environ)
        request.begin()
        try:
            body = self._app(environ, measured_start_response)
            if type(body) is list or type(body) is tuple:
                request.finish()  # before the client has it, so that whatever it has is counted
                return body
            return hand_over(request, environ, body)
        except BaseException as error:
            end_raised(request, error)
            raise

    def _check(self, environ: Environ) -> None:
        """Say so, once, when the workers of a server do not share a hub."""
        if environ.get("wsgi.multiprocess") and self.metrics.is_of_this_process_alone:
            self.metrics.mention(
                "alone",
                f"a hub of this worker alone, though the server has others; set {HUB_VARIABLE}, give the hub a name=, "
                f"or install shmetrics' hooks for the server",
            )


def path_of(environ: Environ) -> str:
    """The path of a request, as its client meant it."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if path.isascii():
        return path
    return path.encode("latin-1", "replace").decode(
        "utf-8", "replace"
    )  # PEP 3333: bytes as Latin-1; and URLs are UTF-8


def start_measured(  # noqa: PLR0917  a server's, after three of ours
    request: HttpRequest,
    start_response: StartResponse,
    environ: Environ,
    /,
    status: str,
    headers: list[tuple[str, str]],
    exc_info: Any = None,
) -> Callable[[bytes], object]:
    """Tell the server how a response begins."""
    request.code = status[:3]
    if not request.route:
        request.route = route_of_environ(environ)
    if exc_info is None:
        return start_response(status, headers)
    return start_response(status, headers, exc_info)


def hand_over(request: HttpRequest, environ: Environ, body: Iterable[bytes]) -> Iterable[bytes]:
    """The same body, which ends `request` when the server has taken all of it, or closes it."""
    steps, file_wrapper = Steps.after_first(request), environ.get("wsgi.file_wrapper")
    if isinstance(file_wrapper, type) and isinstance(body, file_wrapper) and _end_on_close(body, request):
        return body  # left as it is, so that the server may use sendfile
    return _SizedBody(body, request, steps) if hasattr(body, "__len__") else _Body(body, request, steps)


def end_raised(request: HttpRequest, error: BaseException) -> None:
    """The application has raised. Where the server has no byte yet it sends another status, whatever was to be."""
    if request.first_byte is None and is_failure(error):
        request.code = ""
    request.end(error)


def raised(request: HttpRequest, error: BaseException) -> NoReturn:
    """The application has raised, within C: here it goes on, and is handled as it is in Python."""
    try:
        raise error
    except BaseException:
        end_raised(request, error)
        raise


native.tell("use_wsgi", start=start_measured, hand_over=hand_over, raised=raised, key=REQUEST_KEY)
native.tell("call_directly", MetricsMiddleware)


def _end_on_close(body: Any, request: HttpRequest) -> bool:
    close = getattr(body, "close", None)

    def measured_close() -> None:
        try:
            if close is not None:
                close()
        except BaseException as error:
            request.end(error)
            raise
        request.finish()

    try:
        body.close = measured_close
    except AttributeError:
        return False
    return True


class _Body:
    """An iterable of bytes that says when it is through."""

    def __init__(self, body: Iterable[bytes], request: HttpRequest, steps: Steps) -> None:
        self._body = body
        self._request = request
        self._steps = steps
        self._iterator = iter(body)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            with self._steps:
                part = next(self._iterator)
        except StopIteration:
            self._request.finish()
            raise
        except BaseException as error:
            end_raised(self._request, error)
            raise
        if part:
            self._request.sent()
        return part

    def close(self) -> None:
        """What PEP 3333 asks of the server at the end of every request, complete or not."""
        request = self._request
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                with self._steps:
                    close()
        except BaseException as error:
            request.end(error)
            raise
        if not request.done:
            if request.method != "HEAD":
                request.aborted = DISCONNECT  # a server that leaves some of a body has lost its client
            request.finish()


class _SizedBody(_Body):
    """A body of known length: servers take a list of one part for a reason to send Content-Length."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # only bodies with a length come here
