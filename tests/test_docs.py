"""Every snippet of the README and the docs runs, and every command and key they name exists."""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from shmetrics import PerformanceMetrics, PrometheusExporter, errors
from shmetrics.alerting import definition, replay
from shmetrics.benchmarks import scenarios
from shmetrics.cli import build_parser
from shmetrics.exporters.alerts import dispatch_of
from shmetrics.process import start_ticks
from shmetrics.profiling.asking import Target, ask
from shmetrics.profiling.wire import Request
from tests.cli import until

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SERVED = {"uvicorn.md", "granian.md", "hypercorn.md", "fastapi.md", "flask.md", "django.md"}
"""Pages whose snippets are files of a server; tests/workers/test_pages.py runs them as such."""
PORT = "9464"
"""The port of all examples; where they are run, a free one instead."""
QUICK = {"SHMETRICS_SECONDS": "0.2", "SHMETRICS_PY_SPY": "never"}
"""Of commands that look for a while."""
PATIENCE = 60
"""Seconds for a command."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]


def pages_with(language):
    pages = [page for page in PAGES if language != "python" or page.name not in SERVED]
    return [pytest.param(page, id=page.name) for page in pages if blocks(page, language)]


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_python_snippets_of_a_page_run_in_order(page, tmp_path, hub_name):
    code = "\n".join(blocks(page, "python")).replace('"resnet"', f'"{hub_name}"').replace(PORT, "0")
    (tmp_path / "snippets.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "snippets.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", pages_with("toml"))
def test_the_rules_of_a_page_are_right_and_pass_their_tests(page):
    for text in blocks(page, "toml"):
        file = definition.parse(text, page.name)
        dispatch_of(file, None)
        outcomes = [replay.run_test(file, table) for table in file.tests]
        assert file.page.report() == []
        assert [outcome.failures for outcome in outcomes] == [()] * len(outcomes)


@pytest.mark.parametrize("page", pages_with("console"))
def test_the_commands_of_a_page_work(page, hub_name):
    PerformanceMetrics(name=hub_name).close()
    for line in blocks(page, "console")[0].splitlines():
        command = shlex.split(line.removeprefix("$ ").split("#")[0].replace("resnet", hub_name).replace(PORT, "0"))
        assert command[0] == "shmetrics"
        with live_worker(hub_name) if "profile" in command else nullcontext(), started(command) as process:
            if "serve" in command:  # until somebody ends it, when it has begun
                select.select([process.stdout], [], [], PATIENCE)
                process.terminate()
            output, complaints = ended(process)
        assert (process.returncode, bool(output)) == (0, True), f"{line}: {complaints}"


def started(command):
    """The running command of shmetrics; SIGABRT makes it say where it is."""
    python = [sys.executable, "-X", "faulthandler", "-m", *command]
    return subprocess.Popen(python, env=os.environ | QUICK, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    """What a process printed; one that does not end fails the test, which says where it was and what it had printed."""
    try:
        return process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        output, complaints = process.communicate()
        pytest.fail(f"after {PATIENCE} s {process.args} still ran; it had printed {output!r} and:\n{complaints}")


@contextmanager
def live_worker(name):
    """This process as a worker of the hub, which can be profiled."""
    with PerformanceMetrics(name=name) as metrics:
        metrics.enable_profiling()
        metrics.claim()
        process = Target(0, os.getpid(), start_ticks("self"), metrics.instance)
        until(lambda: not ask([process], Request(0.1, 100.0, False))[0].problem)
        yield


@pytest.mark.parametrize("page", pages_with("sh"))
def test_the_shell_lines_of_a_page_name_what_exists(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in "".join(blocks(page, "sh")).splitlines():
        words = [word for word in shlex.split(line, comments=True) if "=" not in word or word.startswith("-")]
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "shmetrics":
            build_parser().parse_args(words[1:])
        else:
            assert words[0] in ("pip", "curl", "gunicorn", "celery", "uvicorn", "granian", "hypercorn")


def test_the_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tests_and_files_a_page_names_exist():
    for page in PAGES:
        text = page.read_text()
        for path in re.findall(r"`((?:tests|benchmarks|shmetrics|workers|exporters)/[\w/.]*)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
        for name, path in re.findall(r"`(test_\w+)`\s+in `(tests/[\w/]+\.py)`", text):
            assert f"def {name}(" in (ROOT / path).read_text(), f"{page.name}: {name} in {path}"
        named = set(re.findall(r"`(test_\w+)`", text))
        assert named == {name for name, _ in re.findall(r"`(test_\w+)`\s+in `(tests/[\w/]+\.py)`", text)}


def test_every_statistic_is_documented():
    documented = (ROOT / "docs" / "statistics.md").read_text()
    with PerformanceMetrics(max_workers=2) as metrics:
        metrics.update_inference(0.1)
        figures = metrics.get_comprehensive_statistics()
    measured = re.compile(r"(avg|median|min|max|std|p\d\d|lifetime_p\d\d)_(\w+)")
    for key in (*figures, *figures["hub"], *figures["workers"][0]):
        match = measured.fullmatch(key)
        parts = (f"{match[1]}_", match[2]) if match else (f"`{key}`",)
        for part in parts:
            assert part in documented, key


def test_every_name_for_prometheus_is_documented_and_no_other():
    page = (ROOT / "docs" / "prometheus.md").read_text()
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    with PerformanceMetrics(max_workers=2) as metrics:
        families = list(PrometheusExporter(metrics, registry=None).describe())
    suffixes = {"counter": "_total", "info": "_info"}
    assert documented == {family.name + suffixes.get(family.type, "") for family in families}


def test_every_error_is_documented():
    guide = (ROOT / "docs" / "guide.md").read_text()
    for name in vars(errors):
        if name.endswith("Error") and name != "HubRefusedError":
            assert name in guide


def test_documented_environment_variables_and_verbs_are_those_of_the_help():
    help_text = build_parser().format_help()
    for verb in re.findall(r"^\$ shmetrics (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE):
        assert re.search(rf"^    {verb}\s", help_text, re.MULTILINE), verb
    assert "NO_COLOR" in help_text
    assert not os.environ.get("SHMETRICS_HUB")


def test_every_scenario_of_benchmarks_is_in_the_table_of_their_page():
    documented = (ROOT / "docs" / "benchmarks.md").read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", documented, re.MULTILINE)) == set(scenarios.names())
