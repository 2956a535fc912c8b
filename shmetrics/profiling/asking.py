"""The asker's side of profiling on demand: ask live workers of a hub, and collect what they find."""

import os
import selectors
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from shmetrics.process import fate_of
from shmetrics.profiling import wire
from shmetrics.profiling.counts import Counts
from shmetrics.profiling.peers import peer_of
from shmetrics.profiling.profile import Profile, merged
from shmetrics.profiling.wire import BUSY, STRANGER, Accepted, Refused, Request, WireError
from shmetrics.snapshot import Snapshot

PATIENCE: Final = 10.0
"""Seconds for which a worker may say nothing, when it has something to say every second."""

_POLL: Final = 0.1
_AT_ONCE: Final = 1 << 16
_MOST: Final = 256 << 20
"""Bytes that one worker may say in all."""

ENABLE: Final = (
    "start it with SHMETRICS_PROFILING=1 in its environment (`shmetrics run --profiling -- ...` does so) or have it "
    "call metrics.enable_profiling(). Under gevent no worker listens. py-spy, where it is installed and permitted, can "
    "do without"
)
"""What to do about a worker that does not listen."""


@dataclass(frozen=True)
class Target:
    """A live worker, as its slot shows it."""

    slot: int
    pid: int
    start_ticks: int
    instance: int
    """Of the hub."""

    def __str__(self) -> str:
        return f"worker {self.slot} (pid {self.pid})"

    @property
    def runs(self) -> bool:
        """Whether that very process is there, and not another that got its number."""
        return fate_of(self.pid, self.start_ticks).is_running


def targets(fleet: Snapshot, instance: int) -> list[Target]:
    """The workers of a fleet that live."""
    return [Target(worker.slot, worker.pid, worker.start_ticks, instance) for worker in fleet.workers if worker.alive]


@dataclass
class Answer:
    """What became of asking one worker."""

    target: Target
    parts: list[Profile] = field(default_factory=list)
    """As they came, one a second."""
    problem: str = ""
    """Why it is not all that was asked for, in words; empty when it is."""
    done: bool = False
    passed: float = 0.0
    """Seconds that the worker was sampled so far."""

    @property
    def profile(self) -> Profile:
        """All that came."""
        return merged(self.parts)

    def fail(self, problem: str) -> None:
        """There will be no more; the first reason stands."""
        self.problem = self.problem or problem
        self.done = True


def problems_of(answers: Iterable[Answer]) -> list[str]:
    """Why answers are not all that was asked for: each reason once, with the workers that it is true of."""
    alike: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.problem:
            alike.setdefault(answer.problem.replace(str(answer.target), ""), []).append(answer)
    return [
        first.problem + (f"; the same of {', '.join(str(other.target) for other in others)}" if others else "")
        for first, *others in alike.values()
    ]


def ask(
    workers: Iterable[Target],
    request: Request,
    *,
    expanded: Collection[str] = (),
    progress: Callable[[Sequence[Answer]], None] = lambda _: None,
    patience: float = PATIENCE,
) -> list[Answer]:
    """Have workers sampled, all at the same time; an answer for each, which may be that there is none.

    ``expanded``: libraries whose functions are told apart. ``progress``: called ten times a second. An exception, such
    as Ctrl-C, stops the samplers in the workers: they notice that nobody listens any more.
    """
    conversations = [_Conversation(target, request, expanded, patience) for target in workers]
    answers = [each.answer for each in conversations]
    with selectors.DefaultSelector() as selector:
        try:
            for each in conversations:
                if each.begin():
                    selector.register(each.connection, selectors.EVENT_READ, each)
                else:
                    each.connection.close()
            while not all(answer.done for answer in answers):
                for key, _ in selector.select(_POLL):
                    key.data.listen()
                for each in conversations:
                    each.look_at_clock()
                    if each.answer.done and each.connection.fileno() >= 0:
                        selector.unregister(each.connection)
                        each.connection.close()
                progress(answers)
        finally:
            for each in conversations:
                each.connection.close()
    return answers


def _is_reachable(pid: int) -> bool:
    """Whether a process is in our network namespace (network_namespaces(7)), as far as one may see that."""
    try:
        return os.path.samefile("/proc/self/ns/net", f"/proc/{pid}/ns/net")
    except OSError:
        return True


class _Conversation:
    """One worker, asked."""

    def __init__(self, target: Target, request: Request, expanded: Collection[str], patience: float) -> None:
        self.answer = Answer(target)
        self._target = target
        self._request = request
        self._expanded = expanded
        self._patience = patience
        self._received = bytearray()
        self._size = 0
        self._accepted = False
        self.connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def begin(self) -> bool:
        """Connect and ask; whether there is something to wait for."""
        self._begun = self._heard = time.monotonic()
        target, connection = self._target, self.connection
        connection.setblocking(False)
        if not target.runs:
            self.answer.fail(f"{target} has ended, or runs where its process cannot be seen from here")
            return False
        try:
            connection.connect(wire.address(target.instance, target.pid, target.start_ticks))
            peer = peer_of(connection)
            if peer.pid != target.pid:
                self.answer.fail(f"process {peer.pid} of user {peer.uid} listens in the place of {target}; not asked")
                return False
            with suppress(BrokenPipeError):  # it has said no already, which is what we are to hear
                connection.sendall(wire.encode_request(self._request))
        except ConnectionRefusedError:
            self.answer.fail(
                f"{target} has not enabled profiling: nothing listens there; {ENABLE}"
                if _is_reachable(target.pid)
                else f"{target} is in another network namespace, and cannot be asked from here; ask in its container"
            )
            return False
        except BlockingIOError:
            self.answer.fail(f"{target} is being asked by too many at once; try again in a moment")
            return False
        except OSError:
            self._closed()
            return False
        return True

    def listen(self) -> None:
        """Take what has come."""
        try:
            new = self.connection.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            new = b""
        if not new:
            self._closed()
            return
        self._size += len(new)
        self._received += new
        self._heard = time.monotonic()
        try:
            while not self.answer.done and (end := self._received.find(b"\n")) >= 0:
                line = bytes(self._received[:end])
                del self._received[: end + 1]
                self._take(line)
            if len(self._received) > wire.LONGEST_ANSWER or self._size > _MOST:
                raise WireError("more than a profile can be")
        except WireError as error:
            self.answer.fail(f"{self._target} says what cannot be a profile ({error}); is it of another version?")

    def look_at_clock(self) -> None:
        """Give up on a worker that has said nothing for long, or does not come to an end."""
        now = time.monotonic()
        silence = now - self._heard
        if self.answer.done:
            return
        if now - self._begun > self._request.seconds + 2 * self._patience:
            self.answer.fail(f"{self._target} goes on after {now - self._begun:.0f} s of {self._request.seconds:g}")
        elif silence > self._patience:
            what = "stopped answering" if self._accepted else "does not answer"
            self.answer.fail(
                f"{self._target} {what}: nothing for {silence:.0f} s. It is stopped, or in a call that keeps the "
                f"interpreter's lock, and no thread of it can look; py-spy dump --pid {self._target.pid} shows where"
            )

    def _take(self, line: bytes) -> None:
        match wire.decode_answer(line):
            case Accepted():
                self._accepted = True
            case Refused(why):
                self.answer.fail(self._refusal(why))
            case part:
                self._add(part.counts)
                self.answer.done = part.last

    def _add(self, counts: Counts) -> None:
        self.answer.passed += counts.seconds
        self.answer.parts.append(counts.profile(1.0 / self._request.rate, self._expanded))

    def _refusal(self, why: str) -> str:
        target = self._target
        if why == BUSY:
            return f"{target} is being profiled by somebody else; try again when that is over"
        if why == STRANGER:
            return f"{target} answers its own user, and root, alone; ask as that user"
        return f"{target} does not understand what it was asked; it runs another version of shmetrics"

    def _closed(self) -> None:
        answer, target = self.answer, self._target
        after = f" after {answer.passed:.1f} s of {self._request.seconds:g}" if self._accepted else ""
        if target.runs:
            answer.fail(f"{target} ended the conversation{after}; it closed its metrics, or is about to end")
        else:
            answer.fail(f"{target} has died{after}")
