"""A hub attached for writing: all that a process has of it, once, however many objects name it."""

import os
import time
from typing import TYPE_CHECKING, Final

from shmetrics import endings, ends, segment, settings
from shmetrics.book import DEFINITION_PATIENCE, Book
from shmetrics.completion import writer_class
from shmetrics.hub import View
from shmetrics.measurement import Source
from shmetrics.segment import Segment
from shmetrics.stages import Stages

if TYPE_CHECKING:
    from shmetrics.profiling.listener import Listener

PROFILING_VARIABLE: Final = "SHMETRICS_PROFILING"
"""Environment variable that lets `shmetrics profile` sample a process."""


class Attachment:
    """A hub attached for writing, shared by all objects of this process that name it: one process, one slot."""

    open: Final[dict[tuple[int, int], "Attachment"]] = {}

    def __init__(self, target: Segment, key: tuple[int, int], role: str | None) -> None:
        self.segment = target
        self.writer = writer_class()(target, role=role)
        self.view = View(target)
        self.book = Book(target, self.writer)
        self.stages = Stages(self.writer, self.book)
        self.source = Source(self.writer)
        self._key = key
        self._users = 1
        self._held = False
        self.private_to = 0
        """The process that created it as its private hub, if one did."""
        self._listener: Listener | None = None
        if settings.switch(PROFILING_VARIABLE):
            self.enable_profiling()
        self.may_record_requests = False
        """Whether one of its users may; metrics that stand in for prometheus_client's do not."""

    @classmethod
    def of(cls, target: Segment, role: str | None) -> "Attachment":
        """The attachment to this very segment, new or already there; `release` it once.

        Its last user may release it at any call: another thread, or the garbage collector in this one.
        """
        key = target.file
        assert key is not None, "attached just now"
        new: Attachment | None = None
        while True:
            found = cls.open.get(key)
            if found is None:
                new = new or cls(target, key, role)
                if cls.open.setdefault(key, new) is new:
                    return new
                continue
            found._users += 1
            if cls.open.get(key) is found:  # so it had a user all along, and now has one more
                target.close()
                return found

    def enable_profiling(self) -> None:
        """Let `shmetrics profile` sample this process, and those that are forked from it, while they have a slot."""
        if self._listener is None:
            from shmetrics.profiling.listener import Listener  # noqa: PLC0415  for those who want it

            self._listener = Listener(self.segment.instance)
            self.writer.claimant.claimed = self._listener.start
        if self.writer.slot is not None:
            self._listener.start()

    def hold(self, exit_code: int) -> None:
        """Keep the slot until this process is dead, whoever releases what, and on it what is in flight now.

        ``exit_code``: as `endings.report_end` takes it, of what this process is being ended by.
        """
        self._users += 1
        self._held = True
        self.writer.freeze_board()
        slot = self.writer.slot
        if slot is not None:
            endings.note_own(self.segment, slot, exit_code)

    def expect_end(self, expected: bool) -> None:
        """Say that this process is about to end in order, or that it goes on after all."""
        slot = self.writer.slot
        if slot is not None:
            endings.expect_own(self.segment, slot, expected)

    def release(self, private_to: int | None) -> None:
        """One user less; the last gives up the slot. A private hub goes with the process that created it."""
        self._users -= 1
        if self._users == 0:
            self.open.pop(self._key, None)
            self.end(time.monotonic() + DEFINITION_PATIENCE)
            self.view.close()
        if private_to == os.getpid():
            segment.unlink(self.segment.name, self.segment.instance)

    def end(self, deadline: float) -> None:
        """Find places for what waits, until then on the monotonic clock, and give up the slot."""
        if self._listener is not None:
            self.writer.claimant.claimed = lambda: None  # a slot that is found at the last moment is not to start it
            self._listener.stop()
        self.book.settle(deadline)
        self.writer.close(max(0.0, deadline - time.monotonic()))

    @classmethod
    def end_all(cls, threads_go_on: bool) -> None:
        """At the end of a child process, whose objects nobody releases. For `ends`.

        Where threads go on, their records need the slot, which then waits for a reaper; so does one that is held.
        """
        deadline = time.monotonic() + DEFINITION_PATIENCE
        for attachment in list(cls.open.values()):
            if threads_go_on or attachment._held:
                attachment.book.settle(deadline)
            else:
                attachment.end(deadline)
            if attachment.private_to == os.getpid():
                segment.unlink(attachment.segment.name, attachment.segment.instance)


ends.register(Attachment.end_all)
