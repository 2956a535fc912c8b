"""Work in a process of another environment: what cannot be installed beside us takes its turns all the same.

The child gets code, makes `Call`s of it, and then does as many as it is told to, and times them itself; a line of JSON
each way. It runs this file and `calls.py` and nothing else of ours, since we are not installed where it runs.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

_CALLS: Final = Path(__file__).with_name("calls.py")


class RemoteError(Exception):
    """The child ended, or could not do what it was told."""


class Remote:
    """One work of the child's."""

    def __init__(self, child: "Child", name: str) -> None:
        self._child = child
        self._name = name

    def many(self, calls: int) -> float:
        """See `Work.many`."""
        return float(self._child.ask({"do": "many", "name": self._name, "calls": calls}))

    def each(self, calls: int) -> Sequence[float]:
        """See `Work.each`."""
        return list(self._child.ask({"do": "each", "name": self._name, "calls": calls}))


class Child:
    """The running child; one question at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, question: Mapping[str, Any]) -> Any:
        """Its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended; why, is on its standard error, which is ours
            print(json.dumps(question), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RemoteError(f"{self._process.args!r} ended by status {self._process.wait()} when asked {question!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise RemoteError(f"{question!r}: {answer['error']}")
        return answer["found"]


@contextmanager
def child(python: str, setup: str, codes: Mapping[str, str]) -> Iterator[Mapping[str, Remote]]:
    """Works by name, done by the interpreter `python`: each a code that uses what `setup`, code too, has defined."""
    process = subprocess.Popen(
        [python, "-I", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        running = Child(process)
        running.ask({"do": "setup", "setup": setup, "codes": dict(codes)})
        yield {name: Remote(running, name) for name in codes}
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.kill()
        process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()


def _serve() -> None:
    """The child's side. Ctrl-C is its parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    made: dict[str, Any] = {}
    exec(compile(_CALLS.read_text(), _CALLS, "exec"), made)
    works: dict[str, Any] = {}
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if question["do"] == "setup":
                names: dict[str, Any] = {}
                exec(question["setup"], names)
                names.pop("__builtins__")
                works = {name: made["Call"](code, **names) for name, code in question["codes"].items()}
                found: Any = None
            else:
                found = getattr(works[question["name"]], question["do"])(question["calls"])
        except Exception as error:  # noqa: BLE001  whoever asked is told
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), flush=True)
        else:
            print(json.dumps({"found": found}), flush=True)


if __name__ == "__main__":
    _serve()
