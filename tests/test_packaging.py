"""What is installed is what the tree holds, and the core stays as light as it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import shmetrics

ROOT = Path(__file__).parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()
CORE = {"numpy", "posix_ipc", "psutil", "prometheus_client"}
LINKED = ("workers", "exporters", "benchmarks")
FOLDERS = {"shmetrics": "shmetrics", **{f"shmetrics.{folder}": folder for folder in LINKED}}
UNWANTED = (
    "celery",
    "concurrent.futures.process",
    "gunicorn",
    "joblib",
    "multiprocessing.pool",
    "prometheus_client",
    "shmetrics.alerting",
    "shmetrics.benchmarks",
    "shmetrics.workers",
    "shmetrics.exporters",
    "shmetrics.cli",
    "shmetrics.demo",
    "shmetrics.llm",
    "shmetrics.pools",
    "shmetrics.profiling",
)


def _declared(key):
    return re.findall(r'"([^"]+)"', re.search(rf"^{key} = \[(.*?)\]", PYPROJECT, re.MULTILINE | re.DOTALL)[1])


def test_every_package_of_the_tree_is_installed_and_no_other():
    found = set()
    for package, folder in FOLDERS.items():
        for directory, _, files in os.walk(ROOT / folder):  # does not follow the two links
            if "__init__.py" in files:
                below = Path(directory).relative_to(ROOT / folder).parts
                found.add(".".join((package, *below)))
    assert set(_declared("packages")) == found


def test_every_file_that_is_no_code_is_installed():
    assert "\ninclude-package-data = false\n" in PYPROJECT
    data = re.search(r"^\[tool.setuptools.package-data\]\n(.*?)\n\n", PYPROJECT, re.MULTILINE | re.DOTALL)[1]
    named = set()
    for package, patterns in re.findall(r'^"?([\w.]+)"? = \[(.*)\]', data, re.MULTILINE):
        _, folder, below = max((len(each), FOLDERS[each], package[len(each) :]) for each in FOLDERS if each in package)
        for pattern in re.findall(r'"([^"]+)"', patterns):
            named |= set(ROOT.joinpath(folder, *below.split(".")).glob(pattern))
    there = {
        path
        for folder in FOLDERS.values()
        for path in (ROOT / folder).rglob("*")  # does not follow the three links
        if path.is_file() and path.suffix not in (".py", ".pyc", ".so", ".c", ".h")
    }
    assert there == named


def test_the_core_depends_on_four_packages():
    assert {re.split("[<>=]", requirement)[0] for requirement in _declared("dependencies")} == CORE


def test_the_links_for_type_checkers_point_at_the_folders():
    for folder in LINKED:
        assert os.readlink(ROOT / "shmetrics" / folder) == f"../{folder}"


def test_the_version_is_the_same_everywhere():
    assert f'version = "{shmetrics.__version__}"' in PYPROJECT
    assert f"## [{shmetrics.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_importing_shmetrics_loads_no_framework_and_no_wrapper():
    code = "import sys, shmetrics; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in UNWANTED if name in loaded] == []


def test_the_exporter_is_handed_on_when_it_is_asked_for_and_not_before():
    code = (
        "import sys, shmetrics\n"
        "assert 'PrometheusExporter' in dir(shmetrics) and 'prometheus_client' not in sys.modules\n"
        "from shmetrics import PrometheusExporter\n"
        "from shmetrics.exporters.prometheus import PrometheusExporter as known\n"
        "assert PrometheusExporter is known and not hasattr(shmetrics, 'Nonsense')\n"
        "from shmetrics import LLMMetrics\n"
        "assert LLMMetrics is sys.modules['shmetrics.llm'].LLMMetrics\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_public_names_exist_and_are_documented():
    for name in shmetrics.__all__:
        assert getattr(shmetrics, name).__doc__, name


def test_the_package_is_typed():
    assert (Path(shmetrics.__file__).parent / "py.typed").exists()
