"""Processes that are there while a block lasts, and that do what they are asked: all of them at once, or the first few.

Each makes its answers of what it was given when it starts (`prepare`), and then waits for questions on a pipe. Who asks
and goes away, in whatever manner, closes the pipes, and they end.
"""

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

Answers = Mapping[str, Callable[..., Any]]
"""What a process can be asked: name, and what gives the answer."""
STARTS: Final = ("fork", "spawn")
_PATIENCE: Final = 5.0
"""Seconds for all of them to end of themselves."""


class FleetError(Exception):
    """A process of a fleet ended, or could not answer."""


class Fleet:
    """The processes; one question at a time."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def __len__(self) -> int:
        return len(self._connections)

    def ask(self, question: str, *arguments: object, of: int | None = None) -> list[Any]:
        """The answers of the first ``of``, or of all, once all have answered."""
        self.tell(question, *arguments, of=of)
        return self.heard(of)

    def tell(self, question: str, *arguments: object, of: int | None = None) -> None:
        """Ask, and do not wait: `heard` does."""
        for connection in self._connections[:of]:
            with suppress(BrokenPipeError):  # it has ended, as `heard` will find
                connection.send((question, arguments))

    def heard(self, of: int | None = None) -> list[Any]:
        """What those answer that were told something. One that has ended is noticed at once: others may wait for a lock
        that it had, and would for ever.
        """
        answers: dict[int, Any] = {}
        silent = {connection: number for number, connection in enumerate(self._connections[:of])}
        while silent:
            for connection in wait(list(silent)):
                assert isinstance(connection, Connection)
                number = silent.pop(connection)
                answers[number] = self._answer(number, connection)
        return [answers[number] for number in sorted(answers)]

    @staticmethod
    def _answer(number: int, connection: Connection) -> Any:
        try:
            answer, problem = connection.recv()
        except (EOFError, ConnectionResetError):
            raise FleetError(f"process {number} of the fleet ended; standard error may say why") from None
        if problem:
            raise FleetError(f"process {number} of the fleet failed:\n{problem}")
        return answer


@contextmanager
def deaf() -> Iterator[None]:
    """Processes that are started in the block do not hear of Ctrl-C, which a terminal tells all of us; this one does,
    after it.

    From their first moment on: one that is still importing would else print where Ctrl-C found it.
    """
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


@contextmanager
def fleet(size: int, start: str, prepare: Callable[..., Answers], *arguments: object) -> Iterator[Fleet]:
    """So many processes, started by ``start``, each with the answers of ``prepare(number, *arguments)``.

    They do not hear of Ctrl-C: whoever asks them does, and the end of the block is theirs.
    """
    context = multiprocessing.get_context(start)
    connections: list[Connection] = []
    processes: list[BaseProcess] = []
    if start == "spawn":
        resource_tracker.ensure_running()  # it unblocks the signal where it starts, which it would do just in between
    patience = 0.0  # for those that are not even ready
    try:
        for number in range(size):
            ours, theirs = context.Pipe()
            connections.append(ours)
            inherited = tuple(connections) if start == "fork" else ()
            details = (theirs, inherited, prepare, number, arguments)
            process = context.Process(target=_serve, args=details, daemon=True)  # type: ignore[attr-defined]
            with deaf():
                process.start()
                processes.append(process)
            theirs.close()
        started = Fleet(connections)
        started.heard()
        patience = _PATIENCE
        yield started
    finally:
        for connection in connections:
            connection.close()
        deadline = time.monotonic() + patience
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0.0))
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
            process.close()


def _serve(connection: Connection, inherited: tuple[Connection, ...], *how: Any) -> None:
    """The life of one. ``inherited``: the other ends, which would keep the pipes open when whoever asks is gone.

    It ends as a killed one does: 64 that give up their slots, one after the other, would take many seconds, and what
    they have slots in is about to be removed.
    """
    for other in inherited:
        other.close()
    _answer(connection, *how)
    os._exit(0)


def _answer(
    connection: Connection, prepare: Callable[..., Answers], number: int, arguments: tuple[object, ...]
) -> None:
    """Whatever is asked, until nobody wants to know any more."""
    answers: Answers = {}

    def said(work: Callable[[], Any]) -> bool:
        try:
            answer = (work(), "")
        except Exception:  # noqa: BLE001  whoever asked is told
            answer = (None, traceback.format_exc())
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return False  # nobody wants to know any more
        return not answer[1]

    def begin() -> None:
        nonlocal answers
        answers = prepare(number, *arguments)

    if not said(begin):
        return
    while True:
        try:
            question, details = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        said(lambda: answers[question](*details))  # noqa: B023  it is called at once
