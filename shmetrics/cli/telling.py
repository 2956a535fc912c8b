"""Telling: lines of a program whose work is worth more than they are.

`shmetrics run` and its aggregator stand beside a server. Where their words go may break: the program that read the log
has ended, its disk is full. Then a line is lost, and the server is supervised and measured all the same.
"""

import os
from contextlib import suppress
from typing import Final

STDOUT = 1
STDERR = 2

TWO_LINES: Final = "with a server other than gunicorn the application needs two lines (docs/run.md)"
"""What to do where nothing is recorded."""


def tell(descriptor: int, line: str) -> None:
    """Write a line, or lose it.

    Past Python's streams, which would keep what they could not write, try again when the process ends, and change its
    exit status then.
    """
    with suppress(OSError):
        os.write(descriptor, f"{line}\n".encode(errors="backslashreplace"))
