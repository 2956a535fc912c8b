"""`shmetrics gc`: removes what serves nobody, says what and what not, and nothing on a dry run."""

import json

import pytest

from shmetrics import PerformanceMetrics, inventory, naming
from shmetrics.cli import main
from tests.test_inventory import abandoned  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def _of_this_test_alone(request, monkeypatch):
    """Leave alone what other tests, which run beside us, are about to find left behind."""
    names = {request.getfixturevalue(name) for name in ("abandoned", "hub_name") if name in request.fixturenames}
    leftovers = inventory.leftovers
    monkeypatch.setattr(inventory, "leftovers", lambda: (found for found in leftovers() if found.name in names))


def test_it_removes_what_serves_nobody_and_says_so(abandoned, capsys):  # noqa: F811
    assert main(["gc"]) == 0
    assert f"removed hub {abandoned}: " in capsys.readouterr().out
    assert abandoned not in naming.hub_names()


def test_a_dry_run_removes_nothing(abandoned, capsys):  # noqa: F811
    assert main(["gc", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert f"would remove hub {abandoned}: " in out
    assert f"kept hub {abandoned}" not in out
    assert abandoned in naming.hub_names()


def test_it_says_what_it_keeps_and_why(hub_name, capsys):
    with PerformanceMetrics(name=hub_name, max_series=8) as metrics:
        metrics.update_inference(0.1)
        assert main(["gc"]) == 0
    assert f"kept hub {hub_name}: in use by 1 live worker" in capsys.readouterr().out
    assert hub_name in naming.hub_names()


def test_json_has_what_was_removed_and_what_was_kept(abandoned, hub_name, capsys):  # noqa: F811
    PerformanceMetrics(name=hub_name, max_series=8).close()
    assert main(["gc", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert abandoned in [row["name"] for row in report["removed"]]
    assert hub_name in [row["name"] for row in report["kept"]]
    assert report["dry_run"] is False
