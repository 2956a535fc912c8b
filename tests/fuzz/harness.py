"""The harness: strikes a live segment, keeps the actors going, runs the command line, and counts what must not be."""

import json
import mmap
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from shmetrics import guards, naming, segment
from shmetrics.layout import HEADER, Layout
from tests.fuzz import actors
from tests.fuzz.strikes import parts_of, strike

PATIENCE = 20.0
"""Seconds without progress after which a process hangs, on however loaded a machine."""
_ROLES = (actors.write,) * 3 + (actors.read,) * 2 + (actors.aggregate,)
_DIMS = Layout(max_workers=8, window_size=100, max_series=8)
_HUB_SECONDS = 2.5
_HEADER_SECONDS = 0.05
_COMMANDS = (
    *(("stats",), ("stats", "--json"), ("ls",), ("ls", "--json"), ("obituaries",), ("obituaries", "--json")),
    ("serve", "--json", "--interval", "0.05"),
)


@dataclass
class Report:
    """What one run came to."""

    seconds: float
    strikes: int = 0
    acts: Counter = field(default_factory=Counter)
    """Steps done by the actors: records, rounds of reads, ticks."""
    commands: int = 0
    kills: int = 0
    hubs: int = 0
    failures: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=dict)

    @property
    def good(self):
        """Whether nothing happened that must not."""
        return not self.failures


class Fuzz:
    """One run on hubs called `name`, one after another."""

    def __init__(self, name, *, seconds, seed):
        self._name = name
        self._draw = random.Random(seed)
        self._report = Report(seconds)
        self._ledger_memory = mmap.mmap(-1, 8 * len(_ROLES))
        self._ledger = memoryview(self._ledger_memory).cast("Q")
        self._actors = {}
        self._seen = {}
        self._command = None
        self._decoys = {}

    def run(self, progress=lambda share: None):
        """Strike for the time given; returns the report."""
        begin = time.monotonic()
        self._plant_decoys()
        self._bystander = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
        )
        try:
            while (done := time.monotonic() - begin) < self._report.seconds:
                self._one_hub(
                    min(_HUB_SECONDS, self._report.seconds - done), lambda: time.monotonic() - begin, progress
                )
            if not self._report.commands:  # on a machine so busy that none came to its end
                self._one_hub(PATIENCE, lambda: self._report.seconds, progress, until_command=True)
        finally:
            self._check_bystanders()
        return self._report

    def _one_hub(self, seconds, since, progress, *, until_command=False):
        self._target = segment.create(self._name, _DIMS)
        self._memory = memoryview(self._target.memory)
        self._parts = parts_of(_DIMS)
        self._header = bytes(self._memory[: HEADER.itemsize])
        self._report.hubs += 1
        end, heal_at = time.monotonic() + seconds, 0.0
        pace = self._draw.choice((1, 4, 32))  # slow: one wound is lived with for long; fast: many at once
        try:
            for place, role in enumerate(_ROLES):
                self._start(place, role)
            while (now := time.monotonic()) < end and not (until_command and self._report.commands):
                for _ in range(pace):
                    heal_at = self._strike_once() or heal_at
                if 0.0 < heal_at < now:
                    self._heal_header()
                    heal_at = 0.0
                self._watch()
                self._run_command()
                progress(since() / self._report.seconds)
                time.sleep(0.005)
        finally:
            self._end_all()
            self._heal_header()
            segment.unlink(self._name, self._target.instance)
            guards.unlink_all(f"{naming.segment_file(self._name)}.")  # of instances that never were
            self._memory.release()
            self._target.close()

    def _strike_once(self):
        """One strike; the time at which the header is to be healed, when it was the header's."""
        self._report.strikes += 1
        if self._draw.random() < 0.2:
            strike(self._draw, self._memory, HEADER.itemsize, len(self._memory) - HEADER.itemsize)
            return None
        part = self._draw.choice(list(self._parts))
        start, size = self._draw.choice(self._parts[part])
        if part == "owner" and self._draw.random() < 0.3:  # a process that is not ours, for whoever trusts pids
            self._memory[start + 16 : start + 24] = self._bystander.pid.to_bytes(8, "little")
        strike(self._draw, self._memory, start, size)
        return time.monotonic() + _HEADER_SECONDS if "header" in part else None

    def _heal_header(self):
        self._memory[: HEADER.itemsize] = self._header

    # The actors -------------------------------------------------------------------------------------------------------

    def _start(self, place, role):
        pid, said = actors.start(role, self._name, self._draw.getrandbits(32), self._ledger, place)
        self._actors[pid] = (place, role, said)
        self._seen[place] = (self._ledger[place], time.monotonic())

    def _watch(self):
        """Bury who has ended, start others in their place, kill some, and see that all get on."""
        now = time.monotonic()
        for pid, (place, role, _) in list(self._actors.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._bury(pid, os.waitstatus_to_exitcode(status))
                self._start(place, role)
                continue
            done, at = self._seen[place]
            if self._ledger[place] != done:
                self._report.acts[role.__name__] += self._ledger[place] - done
                self._seen[place] = (self._ledger[place], now)
            elif now - at > PATIENCE:
                self._fail("hang", f"{role.__name__}: {_stack_of(pid)}")
                self._end(pid)
                self._start(place, role)
            elif self._draw.random() < (0.01 if role is actors.write else 0.002):
                self._report.kills += 1
                self._end(pid)
                self._start(place, role)

    def _end(self, pid):
        os.kill(pid, signal.SIGKILL)
        self._bury(pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def _bury(self, pid, status):
        _, role, said = self._actors.pop(pid)
        words = os.read(said, 65536).decode() if select.select([said], [], [], 0)[0] else ""
        os.close(said)
        if words:
            self._fail(words.strip().rsplit("\n", 1)[-1][:120], words)
        elif status not in (0, -signal.SIGKILL):
            self._fail(f"{role.__name__} ended with status {status}", "")

    def _end_all(self):
        for pid in list(self._actors):
            self._end(pid)
        if self._command is not None:
            process, *_ = self._command
            process.kill()
            process.communicate()
            self._command = None

    # The command line -------------------------------------------------------------------------------------------------

    def _run_command(self):
        """Keep one command running at a time."""
        if self._command is None:
            arguments = self._draw.choice(_COMMANDS)
            hub = () if arguments[0] == "ls" else (self._name,)
            command = [sys.executable, "-W", "error", "-m", "shmetrics", arguments[0], *hub, *arguments[1:]]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self._command = (process, arguments, time.monotonic())
            return
        process, arguments, begin = self._command
        age = time.monotonic() - begin
        if process.poll() is None and arguments[0] == "serve" and age > 1.0:
            process.terminate()
        if process.poll() is None and age < PATIENCE and not (arguments[0] == "serve" and age > 1.0):
            return
        self._command = None
        self._report.commands += 1
        try:
            text, complaints = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self._fail(f"hang: {arguments}", "")
            return
        self._check_command(arguments, process.returncode, text, complaints)

    def _check_command(self, arguments, status, text, complaints):
        stopped = arguments[0] == "serve" and status == -signal.SIGTERM  # before it could handle it
        if (status not in (0, 1) and not stopped) or "Traceback" in complaints:
            self._fail(f"{arguments} ended with status {status}", complaints[-4000:])
        if "--json" in arguments and status == 0:
            try:
                for document in text.splitlines() if arguments[0] == "serve" else [text]:
                    json.loads(document, parse_constant=_refuse)
            except ValueError as error:
                self._fail(f"{arguments}: not JSON: {error}", text[-2000:])

    # Who has nothing to do with it ------------------------------------------------------------------------------------

    def _plant_decoys(self):
        """Files named almost as ours are."""
        stem = naming.segment_file(self._name)
        for file in (f"{stem}-x", f"sem.{stem}-x.0000000000000001.g0.1", f"{stem}x"):
            path = f"{naming.SHM_DIR}/{file}"
            with open(path, "wb") as decoy:
                decoy.write(file.encode())
            os.chmod(path, 0o600)
            self._decoys[path] = file.encode()

    def _check_bystanders(self):
        for path, contents in self._decoys.items():
            with open(path, "rb") as decoy:
                if decoy.read() != contents:
                    self._fail("a file that is not ours was changed", path)
            os.unlink(path)
        if self._bystander.poll() is not None:
            self._fail("a process that is not ours was signalled", str(self._bystander.returncode))
        self._bystander.communicate()

    def _fail(self, kind, detail):
        self._report.failures[kind] += 1
        self._report.examples.setdefault(kind, detail)


def _stack_of(pid):
    """Where the kernel says a process waits."""
    with open(f"/proc/{pid}/wchan") as file:
        return file.read()


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")
