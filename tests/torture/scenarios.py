"""Directed scenarios: interleavings of two processes that matter, and that chance takes long to find.

Each arranges one, with processes that stop themselves at a line, and lets the monitor look.
"""

import signal

from shmetrics.layout import FOLD_BATCH
from tests.torture import ledger as columns
from tests.torture import workers
from tests.torture.failpoints import Fate, line_of

COMMIT = "words[HEAD] = head + 1"
_UNREACHED = 1 << 20


def play_all(torture):
    """Play every scenario, each to an end where all its processes are dead and reaped."""
    for scenario in SCENARIOS:
        scenario(torture)
        for process in list(torture.fleet.running.values()):
            torture.fleet.kill_now(process)
        torture.look()
        torture.reap()
        torture.look()
        if torture.is_over:
            return


def halted_writer(torture, *records):
    """A writer that stops itself between packing and committing each record after that many, now at the first."""
    fate = Fate("writer.Writer.record", line_of("writer.Writer.record", COMMIT), tuple(count + 1 for count in records),
                signal.SIGSTOP)  # fmt: skip
    process = torture.fleet.start(workers.write, fate, _UNREACHED)
    torture.fleet.halted(process)
    return process


def leave_a_dead_writer(torture):
    """Let a writer record something and die with its slot."""
    torture.fleet.kill_now(halted_writer(torture, 40))


def a_lap_ahead(torture):
    """A reader is about to copy the ring; the owner goes on, and stops when it has packed, but not committed, a record
    over the oldest row that the reader wants: exactly one lap ahead. It has the guard, so no fold comes between.
    """
    layout, fleet, reader = torture.target.layout, torture.fleet, torture.monitor.view.reader
    head = 4 * FOLD_BATCH + 10
    oldest = head - layout.window_size - 1
    writer = halted_writer(torture, head, oldest + layout.capacity)
    copier, copy_ring = reader._copier, reader._copier._copy_ring

    def be_lapped(*args):
        copier._copy_ring = copy_ring
        fleet.go_on(writer)
        fleet.halted(writer)
        return copy_ring(*args)

    copier._copy_ring, copier._is_native = be_lapped, False
    with torture.monitor.view.insisting():
        torture.look(timed=False)


def two_claimants(torture):
    """One claimant has seen which slots are free and is stopped; another takes one of them, records and dies."""
    fleet = torture.fleet
    waiting = line_of("slots._lock_free_slot", "alive = ByteLock(")
    slow = fleet.start(workers.write, Fate("slots._lock_free_slot", waiting, (1,), signal.SIGSTOP), _UNREACHED)
    fleet.halted(slow)
    quick = fleet.start(workers.write, lifetime=_UNREACHED)
    fleet.wait_for(lambda: quick.row[columns.ACKNOWLEDGED] > 100, patience=0.3)  # never, while claims exclude another
    fleet.kill_now(quick)
    fleet.go_on(slow)
    fleet.wait_for(lambda: slow.row[columns.ACKNOWLEDGED] > 100)
    torture.look()


def a_guard_in_the_hands_of_a_stopped_reader(torture):
    """A reader is stopped with a guard in its hands. The monitor goes without; so does the owner, whose folds never
    wait; and the reader gives it back at last.
    """
    fleet = torture.fleet
    writer = halted_writer(torture, 3 * torture.target.layout.capacity)  # all its pages were touched
    holding = line_of("reader.Reader._hold_guard", "return guard, 0.0")
    reader = fleet.start(workers.read_again, Fate("reader.Reader._hold_guard", holding, (1,), signal.SIGSTOP))
    fleet.halted(reader)
    with torture.monitor.view.insisting():
        torture.look()
    fleet.go_on(writer)
    fleet.wait_for(lambda: writer.row[columns.ACKNOWLEDGED] > 6 * torture.target.layout.capacity)
    torture.look()
    fleet.go_on(reader)
    fleet.wait_for(lambda: reader.row[columns.BEATS] > 0)
    torture.look()


def reaped_under_our_eyes(torture):
    """The monitor has copied the slots of two live writers. One dies and is reaped before it reads the retired area,
    the other after: each counts once.
    """
    fleet, reader = torture.fleet, torture.monitor.view.reader
    before, after = halted_writer(torture, 40), halted_writer(torture, 50)
    read_retired = reader._read_retired

    def die_meanwhile():
        del reader._read_retired
        fleet.kill_now(before)
        torture.reap()
        copy = read_retired()
        fleet.kill_now(after)
        torture.reap()
        return copy

    reader._read_retired = die_meanwhile
    torture.look(timed=False)


def a_neighbour_dies(torture):
    """Of two writers one is dead and reaped, the other only stopped; it goes on and has lost nothing."""
    fleet = torture.fleet
    living = halted_writer(torture, 40)
    leave_a_dead_writer(torture)
    torture.reap()
    torture.look()
    fleet.go_on(living)
    fleet.wait_for(lambda: living.row[columns.ACKNOWLEDGED] > 100)
    torture.look()


def two_reapers(torture):
    """Of two dead writers one is half retired by a reaper that stops; another reaps, and then the first goes on."""
    fleet = torture.fleet
    for writer in (halted_writer(torture, 40), halted_writer(torture, 50)):
        fleet.kill_now(writer)
    filled = line_of("slots._retire", '["folded_generation"][slot] = generation')
    slow = fleet.start(workers.reap, Fate("slots._retire", filled, (1,), signal.SIGSTOP))
    fleet.halted(slow)
    torture.look()
    torture.reap(patience=0.0)  # which the slow one keeps from doing anything
    torture.look()
    fleet.go_on(slow)
    fleet.wait_for(lambda: slow.row[columns.BEATS] > 0)
    torture.look()


def a_reaper_dies_before_it_frees_the_slot(torture):
    """A dead writer is in the retired area already, but its slot is not FREE yet when the reaper is killed."""
    leave_a_dead_writer(torture)
    flipped = line_of("slots._retire", '["ended_at"] = now')
    reaper = torture.fleet.start(workers.reap, Fate("slots._retire", flipped, (1,), signal.SIGSTOP))
    torture.fleet.halted(reaper)
    torture.look()
    torture.fleet.kill_now(reaper)
    torture.reap()
    torture.look()


def a_reaper_dies_over_an_obituary(torture):
    """Once in the middle of it, and once when it is written and nothing is retired yet: the next one completes it."""
    for function, text in (
        ("obituaries.Obituaries.add", "entry[_PAYLOAD"),
        ("slots._retire", 'target["incarnations"]'),
    ):
        leave_a_dead_writer(torture)
        fate = Fate(function, line_of(function, text), (1,), signal.SIGSTOP)
        reaper = torture.fleet.start(workers.reap, fate)
        torture.fleet.halted(reaper)
        torture.look()
        torture.fleet.kill_now(reaper)
        torture.reap()
        torture.look()


def a_claimant_dies_over_what_its_predecessor_left(torture):
    """A claimant is killed when it has cleared the first word of its predecessor's, and nothing else."""
    for _ in range(torture.target.layout.max_workers):  # until every slot had somebody
        leave_a_dead_writer(torture)
        torture.reap()
    clearing = line_of("slots._take", "words[word] = 0")
    claimant = torture.fleet.start(workers.write, Fate("slots._take", clearing, (2,), signal.SIGSTOP))
    torture.fleet.halted(claimant)
    torture.look()
    torture.fleet.kill_now(claimant)
    torture.look()


SCENARIOS = (
    a_lap_ahead,
    two_claimants,
    a_guard_in_the_hands_of_a_stopped_reader,
    reaped_under_our_eyes,
    a_neighbour_dies,
    two_reapers,
    a_reaper_dies_before_it_frees_the_slot,
    a_reaper_dies_over_an_obituary,
    a_claimant_dies_over_what_its_predecessor_left,
)
