"""The directions of imports that docs/architecture.md draws, held against the code."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKS = (("shmetrics", "workers"), ("shmetrics", "exporters"), ("shmetrics", "benchmarks"))
CORE_DEPENDENCIES = {"numpy", "posix_ipc", "psutil"}
OUTER = ("workers", "exporters", "benchmarks", "cli", "demo")
PURE = {
    "layout",
    "structs",
    "families",
    "board",
    "evidence",
    "findings",
    "llm_names",
    "obituary",
    "entries",
    "cells",
    "series",
    "tails",
    "exemplars",
    "sketch",
    "folded",
    "snapshot",
    "window",
    "percentiles",
    "merge",
    "spent",
    "statistics",
    "stragglers",
    "texts",
    "samples",
    "bins",
    "trends",
    "bottlenecks",
}
PURE_ALERTING = {
    "alert",
    "engine",
    "fields",
    "locate",
    "readings",
    "recent",
    "replay",
    "rules",
    "silences",
    "slo",
    "sources",
    "thresholds",
    "wording",
}
"""Of `shmetrics.alerting`; replay, which takes lines that somebody else read, needs rules files too."""
PURE_PROFILING = {"counts", "families", "frames", "profile", "results", "slowest", "wire"}
TYPES_FOR_MERGE = {"reader", "copies", "slots"}
"""What merge needs the types and constants of; it calls nothing of theirs."""
ARITHMETIC = {"arrays", "native"}
"""numpy, and the same arithmetic, compiled."""
NAMES_ONLY = {("obituary", "signal")}
"""Modules whose names of things are all that a pure one uses."""
IMPURE = {"os", "time", "mmap", "fcntl", "threading", "multiprocessing", "subprocess", "socket", "signal"}


def _modules():
    for folder in ("shmetrics", "workers", "exporters", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if relative.parts[:2] in LINKS:
                continue  # the folders they point at are visited themselves
            name = relative.with_suffix("").as_posix().replace("/", ".")
            yield (name if folder == "shmetrics" else f"shmetrics.{name}").removesuffix(".__init__"), path


MODULES = dict(_modules())


def imports(name):
    """Every module that a module imports; ``from package import module`` counts as the module."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def within(name, package):
    return name == package or name.startswith(package + ".")


def of(package):
    return [name for name in MODULES if within(name, f"shmetrics.{package}")]


CORE = [name for name in MODULES if not any(name in of(package) for package in OUTER)]


FACES = {"shmetrics", "shmetrics.__main__"}
"""The package's face hands some outer names on, when they are asked for; the other is the command line's."""


@pytest.mark.parametrize("name", [name for name in CORE if name not in FACES])
def test_the_core_never_imports_wrappers_exporters_commands_or_the_demo(name):
    for imported in imports(name):
        assert not any(within(imported, f"shmetrics.{package}") for package in OUTER), imported


@pytest.mark.parametrize("name", of("workers"))
def test_wrappers_never_import_exporters_or_commands(name):
    for imported in imports(name):
        assert not any(within(imported, f"shmetrics.{package}") for package in OUTER[1:]), imported


@pytest.mark.parametrize("name", of("exporters"))
def test_exporters_never_import_wrappers_or_commands(name):
    for imported in imports(name):
        assert not any(within(imported, f"shmetrics.{package}") for package in OUTER if package != "exporters"), (
            imported
        )


BENCHMARKS = of("benchmarks")
OF_COMMAND_LINES = {"shmetrics.cli.options"}
"""Flags are made in one place, those of scenarios too."""


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_never_import_commands_or_the_demo(name):
    for imported in set(imports(name)) - OF_COMMAND_LINES:
        assert not any(within(imported, f"shmetrics.{package}") for package in ("cli", "demo")), imported


@pytest.mark.parametrize("name", [name for name in MODULES if name not in {*BENCHMARKS, "shmetrics.cli.bench"}])
def test_benchmarks_are_known_to_their_command_only(name):
    assert not any(within(imported, "shmetrics.benchmarks") for imported in imports(name))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_use_no_private_module_or_name_of_what_they_measure(name):
    for imported in imports(name):
        assert not any(part.startswith("_") for part in imported.split(".") if part != "__future__"), imported


@pytest.mark.parametrize(
    "name", [name for name in MODULES if not within(name, "shmetrics.exporters.prometheus") and name not in BENCHMARKS]
)
def test_prometheus_client_is_known_to_one_package_only_and_to_who_compares_with_it(name):
    assert not any(within(imported, "prometheus_client") for imported in imports(name))


@pytest.mark.parametrize("framework", ["celery", "joblib", "django"])
def test_a_framework_is_imported_in_one_file_only(framework):
    files = [name for name in MODULES if any(within(imported, framework) for imported in imports(name))]
    assert len(files) == 1
    assert within(files[0], "shmetrics.workers")


def test_jinja2_is_known_to_one_file_only():
    for name in MODULES:
        known = any(within(imported, package) for imported in imports(name) for package in ("jinja2", "markupsafe"))
        assert not known or name == "shmetrics.exporters.profiles.pages", name


@pytest.mark.parametrize("name", ["flame", "histogram", "outliers", "figures", "report_data"])
def test_what_a_report_draws_is_computed_without_input_or_output(name):
    for imported in imports(f"shmetrics.exporters.profiles.{name}"):
        assert imported.split(".")[0] not in IMPURE, imported


@pytest.mark.parametrize("framework", ["starlette", "fastapi", "flask", "werkzeug", "uvicorn", "granian", "hypercorn"])
def test_what_is_served_and_what_serves_is_imported_by_applications_that_are_served_only(framework):
    for name in MODULES:
        if within(name, "shmetrics.benchmarks.served"):
            continue
        assert not any(within(imported, framework) for imported in imports(name)), name


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_modules_do_no_input_or_output(name):
    for imported in imports(f"shmetrics.{name}"):
        root, *rest = imported.split(".")
        assert root not in IMPURE or (name, root) in NAMES_ONLY, imported
        assert root != "shmetrics" or rest == [] or rest[0] in PURE | TYPES_FOR_MERGE | ARITHMETIC, imported


@pytest.mark.parametrize("name", sorted(PURE_ALERTING))
def test_what_judges_alerts_does_no_input_or_output(name):
    for imported in imports(f"shmetrics.alerting.{name}"):
        root, *rest = imported.split(".")
        assert root not in IMPURE, imported
        if root == "shmetrics":
            pure = rest[0] in PURE | {"errors"} or (rest[0] == "alerting" and rest[1] in PURE_ALERTING)
            assert pure or (name, rest[1]) == ("replay", "definition"), imported


@pytest.mark.parametrize("name", sorted(PURE_PROFILING))
def test_what_counts_and_names_stacks_does_no_input_or_output(name):
    for imported in imports(f"shmetrics.profiling.{name}"):
        root, *rest = imported.split(".")
        assert root not in IMPURE, imported
        pure = not rest or rest[0] in PURE or (rest[0] == "profiling" and rest[1] in PURE_PROFILING)
        assert root != "shmetrics" or pure, imported


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_nothing_but_its_dependencies_and_the_standard_library(name):
    for imported in imports(name):
        assert imported.split(".")[0] in sys.stdlib_module_names | CORE_DEPENDENCIES | {"shmetrics"}, imported


def test_the_writer_and_the_reader_do_not_know_each_other():
    assert "shmetrics.reader" not in imports("shmetrics.writer")
    assert "shmetrics.writer" not in imports("shmetrics.reader")


def test_no_file_is_past_five_hundred_lines():
    files = [
        path
        for folder in ("shmetrics", "workers", "exporters", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert [path.name for path in files if len(path.read_text().splitlines()) > 500] == []
