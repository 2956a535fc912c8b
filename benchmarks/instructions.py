"""How many instructions of a program a call takes, without the kernel's: a figure that nothing else on the machine has
a part in.

Counted by valgrind, where there is one, in a process for each peer that forks for each figure: what a call takes is
what a child with many calls takes more than one with fewer.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from shmetrics.benchmarks.peers import opened, peers

FEWER, MORE = 512, 1536
"""Calls: records are folded some hundreds at a time, so that both have whole folds in them."""
_COMMAND: Final = ("--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
_COUNT: Final = re.compile(r"^==(\d+)== I\s+refs:\s+([\d,]+)", re.MULTILINE)


def lacking() -> str:
    """The command that brings what counts; "" where it is there."""
    return "" if shutil.which("valgrind") else "apt-get install valgrind"


def counted(peer: str) -> Mapping[str, float]:
    """Instructions of a call, by work; subprocess.CalledProcessError where that cannot be had."""
    command = ["valgrind", *_COMMAND, sys.executable, "-m", __name__, peer]
    printed, said = _finished(command)
    counts = {int(pid): int(count.replace(",", "")) for pid, count in _COUNT.findall(said)}
    children: dict[str, list[int]] = json.loads(printed)
    return {work: (counts[more] - counts[fewer]) / (MORE - FEWER) for work, (fewer, more) in children.items()}


def _finished(command: list[str]) -> tuple[str, str]:
    """What a command wrote; whoever interrupts us interrupts it, and it has the time to remove what it made."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            printed, said = process.communicate()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.communicate()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, printed, said)
    return printed, said


def _main() -> None:
    """What runs under valgrind: prints which children did fewer calls of a work, and which did more."""
    peer = peers()[sys.argv[1]]
    children: dict[str, list[int]] = {}
    with opened(peer) as state:
        for work, call in peer.calls(state).items():
            call.many(FEWER)
            children[work] = []
            for calls in (FEWER, MORE):
                child = os.fork()
                if child == 0:
                    try:
                        call.many(calls)
                    finally:
                        os._exit(0)
                os.waitpid(child, 0)
                children[work].append(child)
    print(json.dumps(children))


if __name__ == "__main__":
    _main()
