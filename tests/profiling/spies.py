"""The real py-spy, of the extra `dev`, which needs leave to look into another process.

Where it is not installed or not permitted its tests are skipped, which says why. Where services are required, as in CI,
they fail if it is not installed; whether a machine permits it is not for tests to say.
"""

import os
import subprocess
import sys

import pytest

from shmetrics.profiling import py_spy
from tests.exporters.services import VARIABLE


def spy():
    """The path of a py-spy that may look into a child of ours."""
    program = py_spy.find()
    if program is None:
        lack = "py-spy is not installed: pip install py-spy"
        if os.environ.get(VARIABLE) == "require":
            pytest.fail(f"{lack} ({VARIABLE}=require)")
        pytest.skip(lack)
    code = "print('it runs', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        dump = subprocess.run([program, "dump", "--pid", str(child.pid)], capture_output=True, text=True)
        child.communicate(b"\n")
    if dump.returncode:
        refused = "permission denied" in dump.stderr.lower() or "not permitted" in dump.stderr.lower()
        (pytest.skip if refused else pytest.fail)(f"py-spy cannot look into another process: {dump.stderr[-300:]}")
    return program
