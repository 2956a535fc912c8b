"""What prctl(2) does for a process and its children."""

import os
import signal
import time

from shmetrics import prctl
from tests.processes import forked, in_forked_child, wait_until


def test_orphans_of_descendants_are_adopted():
    def adopt():
        prctl.adopt_orphans()
        reading, writing = os.pipe()

        def middle():
            def orphan():
                wait_until(lambda: os.getppid() == adopter)
                os.write(writing, b".")

            forked(orphan)

        adopter = os.getpid()
        os.waitpid(forked(middle), 0)
        assert os.read(reading, 1) == b"."
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0

    in_forked_child(adopt)


def test_a_child_ends_with_its_parent_however_that_ends():
    reading, writing = os.pipe()

    def parent():
        me = os.getpid()

        def child():
            prctl.end_with_parent(me)
            os.write(writing, b".")
            time.sleep(60)

        forked(child)
        os.read(reading, 1)
        os.kill(me, signal.SIGKILL)

    os.waitpid(forked(parent), 0)
    os.close(writing)
    assert os.read(reading, 1) == b"", "the child has its end of the pipe as long as it lives"
    os.close(reading)


def test_a_child_whose_parent_is_gone_already_ends_at_once():
    def child():
        prctl.end_with_parent(os.getppid() + 1)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(child), 0)[1]) == -signal.SIGTERM
