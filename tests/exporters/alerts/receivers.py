"""Tiny real servers that receive alerts, on loopback: a web server that can be flaky, and an SMTP sink."""

import email
import email.policy
import json
import socketserver
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shmetrics.alerting.alert import Alert

PATIENCE = 30.0
GARBAGE = (
    b"",
    b"\x00\xffgarbage\r\n\r\n",
    b"HTTP/1.1 500 no\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 500 no\r\nContent-Length: 1000\r\n\r\nabc",
    b"HTTP/1.1 200 " + b"x" * 70_000,
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
)
"""Answers that make no sense."""


def alert(**fields):
    """An alert as receivers get it."""
    known = {
        "type": "HighErrorRate",
        "severity": "critical",
        "state": "firing",
        "message": "hub resnet: error rate over 5m is 12 %, above 5 %",
        "current_value": 0.12,
        "threshold": 0.05,
        "timestamp": 1.7e9 + 60,
        "hub": "resnet",
        "labels": {"worker": "3"},
        "annotations": {"runbook_url": "https://example.org/r"},
        "started_at": 1.7e9,
        "highest_severity": "critical",
    }
    return Alert(**{**known, **fields})


class WebSink:
    """What a web server was sent; it answers with `statuses`, one after the other, and then with 200.

    A status may be None, where the connection breaks, or the bytes of an answer that makes no sense.
    """

    def __init__(self, statuses=(), silent=False):
        self.statuses, self.silent = list(statuses), silent
        self.requests = []
        self.released = threading.Event()

    @property
    def bodies(self):
        return [json.loads(body) for _, _, body in self.requests]

    def answer(self, request):
        length = int(request.headers["Content-Length"])
        self.requests.append((request.path, dict(request.headers), request.rfile.read(length)))
        if self.silent:
            self.released.wait(PATIENCE)
            return
        status = self.statuses.pop(0) if self.statuses else 200
        if status is None:  # the connection breaks
            request.connection.close()
            return
        if isinstance(status, bytes):  # the whole answer
            request.wfile.write(status)
            request.close_connection = True
            return
        request.send_response(status)
        if 300 <= status < 400:
            request.send_header("Location", "/elsewhere")
        request.send_header("Content-Length", "4")
        request.end_headers()
        request.wfile.write(b"said")


@contextmanager
def web_sink(statuses=(), *, port=0, silent=False):
    """A running web server; yields what it was sent, with its `url`."""
    sink = WebSink(statuses, silent)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            sink.answer(self)

        do_GET = do_POST

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # the client went away, as it should

    with Server(("127.0.0.1", port), Handler) as server:
        sink.port = server.server_port
        sink.url = f"http://127.0.0.1:{server.server_port}/hook/secret"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield sink
        finally:
            sink.released.set()
            server.shutdown()
            thread.join()


class SmtpSink:
    """What an SMTP server was sent. ``answers``: a command to what it is answered, once each.

    ``offers``: what it says that it can, after EHLO. ``encrypted``: those of the commands that nobody could overhear.
    """

    def __init__(self, answers=(), offers=()):
        self.answers = list(answers)
        self.offers = offers
        self.letters, self.commands, self.encrypted = [], [], []

    def converse(self, stream):
        stream.write(b"220 sink\r\n")
        while line := stream.readline().decode().strip():
            verb = line.split()[0].upper()
            self.commands.append(line)
            if stream.is_encrypted:
                self.encrypted.append(line)
            if self.answers and self.answers[0][0] == verb:
                stream.write(f"{self.answers.pop(0)[1]}\r\n".encode())
            elif verb == "DATA":
                stream.write(b"354 go on\r\n")
                lines = []
                while (text := stream.readline()) != b".\r\n":
                    lines.append(text)
                self.letters.append(email.message_from_bytes(b"".join(lines), policy=email.policy.default))
                stream.write(b"250 taken\r\n")
            elif verb == "EHLO":
                lines = ["sink", *self.offers]
                stream.write("".join(f"250-{each}\r\n" for each in lines).encode() + b"250 HELP\r\n")
            elif verb == "STARTTLS" and "STARTTLS" in self.offers:
                stream.write(b"220 go on\r\n")
                stream.encrypt()
            elif verb == "AUTH":
                stream.write(b"235 welcome\r\n")
            else:
                stream.write(b"221 bye\r\n" if verb == "QUIT" else b"250 sink\r\n")
            if verb == "QUIT":
                return


@contextmanager
def smtp_sink(*answers, offers=(), certificate=None, at_once=False):
    """A running SMTP server; yields what it was sent, with its `port`.

    ``certificate``: a file with it and its key, for encryption, with `at_once` from the first byte.
    """
    sink = SmtpSink(answers, offers)

    class Handler(socketserver.BaseRequestHandler):
        is_encrypted = False

        def handle(self):
            self.open()
            if at_once:
                self.encrypt()
            sink.converse(self)

        def open(self):
            self.file = self.request.makefile("rwb", buffering=0)
            self.write, self.readline = self.file.write, self.file.readline

        def encrypt(self):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.request = context.wrap_socket(self.request, server_side=True)
            self.is_encrypted = True
            self.open()

        def finish(self):
            self.file.close()
            self.request.close()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

        def handle_error(self, request, client_address):
            pass  # the client went away, as it should

    with Server(("127.0.0.1", 0), Handler) as server:
        sink.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield sink
        finally:
            server.shutdown()
            thread.join()


def certificate_in(directory):
    """A file with a new certificate of 127.0.0.1 that nobody has signed but itself, and its key."""
    path = directory / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", directory / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (directory / "certificate.pem").read_text())
    return path
