"""How many instructions of a program a call takes, without the kernel's: a figure that nothing else on the machine has
a part in.

Counted by valgrind, where there is one, in a process that forks for each figure: what a call takes is what a child with
many calls takes more than one with fewer.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import Final

from shmetrics.benchmarks.calls import Work
from shmetrics.benchmarks.commands import finished
from shmetrics.benchmarks.peers import opened, peers

FEWER, MORE = 512, 1536
"""Calls: records are folded some hundreds at a time, so that both have whole folds in them."""
_COMMAND: Final = ("--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
_COUNT: Final = re.compile(r"^==(\d+)== I\s+refs:\s+([\d,]+)", re.MULTILINE)


def lacking() -> str:
    """The command that brings what counts; "" where it is there."""
    return "" if shutil.which("valgrind") else "apt-get install valgrind"


def counted(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Instructions of a call, by peer and work; subprocess.CalledProcessError where they cannot be had."""
    printed, said = finished(["valgrind", *_COMMAND, sys.executable, "-m", __name__, *names])
    counts = {int(pid): int(count.replace(",", "")) for pid, count in _COUNT.findall(said)}
    children: dict[str, dict[str, list[int]]] = json.loads(printed)
    return {
        name: {work: (counts[more] - counts[fewer]) / (MORE - FEWER) for work, (fewer, more) in works.items()}
        for name, works in children.items()
    }


def _main() -> None:
    """What runs under valgrind: prints which children did fewer calls of a work, and which did more."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for name in sys.argv[1:]:
        peer = peers()[name]
        with opened(peer) as state:
            found[name] = {work: _children(call) for work, call in peer.calls(state).items()}
    print(json.dumps(found))


def _children(call: Work) -> tuple[int, int]:
    """Whatever first calls prepare is there; then nothing is done between one child and the other."""
    call.many(FEWER)
    return _child(call, FEWER), _child(call, MORE)


def _child(call: Work, calls: int) -> int:
    """The number of a process that made so many calls, and is gone."""
    child = os.fork()
    if child == 0:
        try:
            call.many(calls)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return child


if __name__ == "__main__":
    _main()
