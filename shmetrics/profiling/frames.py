"""What frames are called: one's own functions by module and name, and a library, whatever runs in it, as one. Pure.

Where a frame is from, its file says: that is known to every means of profiling, also to one that looks from outside. A
file under ``site-packages`` or in Python's own directory is a library's, and is known by its package.
"""

import re
from collections.abc import Container, Iterable, Sequence
from typing import Final, NamedTuple

from shmetrics.profiling.profile import Stack

EVERYTHING: Final = "all"
"""In place of a package to expand: all of them."""

_LONGEST: Final = 200
"""Characters of a name."""
_LIBRARY: Final = re.compile(
    r".*/(?:site|dist)-packages/(?P<package>[^/]+)|.*/(?:lib|lib64)/python3(?:\.\d+t?)?/(?P<standard>[^/]+)"
)
_PROGRAM: Final = ("__main__", "__mp_main__")
_FROZEN: Final = re.compile(r"<frozen (?P<module>[\w.]+)>")
ITSELF: Final = "shmetrics"
"""Is a library too, wherever it was installed from."""


class Frame(NamedTuple):
    """One function, as it stands in stacks."""

    name: str
    """``"module:function"``."""
    package: str = ""
    """The library that it belongs to; nothing for one's own code."""


def frame(filename: str, function: str, module: str) -> Frame:
    """The frame of a function. ``module``: as its globals call it, or as `module_of` does where those are not at hand.

    A program that was started as a file is ``__main__`` to Python, and ``__mp_main__`` in children that multiprocessing
    spawned; to people it is what its file is called.
    """
    if module in _PROGRAM:
        module = _stem(filename)
    name = f"{module}:{function}"
    return Frame(name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "...", _package(filename, module))


def module_of(filename: str, roots: Iterable[str]) -> str:
    """What a file is called as a module, by the directories that modules are looked for in (``sys.path``)."""
    inside = [len(root.rstrip("/")) + 1 for root in roots if root and filename.startswith(root.rstrip("/") + "/")]
    if library := _LIBRARY.match(filename):
        inside.append(max(library.start("package"), library.start("standard")))
    if not inside:
        return _stem(filename)
    return filename[max(inside) :].removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def folded(stack: Sequence[Frame], expanded: Container[str] = ()) -> Stack:
    """The stack as a profile has it: what runs in one library, however many of its functions, is one frame.

    ``expanded``: packages whose functions are named all the same, or EVERYTHING.
    """
    names: list[str] = []
    last = ""
    for each in stack:
        package = "" if EVERYTHING in expanded or each.package in expanded else each.package
        if not package:
            names.append(each.name)
        elif package != last:
            names.append(package)
        last = package
    return tuple(names)


def _package(filename: str, module: str) -> str:
    if module.partition(".")[0] == ITSELF:
        return ITSELF
    if frozen := _FROZEN.fullmatch(filename):
        return frozen["module"].partition(".")[0]
    found = _LIBRARY.match(filename)
    return "" if found is None else (found["package"] or found["standard"]).removesuffix(".py")


def _stem(filename: str) -> str:
    return filename.rpartition("/")[2].removesuffix(".py") or "?"
