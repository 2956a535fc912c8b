"""Mutants: deliberate defects of the protocol. The harness must catch each; that proves the harness.

A mutant is a text replaced in the source of one function, which is then compiled anew in its module. Only a process
that asked for it by name has it.
"""

import inspect
import textwrap
from dataclasses import dataclass

from shmetrics import merge, reader, slots, writer


@dataclass(frozen=True)
class Mutant:
    """One defect: what is wrong with the protocol then, and the edit that makes it so."""

    defect: str
    owner: object
    function: str
    old: str
    new: str

    def inject(self):
        """Replace the function by its mutant, in this process and its children."""
        original = inspect.unwrap(getattr(self.owner, self.function))
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, f"{self.function} has no single {self.old!r} any more"
        source = "from __future__ import annotations\n" + source.replace(self.old, self.new)
        namespace = {}
        exec(compile(source, original.__code__.co_filename, "exec"), original.__globals__, namespace)
        setattr(self.owner, self.function, namespace[self.function])


MUTANTS = {
    "commit before the record": Mutant(
        "the commit word is stored before the record it commits",
        writer.Writer,
        "record",
        "        _pack_into(\n",
        "        words[HEAD] = head + 1\n        _pack_into(\n",
    ),
    "one row too many": Mutant(
        "a reader accepts the row that the owner may be overwriting",
        reader.Reader,
        "_try_slot",
        "if first <= words[HEAD] - dims.capacity:",
        "if first < words[HEAD] - dims.capacity:",
    ),
    "no folded generation": Mutant(
        "a reap repeated after a SIGKILL counts again",
        slots,
        "_retire",
        'if int(active["folded_generation"][slot]) != generation:',
        "if True:",
    ),
    "fold in place": Mutant(
        "records are folded into the active copy",
        writer.Writer,
        "_fold",
        "target = self._copies[1 - active]",
        "target = self._copies[active]",
    ),
    "flip before the fold": Mutant(
        "the fold word is flipped before the inactive copy is complete",
        writer.Writer,
        "_fold",
        "        target.copy_from(self._copies[active])\n",
        "        words[FOLD] = (head << 1) | (1 - active)\n        target.copy_from(self._copies[active])\n",
    ),
    "reap the living": Mutant(
        "a slot is reaped without its liveness lock",
        slots,
        "_reap_dead",
        "if alive.try_acquire():",
        "if alive.try_acquire() or True:",
    ),
    "claimed too early": Mutant(
        "a slot is CLAIMED before what its last owner left is cleared",
        slots,
        "_take",
        "    words[GENERATION] = generation\n",
        "    words[GENERATION] = generation\n    words[STATE] = CLAIMED\n",
    ),
    "retire in place": Mutant(
        "totals of the dead are added to the retired copy that is in use",
        slots,
        "_retire",
        "target = segment.retired(index + 1)",
        "target = segment.retired(index)",
    ),
    "reaped and living both": Mutant(
        "a worker that was reaped while the reader copied counts twice",
        merge,
        "snapshot",
        "not slot.claimed or retired_generation[slot.slot] >= slot.generation",
        "not slot.claimed",
    ),
}
