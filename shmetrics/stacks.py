"""What is on the stacks of all threads, without a frame of a thread in hand that goes on.

`sys._current_frames` hands out the frames of threads that go on meanwhile, and since CPython 3.11 who follows these may
follow what is freed, which ends the process (https://github.com/python/cpython/issues/111363 is of that kind).

There are two ways around it. `read` has faulthandler write all stacks down in one go, while no other thread runs
Python: it makes no object, and knows files and lines only. `walker` gives what follows the frames in C, with the
interpreter's lock kept from the first to the last; where there is no C, Python follows them, with that danger.
"""

import faulthandler
import os
import re
import sys
from collections.abc import Callable, Container
from types import CodeType, FrameType
from typing import Any, Final

from shmetrics import native

Line = tuple[str, int]
"""A file, as faulthandler writes it, and the number of a line in it."""

_CALL: Final = re.compile(r'  File "(.*)", line (\d+) in ')
_HARMLESS: Final = ("Thread ", "Current thread ", "  <no Python frame>")
_LONGEST: Final = 400
"""Characters of a file's name; faulthandler cuts names of more than 500."""

Stack = tuple[int, list[CodeType], list[dict[str, Any]], bool]
"""A thread's ``ident``; the code and the globals of each of its calls, innermost first; and whether there are more."""


def walker() -> Callable[[int, Container[int] | None, Container[int]], list[Stack]]:
    """A function of any thread: the stacks of all threads, or of those ``only``, ``but`` for some.

    Its arguments: the most calls of a stack, of which the innermost are told; ``only``, or None; ``but``.
    """
    return native.instead("walk", _walk)


def _walk(most: int, only: Container[int] | None, but: Container[int]) -> list[Stack]:
    stacks: list[Stack] = []
    for ident, innermost in sys._current_frames().items():
        if ident in but or (only is not None and ident not in only):
            continue
        codes: list[CodeType] = []
        scopes: list[dict[str, Any]] = []
        each: FrameType | None = innermost
        while each is not None and len(codes) < most:
            codes.append(each.f_code)
            scopes.append(each.f_globals)
            each = each.f_back
        stacks.append((ident, codes, scopes, each is not None))
    return stacks


def read() -> list[list[Line]] | None:
    """The line that each call is at, for each thread, the innermost call first. Any thread may ask.

    None where that cannot be told: no descriptor is left, there are more than 100 threads, or more than 100 calls.
    """
    try:
        with open(os.memfd_create("stacks"), "rb") as file:
            faulthandler.dump_traceback(file.fileno(), all_threads=True)
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            text = file.read().decode("ascii", "replace")
    except OSError:
        return None
    stacks: list[list[Line]] = []
    for line in text.splitlines():
        call = _CALL.match(line)
        if call is not None and stacks:
            stacks[-1].append((call[1], int(call[2])))
        elif line.startswith(_HARMLESS[:2]):
            stacks.append([])
        elif line and not line.startswith(_HARMLESS):
            return None
    return stacks


def lines_of(code: CodeType) -> frozenset[Line]:
    """The lines of a function, as `read` tells them; ValueError where its file's name is too long to be told."""
    file = code.co_filename.encode("ascii", "backslashreplace").decode()
    if len(file) > _LONGEST:
        raise ValueError(f"a file's name can be {_LONGEST} characters long, and {file!r} has {len(file)}")
    return frozenset((file, line) for _, _, line in code.co_lines() if line is not None)
