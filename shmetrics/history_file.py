"""The history in an SQLite file, so that it outlives the aggregator; the leader alone writes it.

One transaction a minute, in WAL mode: after a SIGKILL the file is as of the last minute, and what came since becomes
one bin when the next leader looks at the same hub. The file holds as many bins as the memory does, so its size is
bounded. Each bin is a row with a column for every figure, for whoever wants to look with sqlite3.

Times are monotonic while the machine stays up. Those from before the last boot are moved to where the wall clock says
that they were; they are left out where that is not before now.

A disk that does not answer keeps nobody waiting: with `in_background` transactions are made by a thread of their own,
of copies, and while one lasts no other begins. Only opening the file is waited for.

Whatever happens to the file, the aggregator goes on: a damaged one is put aside and a new one begun; one that is not
known to be ours is left alone, and nothing is kept. ``say`` is told, in a sentence.
"""

import math
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shmetrics.bins import BUCKETS, COLUMNS, Bins
from shmetrics.errors import HistoryFileError
from shmetrics.history import History, State, Totals
from shmetrics.layout import MEASURES
from shmetrics.process import boot_id

SAVE_SECONDS: Final = 60.0
"""Between two transactions."""
APPLICATION: Final = int.from_bytes(b"shmh", "big")
"""SQLite's application_id, by which our files are known."""
VERSION: Final = 1
"""SQLite's user_version: of the tables below, and of `history.TIERS`."""
_APPLICATION_AT: Final = slice(68, 72)
"""Where a file has it (https://www.sqlite.org/fileformat.html)."""
_PATIENCE: Final = 0.2
"""Seconds to wait for another process that has the file locked; the next minute is another chance."""

_LAST_PATIENCE: Final = 5.0
"""Seconds that `close` waits for the disk; twice at most."""

_INDEX: Final = np.dtype("<u2")
_COUNT: Final = np.dtype("<u4")
_TOTAL: Final = np.dtype("<u8")
_FIGURE: Final = np.dtype("<f8")

_SCHEMA: Final = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE bins (
    seconds REAL, number INTEGER, begin REAL, end REAL, wall REAL, latency_max REAL,
    {", ".join(f"{column} REAL" for column in COLUMNS)},
    sketches BLOB,
    PRIMARY KEY (seconds, number)
);
CREATE TABLE totals (seconds REAL PRIMARY KEY, at REAL, latency_max REAL, figures BLOB, sketches BLOB);
"""
"""``seconds`` tells the resolutions apart; ``wall`` is `end` in seconds since the epoch. ``totals`` are those where the
bin of a resolution begins that has not ended, and those of the last look, where ``seconds`` is 0."""
_SELECT: Final = "SELECT * FROM bins WHERE seconds = ? ORDER BY number"
_INSERT: Final = f"INSERT OR REPLACE INTO bins VALUES ({', '.join('?' * (7 + len(COLUMNS)))})"
_DELETE: Final = "DELETE FROM bins WHERE seconds = ? AND number < ?"

_Statement = tuple[str, list[tuple[Any, ...]]]
"""SQL, and the rows that it is run for."""


class _Batch(NamedTuple):
    """What one transaction writes."""

    statements: list[_Statement]
    added: list[int]
    """How many bins of each resolution are in the file after it."""


class HistoryFile:
    """Keeps a history in a file. One thread uses it, the one that ticks; close it, or use it as a context manager.

    Args:
        path: the file; it is made where there is none.
        history: of the aggregator, before its first tick. What the file has is put into it.
        hub: the hub's name; a file is of one name, also when the hub is made anew.
        say: told what an operator should know; from another thread where saving is done `in_background`.

    Nothing here raises for what is wrong with the file.

    """

    def __init__(
        self,
        path: str,
        history: History,
        hub: str,
        *,
        say: Callable[[str], None],
        in_background: bool = False,
        boot: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._history = history
        self._about = {"hub": hub, "boot": boot_id() if boot is None else boot}
        self._say = say
        self._clock = clock
        self._wall = wall
        self._told = ""
        self._due = -math.inf
        self._saved = [0] * len(history.tiers)
        """How many bins of each resolution are in the file; and what to add to a bin's number to get the row's."""
        self._ahead = [0] * len(history.tiers)
        self._in_background = in_background
        self._writing: threading.Thread | None = None
        """What the thread needs is its own until it ends: the connection, and the two above."""
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = self._opened()
        except _DamagedError as error:
            self._begin_anew(str(error))
        except (sqlite3.Error, OSError, HistoryFileError) as error:
            self._tell(f"going on without a history file: {path}: {error}")

    def _opened(self) -> sqlite3.Connection:
        """The file, checked and read; `_DamagedError` when it is of no use any more."""
        connection = _connect(self._path, writable=True)
        try:
            if _is_empty(connection):
                _create_tables(connection)
            else:
                self._ahead = _load(connection, self._history, self._about, self._clock() - self._wall(), self._clock())
                self._saved = [tier.added for tier in self._history.tiers]
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA journal_size_limit={1 << 22}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _begin_anew(self, why: str) -> None:
        """Put a damaged file aside, and begin another with all that is in memory."""
        aside = f"{self._path}.damaged"
        self._disconnect()
        try:
            os.replace(self._path, aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.replace(self._path + suffix, aside + suffix)
            self._saved = [0] * len(self._history.tiers)
            self._ahead = [0] * len(self._history.tiers)
            self._connection = self._opened()
        except (sqlite3.Error, OSError, HistoryFileError, _DamagedError) as error:
            self._tell(f"going on without a history file: {self._path} is damaged ({why}), and {error}")
            return
        self._tell(f"the history in {self._path} is damaged ({why}); it is in {aside} now, and a new one begins")

    def save(self, *, now: bool = False) -> None:
        """Write what is new, once a minute or ``now``. Call it after each tick."""
        latest = self._history.latest
        if self._connection is None or latest is None or (latest.taken_at < self._due and not now):
            return
        self._due = latest.taken_at + SAVE_SECONDS
        if not self._is_idle(0.0):
            self._tell(f"the history is not saved in {self._path}, and will be once it can: its disk does not answer")
            return
        batch = self._batch(latest.taken_at_wall - latest.taken_at)
        if not self._in_background:
            self._store(self._connection, batch)
            return
        self._writing = threading.Thread(
            target=self._store, args=(self._connection, batch), name="shmetrics-history", daemon=True
        )
        try:
            self._writing.start()
        except RuntimeError as error:  # no thread is to be had
            self._writing = None
            self._tell(f"the history is not saved in {self._path}, and will be once it can: {error}")

    def _is_idle(self, patience: float) -> bool:
        """Whether no transaction is being made, or ends within so many seconds."""
        if self._writing is not None:
            self._writing.join(patience)
            if self._writing.is_alive():
                return False
            self._writing = None
        return True

    def _store(self, connection: sqlite3.Connection, batch: "_Batch") -> None:
        """One transaction."""
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement, rows in batch.statements:
                    connection.executemany(statement, rows)
            self._saved = batch.added
        except (sqlite3.Error, UnicodeDecodeError) as error:
            if _is_damage(error):
                self._begin_anew(str(error))
            else:
                self._tell(f"the history is not saved in {self._path}, and will be once it can: {error}")

    def _batch(self, to_wall: float) -> "_Batch":
        """Copies of the bins that ended since the last transaction, and of where those begin that have not ended."""
        tiers = self._history.tiers
        statements: list[_Statement] = []
        for tier, saved, ahead in zip(tiers, self._saved, self._ahead, strict=True):
            statements += [
                (_INSERT, list(_rows(tier, saved, ahead, to_wall))),
                (_DELETE, [(tier.step, ahead + tier.added - tier.rows)]),
            ]
        state = self._history.state()
        if state is not None:
            statements += self._state_statements(state, to_wall)
        return _Batch(statements, [tier.added for tier in tiers])

    def _state_statements(self, state: State, to_wall: float) -> "list[_Statement]":
        about: dict[str, Any] = self._about | {
            "to_wall": to_wall,
            "created_at": state.created_at,
            "minimum": self._history.minimum.astype(_FIGURE).tobytes(),
            "maximum": self._history.maximum.astype(_FIGURE).tobytes(),
        }
        steps = (0.0, *(tier.step for tier in self._history.tiers))
        totals = [
            (step, totals.at, latency_max, totals.figures.astype(_FIGURE).tobytes(), _totals_blob(totals.buckets))
            for step, totals, latency_max in zip(
                steps, (state.now, *state.starts), (0.0, *state.latency_max), strict=True
            )
        ]
        return [
            ("INSERT OR REPLACE INTO about VALUES (?, ?)", list(about.items())),
            ("INSERT OR REPLACE INTO totals VALUES (?, ?, ?, ?, ?)", totals),
        ]

    def _tell(self, message: str) -> None:
        """Say what was not said last."""
        if message != self._told:
            self._told = message
            self._say(message)

    def close(self) -> None:
        """Save, and let the file go; a disk that does not answer for some seconds keeps what it has."""
        self._is_idle(_LAST_PATIENCE)
        self.save(now=True)
        if self._is_idle(_LAST_PATIENCE):
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # what was saved is saved
                connection.close()

    def __enter__(self) -> "HistoryFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: str, hub: str) -> History:
    """The history that a file has of a hub, read beside the aggregator that writes it. Any process may call.

    Add a snapshot of the hub, and what came since the last minute is in it too. Raises HistoryFileError.
    """
    history = History()
    about = {"hub": hub, "boot": boot_id()}
    try:
        with closing(_connect(path, writable=False)) as connection:
            _load(connection, history, about, time.monotonic() - time.time(), time.monotonic())
    except (sqlite3.Error, _DamagedError) as error:
        raise HistoryFileError(
            f"cannot read a history from {path}: {error}; name a file that `shmetrics serve --history` writes"
        ) from None
    return history


# The file -------------------------------------------------------------------------------------------------------------


class _DamagedError(Exception):
    """The file is ours, or was, and what is in it cannot be believed."""


def _is_damage(error: Exception) -> bool:
    """Whether the file is bad, rather than out of reach, locked or without room.

    UnicodeDecodeError is what sqlite3 raises where its own message quotes damaged text.
    """
    return not isinstance(error, sqlite3.OperationalError)


def _connect(path: str, *, writable: bool) -> sqlite3.Connection:
    """The file, ours or empty. HistoryFileError when it is not known to be ours, `_DamagedError` when it is damaged."""
    _check_file(path)
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(
        f"file:{quoted}?mode={'rwc' if writable else 'ro'}", uri=True, timeout=_PATIENCE, isolation_level=None,
        check_same_thread=False,  # one thread at a time, and not always the same
    )  # fmt: skip
    try:
        if not _is_empty(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise _DamagedError(f"its tables are of version {version}, not {VERSION}")
            (flaw,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if flaw != "ok":
                raise _DamagedError(flaw)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        if _is_damage(error):
            raise _DamagedError(str(error)) from None
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _check_file(path: str) -> None:
    """HistoryFileError unless the file is not there, or empty, or has our mark, whatever else is wrong with it.

    A damaged file is put aside, and what is not ours must not be: somebody may have named the wrong file.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise HistoryFileError("it is not a regular file; name another")
    with open(path, "rb") as file:
        head = file.read(_APPLICATION_AT.stop)
    if head and int.from_bytes(head[_APPLICATION_AT], "big") != APPLICATION:
        raise HistoryFileError(
            "it is not a history that shmetrics wrote, or its beginning is damaged; remove it, or name another file"
        )


def _create_tables(connection: sqlite3.Connection) -> None:
    """Make an empty file ours. In the default journal mode, so that the file itself says so and not only its WAL."""
    connection.executescript(
        f"BEGIN; PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION}; {_SCHEMA} COMMIT;"
    )


def _is_empty(connection: sqlite3.Connection) -> bool:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return bool(tables == 0)


# Writing --------------------------------------------------------------------------------------------------------------


def _rows(tier: Bins, saved: int, ahead: int, to_wall: float) -> Iterator[tuple[Any, ...]]:
    """The rows of the bins of a resolution from number `saved` on."""
    for number in tier.numbers(saved).tolist():
        at = number % tier.rows
        index, count = tier.pairs(at)
        end = float(tier.end[at])
        yield (
            *(tier.step, ahead + number, float(tier.begin[at]), end, end + to_wall, float(tier.latency_max[at])),
            *tier.figures[at].tolist(),
            index.astype(_INDEX).tobytes() + count.astype(_COUNT).tobytes(),
        )


def _totals_blob(buckets: NDArray[np.uint64]) -> bytes:
    index = np.flatnonzero(buckets)
    return index.astype(_INDEX).tobytes() + buckets[index].astype(_TOTAL).tobytes()


# Reading --------------------------------------------------------------------------------------------------------------


def _load(
    connection: sqlite3.Connection, history: History, about: dict[str, str], from_wall: float, now: float
) -> list[int]:
    """Put what a file has into a history; returns by how much rows are numbered ahead of its bins.

    ``about``: the hub that the history is to be of. ``from_wall``: what to add to the wall clock's time to get the
    monotonic clock's. Nothing is put in before all of it was checked.
    """
    try:
        known: dict[str, Any] = dict(connection.execute("SELECT name, value FROM about"))
        if known and known.get("hub") != about["hub"]:
            raise HistoryFileError(f"it is the history of hub {known.get('hub')!r}; name another file")
        same_boot = known.get("boot") == about["boot"]
        loaded = [
            [_checked(row, tier.room) for row in connection.execute(_SELECT, (tier.step,))] for tier in history.tiers
        ]
        extremes = [_figures(known[name], len(MEASURES)) for name in ("minimum", "maximum") if name in known]
        state = _state(connection, known, history)
    except sqlite3.Error as error:
        if _is_damage(error) or "no such" in str(error):  # a table or a column that is not there
            raise _DamagedError(str(error)) from None
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise _DamagedError(str(error)) from None
    except LookupError as error:
        raise _DamagedError(f"it lacks {error}") from None
    ahead = []
    for tier, rows in zip(history.tiers, loaded, strict=True):
        last = -math.inf
        for _, begin, end, wall, latency_max, figures, index, count in rows[-tier.rows :]:
            moved = 0.0 if same_boot else wall + from_wall - end
            if last - 1.0 <= begin + moved and end + moved <= now:
                tier.add_pairs(begin + moved, end + moved, figures, latency_max, index, count)
                last = end + moved
        ahead.append(rows[-1][0] + 1 - tier.added if rows else 0)
    if len(extremes) == 2:
        history.minimum, history.maximum = extremes
    if state is not None:
        if not same_boot:  # and so it was another hub
            moved = float(known["to_wall"]) + from_wall
            state = State(-1.0, _moved(state.now, moved), tuple(_moved(each, moved) for each in state.starts),
                          state.latency_max)  # fmt: skip
        if state.now.at <= now:
            history.restore(state)
    return ahead


def _moved(totals: Totals, seconds: float) -> Totals:
    return totals._replace(at=totals.at + seconds)


def _checked(row: tuple[Any, ...], room: int) -> tuple[Any, ...]:
    """A row of ``bins`` as number, begin, end, wall, latency_max, figures, index, count; ValueError for a bad one."""
    _, number, *numbers, sketches = row
    begin, end, wall, latency_max, *figures = map(float, numbers)
    if not (all(map(math.isfinite, (begin, end, wall, latency_max, *figures))) and begin < end and number >= 0):
        raise ValueError(f"bin {number} has figures that cannot be")
    index, count = _pairs(sketches, _COUNT)
    if len(index) > room:
        raise ValueError(f"bin {number} uses {len(index)} buckets")
    return int(number), begin, end, wall, latency_max, np.array(figures), index, count


def _pairs(blob: bytes, count: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Indices, ascending, and counts."""
    number, rest = divmod(len(blob), _INDEX.itemsize + count.itemsize)
    index = np.frombuffer(blob, _INDEX, number)
    if rest or (number and index.max() >= BUCKETS) or (np.diff(index.astype(int)) <= 0).any():
        raise ValueError("sketches that cannot be")
    return index, np.frombuffer(blob, count, number, number * _INDEX.itemsize)


def _figures(blob: bytes, length: int) -> NDArray[np.float64]:
    values = np.frombuffer(blob, _FIGURE)
    if len(values) != length or np.isnan(values).any():
        raise ValueError("figures that cannot be")
    return values.astype(np.float64)


def _state(connection: sqlite3.Connection, known: dict[str, Any], history: History) -> State | None:
    """Where the history was; None where it was nowhere yet."""
    rows = {seconds: row for seconds, *row in connection.execute("SELECT * FROM totals")}
    if not rows and not known:
        return None
    totals, highest = [], []
    for step in (0.0, *(tier.step for tier in history.tiers)):
        at, latency_max, figures, sketches = rows[step]
        if not (math.isfinite(at) and math.isfinite(latency_max)):
            raise ValueError("times that cannot be")
        index, count = _pairs(sketches, _TOTAL)
        buckets = np.zeros(BUCKETS, np.uint64)
        buckets[index] = count
        totals.append(Totals(float(at), _figures(figures, len(COLUMNS)), buckets))
        highest.append(float(latency_max))
    now, *starts = totals
    if not all(start.at <= now.at for start in starts) or not math.isfinite(known["to_wall"]):
        raise ValueError("times that cannot be")
    return State(float(known["created_at"]), now, tuple(starts), tuple(highest[1:]))
