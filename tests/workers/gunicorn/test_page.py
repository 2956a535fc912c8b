"""Every configuration on the pages about servers, run as it is printed: what it says is measured is measured."""

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from shmetrics.cli import build_parser
from shmetrics.errors import HubNotFoundError
from shmetrics.hub import Hub
from tests.cli import PATIENCE, environment, until
from tests.gunicorns import needs_asgi_worker

DOCS = Path(__file__).parent.parent.parent.parent / "docs"
REQUESTS = 12
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\w[\w.]*\.py)\n")


def servers_of(page):
    """Each command line that starts a server on a page, with the files that the page has shown up to there."""
    files, found = {}, []
    for language, text in _BLOCK.findall((DOCS / page).read_text()):
        if language == "python" and (named := _FILE.match(text)):
            files[named[1]] = text
        elif language == "sh" and files:
            found += [(line, dict(files)) for line in text.splitlines() if "gunicorn" in line or "uvicorn" in line]
    return found


SERVERS = [
    pytest.param(line, files, id=f"{page}:{line}", marks=[needs_asgi_worker] * line.endswith("--worker-class asgi"))
    for page in ("gunicorn.md", "run.md")
    for line, files in servers_of(page)
]


@contextmanager
def started(line, directory):
    """The server that a line of a page starts, at a port of ours, and that port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as free:
        port = str(free.getsockname()[1])
    words = shlex.split(line)
    assignments = [words.pop(0) for _ in range(sum("=" in word for word in words[:1]))]
    here = {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}", "HOME": str(directory)}
    bound = {"GUNICORN_CMD_ARGS": f"--bind 127.0.0.1:{port}", "UVICORN_PORT": port}
    variables = environment(**here, **bound, **dict(assignment.split("=") for assignment in assignments))
    with (directory / "log").open("w") as log, subprocess.Popen(
        words, env=variables, cwd=directory, stdout=log, stderr=log, start_new_session=True
    ) as process:  # fmt: skip
        try:
            yield process, int(port)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def answer(port):
    """The status of a request, or None when nobody listens yet."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        try:
            connection.request("POST", "/", body=b"one\ntwo\n")
            response = connection.getresponse()
            response.read()
        except ConnectionError:  # refused; or the worker that had it could not boot
            return None
        return response.status


def total(hub_name):
    try:
        with Hub.attach(hub_name) as hub:
            return hub.statistics()["total_requests"]
    except HubNotFoundError:
        return 0


@pytest.mark.parametrize(("line", "files"), SERVERS)
def test_a_configuration_works_as_printed(tmp_path, hub_name, line, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with started(line.replace("hello", hub_name), tmp_path) as (process, port):
        until(lambda: process.poll() is not None or answer(port) == 200)
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert [answer(port) for _ in range(REQUESTS)] == [200] * REQUESTS
        until(lambda: total(hub_name) >= REQUESTS + 1)
        assert total(hub_name) == REQUESTS + 1
        process.terminate()
        assert process.wait(PATIENCE) in (0, 143), (tmp_path / "log").read_text()


def test_there_are_configurations_on_the_pages():
    assert len(SERVERS) >= 7


def test_the_first_process_of_the_container_on_the_page_is_a_command_line_of_ours():
    (line,) = re.findall(r"^ENTRYPOINT (.*)$", (DOCS / "run.md").read_text(), re.MULTILINE)
    program, *arguments = json.loads(line)
    options = build_parser().parse_args(arguments)
    assert (program, options.verb, options.host, options.command[-2:]) == (
        "shmetrics", "run", "0.0.0.0", ["gunicorn", "app:app"],
    )  # fmt: skip
