"""The page of each server in docs/, as printed: its files, its command, its request, and what the hub says then."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import run, until
from tests.servers import free_port, running
from tests.test_docs import SERVED, blocks

DOCS = Path(__file__).parent.parent.parent / "docs"
ROUTES = {
    "uvicorn.md": ("200", ""),
    "granian.md": ("200", ""),
    "hypercorn.md": ("200", ""),
    "fastapi.md": ("200", "/lengths/{text}"),
    "flask.md": ("200", "/lengths/<text>"),
    "django.md": ("200", "/admin/login/"),
}


def write_files(page, directory):
    """The python blocks, each to the file that its first line names, or to the end of that file."""
    if page.name == "django.md":
        subprocess.run([sys.executable, "-m", "django", "startproject", "mysite", "."], cwd=directory, check=True)
    for text in blocks(page, "python"):
        path, at_its_end, _ = text.removeprefix("# ").partition("\n")[0].partition(", at its end")
        with (directory / path).open("a" if at_its_end else "w") as file:
            file.write(text)


def test_every_page_of_a_server_is_tried():
    assert set(ROUTES) == SERVED


@pytest.mark.parametrize("page", sorted(ROUTES))
def test_a_server_is_measured_as_its_page_says(page, tmp_path, hub_name):
    write_files(DOCS / page, tmp_path)
    port = free_port()
    (lines,) = blocks(DOCS / page, "sh")
    start, ask, look = (shlex.split(line.replace("8000", str(port))) for line in lines.splitlines())
    assert (start[0], ask[0], look) == ("SHMETRICS_HUB=hello", "curl", ["shmetrics", "stats", "hello"])
    path = "/" + ask[1].split("/", 3)[3]
    with running([sys.executable, "-m", *start[1:]], tmp_path, port, hub_name, ready=None) as server:
        assert until(lambda: answer_of(server, path), pause=0.1)[0] == 200
        until(lambda: server.figures()["total_requests"] >= 1)
        status, route = ROUTES[page]
        assert server.series("http_server_request_duration_seconds") == {("GET", status, route): 1}
        shown = run("stats", hub_name)
        assert (shown.returncode, shown.stderr) == (0, "")


def answer_of(server, path):
    """What the server says, when it does: a connection that is refused is no request yet."""
    assert server.process.poll() is None, "the server did not start"
    try:
        return server.get(path)
    except ConnectionRefusedError:
        return None
