"""The examples of the original documentation, each run with only its import line changed (`tests/seed`)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SEED = Path(__file__).parent / "seed"
SPEED = 40
"""The examples sleep for minutes; their clock runs this much faster. shmetrics' own is left alone."""

_RUNNER = f"""
import runpy, sys, time
import shmetrics
sleep, now, start = time.sleep, time.time, time.time()
time.sleep = lambda seconds: sleep(seconds / {SPEED})
time.time = lambda: start + (now() - start) * {SPEED}
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("example", "requests"), [("basic_tracking", "100"), ("multi_threaded", r"\d{3,}"), ("best_practices", "60")]
)
def test_an_example_of_the_original_documentation_runs(example, requests):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUNNER, str(SEED / f"{example}.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(rf"(?:Total requests(?: processed)?: |^){requests}$", done.stdout, re.MULTILINE), done.stdout


def test_the_example_of_custom_metrics_runs():
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SEED / "custom_metrics.py")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(r"^  model_accuracy: .*'value': 0.945", done.stdout, re.MULTILINE)
    assert re.search(r"^  data_freshness: .*'count': 1.0, 'sum': 8.5", done.stdout, re.MULTILINE)
    assert re.search(r"^  feature_drift: .*'age'.*'value': 1.0", done.stdout, re.MULTILINE)
