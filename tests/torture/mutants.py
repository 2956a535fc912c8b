"""Mutants: deliberate defects of the protocol. The harness must catch each; that proves the harness.

A mutant is some texts replaced in the source of one function, which is then compiled anew in its module. Only a process
that asked for it by name has it, and its children.
"""

import __future__

import inspect
import linecache
import logging
import os
import pickle
import signal
import textwrap
import traceback
from dataclasses import dataclass
from operator import attrgetter

from shmetrics import copies, folding, merge, obituaries, reader, slots, writer
from tests.torture import failpoints
from tests.torture.harness import Torture


@dataclass(frozen=True)
class Mutant:
    """One defect: what is wrong with the protocol then, where, and the (old, new) texts that make it so.

    ``where``: the module and the name of the function in it. The texts are kept short, to outlive edits around them;
    further lines of a new one are indented like the line it stands in.
    """

    defect: str
    module: object
    where: str
    edits: tuple
    breaks: tuple = ("lost", "decreases", "torn", "invented", "unequal", "corrupt")
    """The kinds of promise it breaks; others may follow, but do not prove that it was seen."""

    def is_caught(self, report):
        """Whether a report shows what this mutant breaks."""
        return any(getattr(report, kind) for kind in self.breaks)

    def inject(self):
        """Replace the function by its mutant, in this process and its children."""
        path, _, name = self.where.rpartition(".")
        owner = attrgetter(path)(self.module) if path else self.module
        original = inspect.unwrap(getattr(owner, name))
        source = textwrap.dedent(inspect.getsource(original))
        for old, new in self.edits:
            found = source.count(old)
            assert found == 1, (
                f"mutant {self.defect!r}: {self.module.__name__}.{self.where} holds {old!r} {found} times, "
                f"and it must be once"
            )
            line = source[: source.index(old)].rpartition("\n")[2]
            source = source.replace(old, new.replace("\n", "\n" + line[: len(line) - len(line.lstrip())]))
        # A file name that only linecache knows: so tracebacks and failpoints find the mutant's lines.
        file = f"<mutant of {self.where}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        namespace = {}
        code = compile(source, file, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
        exec(code, original.__globals__, namespace)
        setattr(owner, name, namespace[name])
        failpoints.forget()


MUTANTS = {
    "commit before the record": Mutant(
        "the commit word is stored before the record it commits",
        writer,
        "Writer.record",
        (("pack_into(", "words[HEAD] += 1\npack_into("),),
    ),
    "one row too many": Mutant(
        "a reader accepts the row that the owner may be overwriting",
        copies,
        "Copier._attempt",
        (("first <= heads[at]", "first < heads[at]"),),
    ),
    "flip before the fold": Mutant(
        "the fold word is flipped before the inactive copy is complete",
        folding,
        "Folding.fold",
        (("target.copy_from(", "words[FOLD] = (head << 1) | (1 - active)\ntarget.copy_from("),),
    ),
    "fold in place": Mutant(
        "records are folded into the active copy",
        folding,
        "Folding.fold",
        (("self._copies[1 - active]", "self._copies[active]"),),
    ),
    "a fold that waits": Mutant(
        "a writer waits for a reader that has its guard",
        folding,
        "Folding.fold",
        (("guard.try_acquire()", "guard.acquire(0.01)"),),
        ("blocked_writes",),
    ),
    "a read that waits": Mutant(
        "a reader waits for a guard as long as it takes",
        reader,
        "Reader._hold_guard",
        (("guard.acquire(patience", "guard.acquire(0.1"),),
        ("late",),
    ),
    "release for another": Mutant(
        "a reader that waited for a guard in vain releases it",
        reader,
        "Reader._hold_guard",
        (("guard.close()", "guard.release()"),),
        ("overposted",),
    ),
    "same generation": Mutant(
        "a claim does not raise the slot's generation",
        slots,
        "_take",
        (("max(words[GENERATION] % _MAX_COUNT, retired % _MAX_COUNT) + 1", "max(1, words[GENERATION])"),),
    ),
    "claimed too early": Mutant(
        "a slot is CLAIMED before what its last owner left is cleared",
        slots,
        "_take",
        (("words[GENERATION] = generation", "words[GENERATION] = generation\nwords[STATE] = 1"),),
    ),
    "inherited records": Mutant(
        "a claim leaves the predecessor's commit and fold words",
        slots,
        "_take",
        (("(HEAD, FOLD, ERRORS", "(ERRORS"),),
    ),
    "inherited sums": Mutant(
        "a claim leaves the predecessor's folded area",
        slots,
        "_take",
        (("folded[:] = no_folded", "pass"),),
    ),
    "inherited cells": Mutant(
        "a claim leaves the predecessor's custom metrics",
        writer,
        "Writer._move_in",
        (("memory[self._cells_at :] = self._memory[self._cells_at :]", "pass"),),
    ),
    "forgotten cells": Mutant(
        "a reap leaves the custom metrics of the dead behind",
        slots,
        "_retire",
        (('cells.retire(cells.Plan(Catalog(segment).contents()), target["cells"], part["cells"], now)', "pass"),),
    ),
    "reap the living": Mutant(
        "a slot is reaped without its liveness lock",
        slots,
        "_reap_dead",
        (("if alive.try_acquire() and arrays.can_be_had():", "if alive.try_acquire() or True:"),),
    ),
    "reap without the registry": Mutant(
        "two processes reap at once",
        slots,
        "reap",
        (("registry.acquire(patience, clock, sleep)", "True"),),
    ),
    "retire in place": Mutant(
        "totals of the dead are added to the retired copy that is in use",
        slots,
        "_retire",
        (("target = segment.retired(index + 1)", "target = segment.retired(index)"),),
    ),
    "flip before retiring": Mutant(
        "the retired copy is made the good one before it is complete",
        slots,
        "_retire",
        (
            (
                "target = segment.retired(index + 1)",
                "segment.flip_retired(index + 1)\ntarget = segment.retired(index + 1)",
            ),
        ),
    ),
    "no folded generation": Mutant(
        "a reap repeated after a SIGKILL counts again",
        slots,
        "_retire",
        (('["folded_generation"][slot]) != generation', '["folded_generation"][slot]) >= 0'),),
    ),
    "an obituary too late": Mutant(
        "the obituary is written after the totals are retired, so that a reaper killed in between leaves none",
        slots,
        "_retire",
        (
            ("_write_obituary(segment, slot, generation, hot if believed else None, now)", "pass"),
            (
                "segment.flip_retired(index + 1)",
                "segment.flip_retired(index + 1)\n_write_obituary(segment, slot, generation, hot, now)",
            ),
        ),
        ("lost",),
    ),
    "an obituary twice": Mutant(
        "a reap repeated after a SIGKILL writes the obituary again",
        obituaries,
        "write",
        (("if obituaries.has(slot, generation):", "if False:"),),
        ("invented",),
    ),
    "an obituary half written": Mutant(
        "the serial number is stored before what the entry says",
        obituaries,
        "Obituaries.add",
        (("words[_SLOT] = slot", "words[_SERIAL] = serial\nwords[_SLOT] = slot"),),
        ("torn", "lost", "invented", "unequal"),
    ),
    "freed before it is retired": Mutant(
        "a dead worker's slot is FREE before its totals are in the retired area",
        slots,
        "_retire",
        (("index = segment.retired_index", "words_of(segment, slot)[STATE] = FREE\nindex = segment.retired_index"),),
    ),
    "the retired area first": Mutant(
        "a reader reads the retired area before the slots",
        reader,
        "Reader.read",
        (
            ("slots = self._read_slots(", "early = self._read_retired()\nslots = self._read_slots("),
            ("retired = self._read_retired()", "retired = early"),
        ),
    ),
    "reaped and living both": Mutant(
        "a worker that was reaped while the reader copied counts twice",
        merge,
        "snapshot",
        (("not slot.claimed or retired_generation[slot.slot] >= slot.generation", "not slot.claimed"),),
    ),
}


def hunt(mutant, name, *, seconds, count, seed):
    """Torture a mutant (None: the code as it is) in a child process, until it is caught; returns the report."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(reading)
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # to clean up then too
            if mutant is not None:
                logging.disable(logging.WARNING)  # the mutants' writers have reason to complain
                MUTANTS[mutant].inject()
            report = Torture(name, seconds=seconds, count=count, seed=seed, until_broken=True).run()
            with open(writing, "wb") as pipe:
                pickle.dump(report, pipe)
            status = 0
        except KeyboardInterrupt:
            pass
        except BaseException:  # noqa: BLE001  this child runs nothing else: say what it was, and end
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    try:
        with open(reading, "rb") as pipe:
            answer = pipe.read()
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, f"the hunt for {mutant!r} failed, see above"
    return pickle.loads(answer)
