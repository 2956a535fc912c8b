"""The history's file: it outlives the aggregator, stays small, and whatever is wrong with it stops nobody."""

import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from shmetrics.errors import HistoryFileError
from shmetrics.history import TIERS, History
from shmetrics.history_file import APPLICATION, SAVE_SECONDS, HistoryFile, read
from tests.cli import until
from tests.processes import forked
from tests.ticks import Feed

SMALL = ((1.0, 8, 512), (10.0, 6, 512), (60.0, 5, 512))
PATIENCE = 30.0
BEHIND = 1.7e9
"""What forged wall clocks are ahead of monotonic ones by."""


class Leader:
    """A process that leads: a history, its file, and what it said."""

    def __init__(self, path, *, hub="resnet", boot="this", at=10_000.0, wall=None, tiers=SMALL, in_background=False):
        self.history = History(tiers)
        self.said = []
        self.file = HistoryFile(
            str(path),
            self.history,
            hub,
            say=self.said.append,
            in_background=in_background,
            boot=boot,
            clock=lambda: at,
            wall=lambda: at + BEHIND if wall is None else wall,
        )

    def tick(self, feed, at, **what):
        """One tick of the aggregator."""
        feed.history = self.history
        feed.tick(at, taken_at_wall=at + BEHIND, **what)
        self.file.save()

    def die(self):
        """End as by SIGKILL: nothing is said to the file any more."""
        self.file._connection.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "resnet.history"


def run(leader, feed, first, last, **what):
    """A tick a second, `last` included."""
    for second in range(first, last + 1):
        leader.tick(feed, second, **({"requests": 1} | what))


def rows_of(path):
    """Bins in a file, by resolution."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT seconds, count(*) FROM bins GROUP BY seconds"))


# Outliving ------------------------------------------------------------------------------------------------------------


def test_a_history_is_the_same_after_it_was_closed(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 175, errors=1, hits=1, latency=0.2)
    leader.file.close()
    heir = Leader(path)
    assert heir.said == leader.said == []
    for seconds in (3.0, 50.0, 300.0):
        before, after = leader.history.window(seconds), heir.history.window(seconds)
        assert (before.requests, before.errors, before.cache_hits, before.seconds) == (
            *(after.requests, after.errors, after.cache_hits, after.seconds),
        )
        assert before.percentile("total_time", 99.0) == after.percentile("total_time", 99.0) > 0.0
    for name in ("rate", "latency_max", "p95", "busy", "workers", "rss"):
        assert (leader.history.series(name, 50.0, 10.0).values == heir.history.series(name, 50.0, 10.0).values).all()
    heir.file.close()


def test_nothing_is_lost_of_the_time_without_an_aggregator(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 130)
    leader.die()
    heir = Leader(path)
    run(heir, feed, 150, 152, requests=5)
    window = heir.history.window(300.0)
    assert (window.requests, window.seconds) == (30 + 15, 52.0)
    heir.file.close()


def test_a_killed_leader_loses_the_resolution_of_a_minute_and_no_count(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 100 + int(SAVE_SECONDS) + 20)
    leader.die()
    heir = Leader(path)
    heir.tick(feed, 181, requests=1)
    assert heir.history.window(300.0).requests == 81
    heir.file.close()


def test_it_goes_on_numbering_and_forgets_what_the_memory_forgot(path):
    feed = Feed()
    for first in range(100, 700, 100):
        leader = Leader(path)
        run(leader, feed, first, first + 99)
        leader.file.close()
    assert rows_of(path) == {1.0: 8, 10.0: 6, 60.0: 5}
    heir = Leader(path)
    assert heir.history.window(8.0).requests == 8
    assert heir.history.window(300.0).requests == heir.history.window(300.0).seconds
    heir.file.close()


def test_the_file_does_not_grow_once_it_is_full(path):
    leader, feed, rng = Leader(path), Feed(), np.random.default_rng(1)
    sizes = []
    for second in range(100, 1900):
        leader.tick(feed, second, requests=3, latency=float(rng.lognormal(-3.0, 1.0)))
        if second % 300 == 0:
            sizes.append(path.stat().st_size)
    leader.file.close()
    assert max(sizes) <= 2 * sizes[2]
    assert path.stat().st_size < 200_000


def test_another_hub_of_the_name_goes_on_with_the_history_and_not_with_the_totals(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 130)
    leader.file.close()
    heir, anew = Leader(path), Feed(created_at=140.0)
    run(heir, anew, 141, 145, requests=100)
    window = heir.history.window(300.0)
    assert (window.requests, window.seconds) == (30 + 400, 34.0)
    heir.file.close()


def test_after_a_boot_times_are_moved_to_where_the_wall_clock_says_they_were(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 5000, 5030)
    leader.file.close()
    heir = Leader(path, boot="next", at=20.0, wall=BEHIND + 5000.0 + 90.0)  # a minute after, the clock at 20 s
    anew = Feed(created_at=15.0)
    run(heir, anew, 20, 22, requests=10)
    assert heir.history.window(300.0).requests == 50
    finest = heir.history.tiers[0]
    assert finest.end[finest.places(finest.numbers())].tolist() == [*range(-45, -39), 21, 22]
    assert heir.said == []
    heir.file.close()


def test_what_is_not_before_now_is_left_out_after_a_boot(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 5000, 5030)
    leader.file.close()
    heir = Leader(path, boot="next", at=20.0, wall=BEHIND + 4000.0)  # the clock was set back
    run(heir, Feed(created_at=15.0), 20, 22, requests=10)
    assert heir.history.window(300.0).requests == 20
    assert heir.said == []
    heir.file.close()


def test_it_is_saved_once_a_minute_and_at_the_end(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 150)
    assert rows_of(path) == {}
    run(leader, feed, 151, 160)
    assert rows_of(path) == {1.0: 8, 10.0: 6, 60.0: 1}
    run(leader, feed, 161, 165)
    leader.file.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT max(end) FROM bins WHERE seconds = 1").fetchone() == (165.0,)


def test_anybody_can_look_with_sqlite(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 105, requests=4, errors=1)
    leader.file.close()
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT wall, requests, errors FROM bins WHERE seconds = 1 ORDER BY wall").fetchall()
    assert rows == [(BEHIND + second, 4.0, 1.0) for second in range(101, 106)]


def test_it_can_be_read_beside_the_leader(path):
    start = time.monotonic()
    leader = Leader(path, boot=None, at=start + 1e6, tiers=TIERS)
    feed = Feed()
    for second in range(4):
        leader.tick(feed, start - 4.0 + second, requests=3)
    leader.file.save(now=True)
    assert read(str(path), "resnet").window(60.0).requests == 9
    leader.file.close()
    assert read(str(path), "resnet").window(60.0).requests == 9


class Disk:
    """Answers no longer, until it does."""

    def __init__(self, connection):
        self.asked, self.answers = threading.Event(), threading.Event()
        connection.set_trace_callback(self.wait)

    def wait(self, statement):
        self.asked.set()
        self.answers.wait(PATIENCE)


def test_a_disk_that_does_not_answer_keeps_nobody_waiting_and_has_it_all_once_it_does(path):
    leader, feed = Leader(path, in_background=True), Feed()
    disk = Disk(leader.file._connection)
    run(leader, feed, 100, 165)
    assert disk.asked.wait(PATIENCE)
    assert leader.said == [
        f"the history is not saved in {path}, and will be once it can: its disk does not answer",
    ]
    disk.answers.set()
    until(lambda: not leader.file._writing.is_alive())
    run(leader, feed, 166, 230)
    leader.file.close()
    assert Leader(path).history.window(300.0).requests == 130


def test_a_disk_that_never_answers_does_not_keep_the_leader_from_ending(path, monkeypatch):
    monkeypatch.setattr("shmetrics.history_file._LAST_PATIENCE", 0.05)
    leader, feed = Leader(path, in_background=True), Feed()
    disk = Disk(leader.file._connection)
    run(leader, feed, 100, 105)
    leader.file.close()
    assert "its disk does not answer" in leader.said[-1]
    disk.answers.set()
    until(lambda: not leader.file._writing.is_alive())
    leader.file.close()


# Not outliving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [slice(4096, None), slice(0, 68), slice(0, 16)])
def test_a_damaged_file_is_put_aside_and_a_new_one_begins(path, damaged):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 170)
    leader.file.close()
    content = bytearray(path.read_bytes())
    content[damaged] = bytes(len(content[damaged]))
    path.write_bytes(content)
    heir = Leader(path)
    (message,) = heir.said
    assert message.startswith(f"the history in {path} is damaged (")
    assert message.endswith(f"); it is in {path}.damaged now, and a new one begins")
    assert (path.parent / "resnet.history.damaged").read_bytes() == bytes(content)
    run(heir, feed, 171, 175)
    heir.file.close()
    assert Leader(path).history.window(300.0).requests == 4


@pytest.mark.parametrize("seed", range(20))
def test_damage_anywhere_stops_nobody_and_the_next_leader_has_a_good_file(path, seed):
    rng = random.Random(seed)
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 170)
    leader.file.close()
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 10, 300))):
        content[rng.randrange(100, len(content))] = rng.randrange(256)
    if rng.random() < 0.3:
        del content[rng.randrange(100, len(content)) :]
    path.write_bytes(content)
    heir = Leader(path)
    run(heir, feed, 171, 240)
    heir.file.close()
    assert len(heir.said) <= 1, heir.said
    third = Leader(path)
    run(third, feed, 241, 245)
    assert third.said == []
    assert third.history.window(4.0).requests == 4
    third.file.close()


def test_damage_that_is_found_while_it_is_written_begins_a_new_file_with_all_there_is(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 161)
    leader.file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 40_000)
    leader.file._connection.execute("PRAGMA shrink_memory")
    run(leader, feed, 162, 230)
    assert len(leader.said) == 1
    assert leader.said[0].endswith("is in " + str(path) + ".damaged now, and a new one begins")
    leader.file.close()
    heir = Leader(path)
    assert heir.history.window(8.0).requests == 8
    assert heir.history.window(300.0).requests == 130
    heir.file.close()


@pytest.mark.parametrize("content", [b"error_rate_threshold = 0.05\n", b"\0" * 5000, b"SQLite format 3\0" + b"\1" * 80])
def test_a_file_that_is_not_known_to_be_ours_is_left_alone(path, content):
    """Somebody may have named the wrong file."""
    path.write_bytes(content)
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 170)
    leader.file.close()
    assert path.read_bytes() == content
    assert leader.said == [
        f"going on without a history file: {path}: it is not a history that shmetrics wrote, or its beginning is "
        f"damaged; remove it, or name another file"
    ]
    assert leader.history.window(300.0).requests == 70


def test_a_database_of_another_program_is_left_alone(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bins (a)")
    before = path.read_bytes()
    assert "not a history that shmetrics wrote" in Leader(path).said[0]
    assert path.read_bytes() == before


def test_the_history_of_another_hub_is_left_alone(path):
    leader, feed = Leader(path, hub="other"), Feed()
    run(leader, feed, 100, 105)
    leader.file.close()
    before = path.read_bytes()
    assert Leader(path).said == [
        f"going on without a history file: {path}: it is the history of hub 'other'; name another file"
    ]
    assert path.read_bytes() == before


def test_tables_of_another_version_are_put_aside(path):
    leader, feed = Leader(path), Feed()
    run(leader, feed, 100, 105)
    leader.file.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    heir = Leader(path)
    assert f"the history in {path} is damaged (its tables are of version 99, not 1)" in heir.said[0]
    heir.file.close()


def test_an_empty_file_is_as_good_as_none(path):
    path.touch()
    leader = Leader(path)
    run(leader, Feed(), 100, 105)
    leader.file.close()
    assert leader.said == []
    assert int.from_bytes(path.read_bytes()[68:72], "big") == APPLICATION


@pytest.mark.parametrize("kind", ["directory", "pipe", "nowhere"])
def test_where_no_file_can_be_there_is_none(path, kind):
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = path / "x"
    leader = Leader(path)
    run(leader, Feed(), 100, 170)
    leader.file.close()
    assert len(leader.said) == 1
    assert leader.said[0].startswith(f"going on without a history file: {path}: ")
    assert leader.history.window(300.0).requests == 70


def test_what_cannot_be_saved_now_is_saved_later(path):
    """The disk is full, or somebody has the file locked."""
    leader, feed = Leader(path, tiers=TIERS), Feed()
    run(leader, feed, 100, 105)
    connection = leader.file._connection
    connection.execute("PRAGMA max_page_count=1")  # and so no more than there are
    run(leader, feed, 106, 290)
    assert leader.said == [f"the history is not saved in {path}, and will be once it can: database or disk is full"]
    connection.execute("PRAGMA max_page_count=100000")
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        run(leader, feed, 291, 360)
        other.rollback()
    assert leader.said[1:] == [f"the history is not saved in {path}, and will be once it can: database is locked"]
    run(leader, feed, 361, 400)
    leader.file.close()
    assert len(leader.said) == 2
    heir = Leader(path, tiers=TIERS)
    assert heir.history.window(300.0).requests == 300
    heir.file.close()


def test_a_leader_killed_at_any_moment_leaves_a_good_file(path):
    rng, most = random.Random(5), 0
    for _ in range(10):
        child = forked(lambda: _save_for_ever(path))
        try:
            time.sleep(rng.uniform(0.02, 0.25))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        heir = Leader(path, at=1e9)
        assert heir.said == []
        kept = heir.history.window(300.0).requests
        assert kept == heir.history.window(300.0).seconds
        most = max(most, kept)
        heir.die()
    assert most > 0


def _save_for_ever(path):
    """A second a tick, each with a request, and a transaction after each; the seconds go on where the file ends."""
    leader = Leader(path, at=1e9)
    state = leader.history.state()
    second = 0 if state is None else int(state.now.at)
    feed = Feed(created_at=float(second))
    while True:
        second += 1
        leader.tick(feed, second, requests=1)
        leader.file.save(now=True)


def test_reading_what_is_no_history_is_an_error(path):
    with pytest.raises(HistoryFileError, match=r"cannot read a history from .*; name a file that `shmetrics serve"):
        read(str(path), "resnet")
    path.write_text("no")
    with pytest.raises(HistoryFileError, match="not a history that shmetrics wrote"):
        read(str(path), "resnet")
