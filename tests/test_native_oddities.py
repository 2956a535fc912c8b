"""The writes in C meet what nearly never is: they do then what those in Python do, and never take the process along."""

import gc
from collections import Counter
from functools import partial

import numpy as np
import pytest

from shmetrics import PerformanceMetrics, native
from shmetrics.board import Board
from shmetrics.folded import Folded
from shmetrics.folding import Folding
from shmetrics.layout import BOARD, RECORD
from shmetrics.workers.asgi import MetricsMiddleware
from shmetrics.workers.http_metrics import HttpMetrics, Kind, Kinds, source_class

WAYS = [
    "0",
    pytest.param("1", marks=pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")),
]
EACH_WAY = pytest.mark.parametrize("way", WAYS)


def memory():
    return memoryview(bytearray(BOARD.itemsize))


@pytest.fixture
def make_board(monkeypatch, clock):
    def make(way):
        monkeypatch.setenv(native.VARIABLE, way)
        board = native.in_front("Board", Board)(clock)
        board.begin(memory())
        board.leave(board.enter("/"))  # the second has begun, and the label is known
        return board

    return make


@pytest.fixture
def metrics():
    with PerformanceMetrics() as metrics:
        yield metrics


@pytest.fixture
def make_source(monkeypatch, metrics):
    def make(way, clock=lambda: 1.0):
        monkeypatch.setenv(native.VARIABLE, way)
        return source_class()(metrics, clock, HttpMetrics(metrics, (0.5, 1.0)))

    return make


@pytest.fixture
def make_request(make_source, metrics):
    """A request of a known kind."""

    def make(way, clock=lambda: 1.0):
        source = make_source(way, clock)
        for _ in range(2):
            request = source.request("GET", "/")
            request.code = 200
            if not metrics.recorder.committed:
                request.finish()
        return request

    return make


def outcome(action, *args):
    """What it returns, or raises."""
    try:
        return action(*args)
    except BaseException as error:  # noqa: BLE001  the other way raises the same
        return type(error), str(error)


# A board that somebody has meddled with -------------------------------------------------------------------------------

THINGS = {
    "nothing": lambda: None,
    "number": lambda: 3,
    "text": lambda: "x",
    "bytes": lambda: b"abc",
    "tuple": tuple,
    "list": list,
    "list of texts": lambda: ["/"],
    "dictionary": dict,
    "class": lambda: object,
    "iterator": lambda: iter(()),
    "memory": lambda: memoryview(b"12345678"),
}


@pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", ["_open", "_free", "_shown", "_texts", "_crowd"])
def test_an_attribute_that_is_something_else_is_the_same_error_as_in_python(make_board, name, thing):
    said = []
    for way in ("0", "1"):
        board = make_board(way)
        ticket = board.enter("/")
        setattr(board, name, THINGS[thing]())
        said.append([outcome(board.enter, "/"), outcome(board.leave, ticket)])
    assert said[0] == said[1]


@EACH_WAY
def test_a_label_whose_comparison_moves_the_board_is_shown_where_it_is_then(make_board, way):
    class Label(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            board.move_to(elsewhere)
            return str.__eq__(self, other)

    board, elsewhere = make_board(way), memory()
    board.leave(board.enter(Label("/odd")))
    board.enter("/odd")
    assert any(elsewhere.cast("d"))
    assert bytes(elsewhere).count(b"/odd") == 1


@EACH_WAY
def test_a_label_whose_comparison_fails_is_the_callers_error(make_board, way):
    class Label(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            raise ZeroDivisionError

    board = make_board(way)
    board.leave(board.enter(Label("/odd")))
    with pytest.raises(ZeroDivisionError):
        board.enter("/odd")


# A request that ends in an odd way ------------------------------------------------------------------------------------


@EACH_WAY
@pytest.mark.parametrize(("what", "requests_and_errors"), [("fail", (2, 1)), ("discard", (1, 0))])
def test_what_is_said_of_a_request_while_its_clock_is_read_counts(
    make_request, metrics, way, what, requests_and_errors
):
    said = []

    def clock():
        if said:
            getattr(said[0], what)()
        return 1.0

    request = make_request(way, clock)
    said.append(request)
    request.finish()
    statistics = metrics.get_statistics()
    assert (statistics["total_requests"], statistics["total_errors"]) == requests_and_errors


@EACH_WAY
def test_what_interrupts_the_look_at_a_status_is_not_lost(make_request, way):
    class Status:
        interrupted = 0

        def __hash__(self):  # here a signal handler raises
            Status.interrupted += 1
            if Status.interrupted == 1:
                raise KeyboardInterrupt
            return 200

    request = make_request(way)
    request.code = Status()
    with pytest.raises(KeyboardInterrupt):
        request.finish()


# Records that no clock can have given the time of ---------------------------------------------------------------------


@pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
@pytest.mark.parametrize("time", [-0.0, -0.5, -1.0, -1.5, -2.0, -1e300, float("nan"), float("inf"), 2.0**40, 2.0**64])
@pytest.mark.parametrize("then", [None, 1.5, -1.5])
def test_a_time_that_cannot_be_is_folded_as_in_python(monkeypatch, time, then):
    rows = np.zeros(4, RECORD)
    rows["time"] = time
    rows["inference_time"], rows["batch_size"], rows["errors"] = 0.5, 1.0, (1, 2, 3, 4)
    if then is not None:
        rows["time"][2:] = then
    areas = []
    for way in ("0", "1"):
        monkeypatch.setenv(native.VARIABLE, way)
        kind = native.in_front("Folding", Folding)
        areas.append(Folded())
        kind._add_rows(kind.__new__(kind), areas[-1], rows)
    assert areas[0].area.tobytes() == areas[1].area.tobytes()


@EACH_WAY
def test_a_request_that_is_finished_while_its_clock_is_read_counts_once(make_request, metrics, way):
    begun = []

    def clock():
        if begun:
            begun.pop().finish()
        return 1.0

    request = make_request(way, clock)
    before = metrics.get_statistics()["total_requests"]
    begun.append(request)
    request.finish()
    assert metrics.get_statistics()["total_requests"] == before + 1


# A source of requests that somebody has meddled with ------------------------------------------------------------------


@pytest.mark.skipif(not native.IS_BUILT, reason="there is no compiler here")
@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", ["clock", "enter", "complete", "kinds", "request_class"])
def test_an_attribute_of_a_source_that_is_something_else_is_an_error_as_in_python(make_source, name, thing):
    said = []
    for way in ("0", "1"):
        source = make_source(way)
        begun = source.request("GET", "/")
        begun.code = 200
        setattr(source, name, THINGS[thing]())
        told = [outcome(source.request, "GET", "/"), outcome(begun.finish)]
        said.append([each[0] if type(each) is tuple else type(each).__name__ for each in told])
    assert said[0] == said[1]


@EACH_WAY
@pytest.mark.parametrize("name", ["clock", "enter", "complete", "kinds", "recorder", "request_class"])
def test_a_source_that_lacks_something_says_what(make_source, way, name):
    source = make_source(way)
    begun = source.request("GET", "/")
    delattr(source, name)
    action = begun.finish if name in {"complete", "kinds"} else partial(source.request, "GET", "/")
    with pytest.raises(AttributeError, match=name):
        action()


@EACH_WAY
@pytest.mark.parametrize("path", ["/ä/1", "/" + 80 * "x", "/a\0b", "", 56 * "é"], ids="ABCDE")
@pytest.mark.parametrize("method", ["GET", "", 60 * "M", "Ä"], ids="ABCD")
def test_a_path_is_shown_as_the_board_would_show_it(make_source, metrics, way, method, path):
    source = make_source(way)
    source.request("GET", "/").finish()
    source.request(method, path)
    metrics.recorder.enter(f"{method} {path}")
    ((first, second),) = (worker.in_flight for worker in metrics.snapshot().workers)
    assert first.label == second.label


@EACH_WAY
def test_the_kind_of_the_request_before_is_not_taken_for_another(make_source, metrics, way):
    source = make_source(way)
    wanted = []
    for method, code, route in [
        ("GET", 200, "/a"),
        ("GET", 200, "/a"),
        ("GET", 200, "/b"),
        ("GET", 404, "/b"),
        ("PUT", 404, "/b"),
        ("PUT", 404, "/b"),
    ]:
        request = source.request(method, "/")
        request.code, request.route = code, route
        request.finish()
        wanted.append((method, str(code), route))
    source.kinds = Kinds(None)
    request = source.request("PUT", "/")
    request.code, request.route = 404, "/b"
    request.finish()
    found = {each.labels: each.count for each in metrics.snapshot().families[0].series}
    assert found == Counter(wanted)


class Meddling:
    """Calls something when it is compared, counted on or let go of."""

    def __init__(self, action, equals=False, hashed=0):
        self.action, self.equals, self.hashed = action, equals, hashed

    def __hash__(self):
        return self.hashed

    def __eq__(self, other):
        self.action()
        return self.equals

    def __del__(self):
        action, self.action = self.action, lambda: None
        action()


@EACH_WAY
def test_a_ticket_that_compares_itself_with_one_that_meddles_is_harmless(make_board, way):
    board = make_board(way)
    ticket = board.enter("/")
    board._open[Meddling(board._free.clear, hashed=ticket + 1)] = 1
    assert board.enter("/") == ticket + 1
    board._free[:] = [5, 6]
    assert board.enter("/") == ticket + 2


@EACH_WAY
def test_a_label_that_meddles_when_it_is_let_go_of_is_harmless(make_board, way):
    board = make_board(way)
    board._shown[:] = [Meddling(lambda: setattr(board, "_starts", None)) for _ in board._shown]
    outcome(board.enter, "/")
    assert len(board._open) <= 1


@EACH_WAY
@pytest.mark.parametrize("name", ["_source", "_ticket"])
def test_a_clock_that_takes_from_its_request_what_it_needs_is_harmless(make_source, way, name):
    requests = []

    def clock():
        if requests:
            setattr(requests[0], name, None)
        return 1.0

    source = make_source(way, clock)
    requests.append(source.request("GET", "/"))
    requests[0].code = 200
    del source
    outcome(requests[0].finish)
    assert requests[0].done


@EACH_WAY
@pytest.mark.parametrize("name", ["enter", "complete", "kinds", "recorder"])
def test_a_clock_that_takes_from_its_source_what_it_needs_is_harmless(make_source, way, name):
    taken = []

    def clock():
        if taken:
            taken.pop()
            delattr(source, name)
        return 1.0

    source = make_source(way, clock)
    begun = source.request("GET", "/")
    begun.code = 200
    taken.append(name)
    if name in {"enter", "recorder"}:
        assert source.request("GET", "/").done is False
    else:
        begun.finish()
        assert begun.done


@EACH_WAY
def test_a_status_that_finishes_others_when_it_is_let_go_of_is_counted_right(make_source, metrics, way):
    def finish(method, code, route):
        request = source.request(method, "/")
        request.code, request.route = code, route
        request.finish()

    source = make_source(way)
    for kind in (("GET", 404, "/a"), ("GET", 404, "/b"), ("POST", 201, "/x"), ("POST", 201, "/b")):
        finish(*kind)
    odd = Meddling(lambda: finish("POST", 201, "/x"), hashed=7)
    source.kinds["GET", odd, "/a"] = Kind(None, False)
    finish("GET", odd, "/a")
    source.kinds.pop(("GET", odd, "/a"))
    del odd
    finish("GET", 404, "/b")
    for _ in range(3):
        finish("POST", 201, "/b")
    gc.collect()
    found = {each.labels: each.count for each in metrics.snapshot().families[0].series}
    assert found == {
        ("GET", "404", "/a"): 1,
        ("GET", "404", "/b"): 2,
        ("POST", "201", "/x"): 2,
        ("POST", "201", "/b"): 4,
    }


@EACH_WAY
def test_what_overrides_a_request_or_its_source_is_heeded(make_source, metrics, way):
    made = make_source(way)
    said = []

    class Request(made.request_class):
        def __init__(self, *args):
            super().__init__(*args)
            said.append("begun")

        def finish(self):
            said.append("finished")
            super().finish()

    class Source(type(made)):
        clock = property(lambda self: said.append("clock") or (lambda: 1.0), lambda self, clock: None)

    source = Source(metrics, None, None)
    source.request_class = Request
    middleware = MetricsMiddleware(None, metrics)
    middleware._source, middleware._raises = source, False
    begin = native.ahead("begin_asgi", MetricsMiddleware.begin, middleware, source, False)
    scope = {"type": "http", "method": "GET", "path": "/"}
    _, _, send = begin(middleware, dict(scope), None, said.append)
    send({"type": "http.response.body"})
    assert [each for each in said if each != "clock"] == ["begun", "finished", {"type": "http.response.body"}]
    assert "clock" in said
    middleware._source = made
    begin = native.ahead("begin_asgi", MetricsMiddleware.begin, middleware, made, False)
    plain, _, send = begin(middleware, dict(scope), None, said.append)
    plain.finish = partial(said.append, "its own")
    send({"type": "http.response.body"})
    assert said[-2] == "its own"


@EACH_WAY
def test_kinds_that_find_their_own_are_asked(make_source, metrics, way):
    class Own(Kinds):
        def __getitem__(self, key):
            asked.append(key)
            return super().__getitem__(key)

    source, asked = make_source(way), []
    source.kinds = Own(source.http)
    for _ in range(3):
        request = source.request("GET", "/")
        request.code = 200
        request.finish()
    assert asked == 3 * [("GET", 200, "")]
