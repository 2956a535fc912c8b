"""The server beside the aggregator: many clients, slow ones, silent ones, and ports."""

import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from shmetrics import PerformanceMetrics, ShmetricsError
from shmetrics.exporters.prometheus import Server, server
from tests.exporters.prometheus import Still, families_of, samples_of, value
from tests.processes import wait_until


def get(url):
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def test_port_0_takes_a_free_port_and_says_which():
    with Server(Still(), 0) as first, Server(Still(), 0) as second:
        assert first.port != second.port
        assert first.url == f"http://127.0.0.1:{first.port}/metrics"
        assert families_of(get(first.url)).keys() == families_of(get(second.url)).keys()


def test_it_listens_on_this_machine_only_unless_told_otherwise():
    with Server(Still(), 0) as mine:
        assert mine._server.server_address[0] == "127.0.0.1"
    with Server(Still(), 0, "0.0.0.0") as open_to_all:
        assert open_to_all._server.server_address[0] == "0.0.0.0"


def test_it_listens_on_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Server(Still(), 0, "::1") as six:
        assert six.url == f"http://[::1]:{six.port}/metrics"
        assert families_of(get(six.url))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_of_others_is_an_error_that_says_so(host):
    with pytest.raises(ShmetricsError, match=f"cannot listen on port 0 of {host}: "):
        Server(Still(), 0, host)


def test_a_port_in_use_is_an_error_that_says_so():
    with Server(Still(), 0) as first, pytest.raises(ShmetricsError, match=f"port {first.port} of 127.0.0.1.*in use"):
        Server(Still(), first.port)


def test_a_closed_server_has_given_its_port_back():
    with Server(Still(), 0) as first:
        get(first.url)
    with Server(Still(), first.port) as second:
        assert get(second.url)
    assert not [thread for thread in threading.enumerate() if thread.name == "shmetrics-serve"]


def test_many_scrapes_at_once_share_snapshots_and_are_all_right():
    with PerformanceMetrics(max_workers=2) as metrics, Server(metrics, 0) as served:
        metrics.update_inference(0.25)
        with ThreadPoolExecutor(16) as pool:
            pages = list(pool.map(get, [served.url] * 64))
    assert all(value(samples_of(families_of(page).values()), "requests_total") == 1.0 for page in pages)


def test_clients_that_do_not_read_or_do_not_ask_keep_nobody_waiting():
    with Server(Still(), 0) as served, ExitStack() as clients:
        for request in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            for _ in range(5):
                client = clients.enter_context(socket.create_connection(("127.0.0.1", served.port)))
                client.sendall(request)
        assert families_of(get(served.url))


def test_there_is_a_bound_on_connections_and_who_leaves_makes_room(monkeypatch):
    monkeypatch.setattr(server, "_FAIR_SHARE", 60.0)
    with Server(Still(), 0) as served:
        with ExitStack() as clients:
            for _ in range(server._CONNECTIONS):
                clients.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            wait_until(lambda: len(served._server.since) == server._CONNECTIONS)
            with socket.create_connection(("127.0.0.1", served.port), timeout=30) as one_too_many:
                assert one_too_many.recv(1) == b""
        wait_until(lambda: not served._server.since)
        assert families_of(get(served.url))


def test_a_connection_that_lasts_gives_way_to_a_scrape(monkeypatch):
    monkeypatch.setattr(server, "_FAIR_SHARE", 0.0)
    with Server(Still(), 0) as served, ExitStack() as clients:
        idle = [
            clients.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=30))
            for _ in range(server._CONNECTIONS)
        ]
        wait_until(lambda: len(served._server.since) == server._CONNECTIONS)
        assert families_of(get(served.url))
        assert idle[0].recv(1) == b""


def test_a_silent_client_is_left_after_a_while(monkeypatch, capfd):
    monkeypatch.setattr(server._Handler, "timeout", 0.05)
    with Server(Still(), 0) as served, socket.create_connection(("127.0.0.1", served.port), timeout=30) as silent:
        assert silent.recv(1) == b""
    assert capfd.readouterr() == ("", "")


def test_what_is_wrong_with_a_source_is_500_and_printed_and_the_server_goes_on(capfd):
    class Broken(Still):
        def snapshot(self):
            raise RuntimeError("quite wrong")

    with Server(Broken(), 0) as served:
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError, match="500"):
                get(served.url)
        assert get(served.url.replace("metrics", "healthz")) == b"ok\n"
    assert "quite wrong" in capfd.readouterr().err


def test_garbage_is_refused_quietly(capfd):
    with Server(Still(), 0) as served:
        for garbage in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n", b"A" * 70_000 + b"\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                try:
                    answer = client.recv(65536)
                except ConnectionResetError:
                    continue
                assert b"200" not in answer.split(b"\r\n")[0]
        assert families_of(get(served.url))
    assert "Traceback" not in capfd.readouterr().err
