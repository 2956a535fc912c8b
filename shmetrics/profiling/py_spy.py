"""py-spy, where it is installed and permitted: it looks from outside, so it needs no leave of the worker, and no lock.

https://github.com/benfred/py-spy. It finds a worker that keeps the interpreter's lock, or never enabled profiling; in
exchange it must be allowed to read another process (ptrace(2)), which containers and distributions often forbid.
"""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import IO, Final

from shmetrics import prctl
from shmetrics.process import stat_fields
from shmetrics.profiling.asking import Answer, Target
from shmetrics.profiling.frames import Frame, folded, frame, module_of
from shmetrics.profiling.profile import Profile, Stack
from shmetrics.profiling.wire import Request

_PROGRAM: Final = "py-spy"
_FRAME: Final = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)")
_LISTENER: Final = re.compile(r"(?:\w+\.)?_serve \(.*shmetrics/profiling/listener\.py(:\d+)?\)")
"""Where the thread begins that waits for `shmetrics profile`, which is no part of what a worker does."""
_SAMPLER: Final = re.compile(r"(?:\w+\.)?run \(.*shmetrics/profiling/sampler\.py(:\d+)?\)")
"""What threads are in that sample by themselves, for breakdowns: neither is what they do."""
_HERE: Final = str(Path(__file__).parents[2])
"""Where this package is, which of one that is installed editable ``sys.path`` does not say."""
_POLL: Final = 0.1
_NOTICES: Final = 1.0
"""Seconds after which it has noticed that a worker has died."""
_EXIT_EVENT: Final = signal.SIGTRAP | 6 << 8
_GRACE: Final = 30.0
"""Seconds more than it was asked for that it may take: it reads the symbols of the interpreter first."""


def find() -> str | None:
    """Where it is: beside this very interpreter, as in a virtual environment that is not activated, or on PATH."""
    return shutil.which(_PROGRAM, path=os.path.dirname(sys.executable)) or shutil.which(_PROGRAM)


def parse(raw: str, roots: Collection[str] = ()) -> Counter[tuple[Frame, ...]]:
    """Samples of each stack, from what ``py-spy record --format raw`` writes. ValueError when it is something else.

    ``roots``: directories that modules are looked for in.
    """
    stacks: Counter[tuple[Frame, ...]] = Counter()
    for number, line in enumerate(raw.splitlines(), 1):
        stack, space, samples = line.rpartition(" ")
        if not space or not (samples.isascii() and samples.isdigit()):
            raise ValueError(f"line {number} of what py-spy wrote is no stack with its samples: {line[:200]!r}")
        if not stack:  # of a worker that is about to end, or between greenlets: nothing runs there
            continue
        frames = stack.split(";")
        if not _LISTENER.fullmatch(frames[0]) and not any(map(_SAMPLER.fullmatch, frames)):
            stacks[tuple(_frame(each, roots) for each in frames)] += int(samples)
    return stacks


def _frame(text: str, roots: Collection[str]) -> Frame:
    found = _FRAME.fullmatch(text)
    if found is None:
        return frame("", text, "?")
    return frame(found["file"], found["function"], module_of(found["file"], roots))


def record(
    program: str,
    workers: Iterable[Target],
    request: Request,
    *,
    expanded: Collection[str] = (),
    progress: Callable[[Sequence[Answer]], None] = lambda _: None,
) -> list[Answer]:
    """Have workers sampled by py-spy, all at the same time; answers as `asking.ask` gives them.

    ``program``: where py-spy is. It knows whole seconds and whole looks a second, so there may be a little more.
    """
    runs = [_Run(program, target, request) for target in workers]
    try:
        for each in runs:
            each.start()
        while not all(each.answer.done for each in runs):
            for each in runs:
                each.look(expanded)
            progress([each.answer for each in runs])
            time.sleep(_POLL)
    finally:
        for each in runs:
            each.end()
    return [each.answer for each in runs]


def _is_held_at_its_end(pid: int) -> bool:
    """Whether a process has stopped in the middle of its exit, until whoever traces it lets it go on.

    A worker that ends just as py-spy looks at it does so now and then, and py-spy keeps it until it ends itself. The
    main thread's ``exit_code`` (proc(5)) is then that of ``PTRACE_EVENT_EXIT`` (ptrace(2)), and its state is `t`.
    """
    fields = stat_fields(f"/proc/{pid}/task/{pid}/stat")
    return fields is not None and fields[0] == b"t" and int(fields[49]) == _EXIT_EVENT


def _text_of(file: IO[bytes]) -> str:
    """All that another process wrote to a file that both have open."""
    file.seek(0)
    return file.read().decode("utf-8", "replace")


class _Run:
    """One py-spy, which looks at one worker, and ends with us. What it writes has no name, so nothing of it stays."""

    def __init__(self, program: str, target: Target, request: Request) -> None:
        self.answer = Answer(target)
        self._target = target
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  `end` closes them
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._seconds = math.ceil(request.seconds)
        self._rate = round(request.rate)
        self._command = [
            *(program, "record", "--pid", str(target.pid), "--format", "raw", "--full-filenames", "--function"),
            *("--duration", str(self._seconds), "--rate", str(self._rate)),
            *("--output", f"/proc/self/fd/{self._output.fileno()}"),
            *(["--idle"] if request.idle else []),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._died_at: float | None = None
        self._interrupted = False

    def start(self) -> None:
        """Start it, where the worker is there."""
        self._begun = time.monotonic()
        if not self._target.runs:
            self.answer.fail(f"{self._target} has ended, or runs where its process cannot be seen from here")
            return
        parent = os.getpid()
        try:
            # In a session of its own: Ctrl-C is for us, who end it.
            self._process = subprocess.Popen(
                self._command,
                preexec_fn=lambda: prctl.end_with_parent(parent),  # noqa: PLW1509  it calls nothing that could be locked
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[self._output.fileno()],
            )
        except (OSError, subprocess.SubprocessError) as error:  # the latter where prctl is forbidden
            why = getattr(error, "strerror", None) or error
            self.answer.fail(f"py-spy cannot be started ({self._command[0]}): {why}")

    def look(self, expanded: Collection[str]) -> None:
        """See whether it is done, and what it found."""
        if self.answer.done or self._process is None:
            return
        took = time.monotonic() - self._begun
        if self._died_at is None and (not self._target.runs or _is_held_at_its_end(self._target.pid)):
            self._died_at = took
        until = self._seconds if self._died_at is None else min(self._died_at, self._seconds)
        self.answer.passed = min(took, until)
        status = self._process.poll()
        if status is None:
            if self._died_at is not None and took > self._died_at + _NOTICES and not self._interrupted:
                # Of a worker that has died it says what it has found: mostly by itself, and when it is interrupted.
                self._interrupted = True
                self._process.send_signal(signal.SIGINT)
            if took > until + _GRACE:
                self.answer.fail(f"py-spy has not come to an end with {self._target} after {took:.0f} s")
            return
        if until < self._seconds:
            self.answer.fail(f"{self._target} has died after {until:.1f} s of {self._seconds}")
        if status != 0:
            self.answer.fail(f"py-spy cannot look at {self._target}: {self._complaint()}")
            return
        try:
            self.answer.parts.append(self._profile(_text_of(self._output), self.answer.passed, expanded))
        except ValueError as error:
            self.answer.fail(f"py-spy has looked at {self._target}, and what it wrote cannot be read: {error}")
        self.answer.done = True

    def end(self) -> None:
        """Let nothing go on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._output.close()
        self._log.close()

    def _profile(self, raw: str, seconds: float, expanded: Collection[str]) -> Profile:
        stacks: Counter[Stack] = Counter()
        for stack, samples in parse(raw, [*sys.path, _HERE, self._directory()]).items():
            stacks[folded(stack, expanded)] += samples
        return Profile(stacks, 1.0 / self._rate, seconds)

    def _directory(self) -> str:
        """Where the worker stands, which is where most applications are imported from."""
        try:
            return os.readlink(f"/proc/{self._target.pid}/cwd")
        except OSError:
            return ""

    def _complaint(self) -> str:
        """What it says is wrong, in a line."""
        lines = [line.strip() for line in _text_of(self._log).splitlines()]
        return next((line for line in lines if line.startswith(("Error", "Permission"))), "it does not say why")
