"""The real py-spy, of the extra `dev`, which needs leave to look into another process.

Where it is not installed or not permitted its tests are skipped, which says why; where services are required, as in CI,
they fail.
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
    lack = "py-spy is not installed: pip install py-spy"
    if program is not None:
        code = "print('it runs', flush=True); input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            dump = subprocess.run([program, "dump", "--pid", str(child.pid)], capture_output=True, text=True)
            child.communicate(b"\n")
        lack = f"py-spy may not look into another process (ptrace): {dump.stderr[-300:]}" if dump.returncode else ""
    if lack and os.environ.get(VARIABLE) == "require":
        pytest.fail(f"{lack} ({VARIABLE}=require)")
    if lack:
        pytest.skip(lack)
    return program
