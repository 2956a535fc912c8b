"""What others wrote and is shipped with the package is unchanged, named and licensed."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent.parent
FOLDER = files("shmetrics.exporters.profiles") / "vendor" / "uplot"


def test_every_file_of_uplot_is_the_one_whose_sum_its_readme_names():
    sums = dict(re.findall(r"\| `([\w.]+)` \| sha256 `([0-9a-f]{64})`", (FOLDER / "README.md").read_text()))
    assert set(sums) == {"uPlot.iife.min.js", "uPlot.min.css", "LICENSE"}
    for name, wanted in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == wanted, name


def test_the_licence_is_beside_it():
    assert (FOLDER / "LICENSE").read_text().startswith("The MIT License (MIT)")


def test_every_file_that_pages_are_made_of_is_declared_as_data():
    """A wheel holds these; `make` and `pip install --editable` would work without."""
    declared = re.search(r'^"shmetrics\.exporters\.profiles" = \[(.*)\]$', (ROOT / "pyproject.toml").read_text(), re.M)[
        1
    ]
    folder = ROOT / "exporters" / "profiles"
    shipped = {path for pattern in re.findall(r'"([^"]+)"', declared) for path in folder.glob(pattern)}
    there = {path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert shipped == there
