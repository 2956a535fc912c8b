"""The memory layout of a hub: the one place where bytes get their meaning. Pure: no I/O, no processes, no clocks.

::

    segment  /dev/shm/shmetrics.<uid>.<name>                       (every part starts on a 64-byte line)
    +--------+---------+-----------+-----------+------------+--------+--------+-----+----------+
    | header | catalog | retired A | retired B | obituaries | slot 0 | slot 1 | ... | slot N-1 |
    +--------+---------+-----------+-----------+------------+--------+--------+-----+----------+
        |        |          |                       |          |
        |        |          |                       |          +-- one per worker process; only its owner writes it
        |        |          |                       +-- the newest of those that died; real once its serial is stored
        |        |          +-- what dead workers left, folded together; `retired_index` & 1 says which copy is good
        |        +-- custom metrics and their series, in blocks; an entry counts once its serial number is stored
        +-- magic, version, hash, dimensions, clocks, `retired_index`, peak

    slot
    +-------------------+---------------+------------+---------------+------------+-----------+------------+-----------+
    | owner             | hot           | notes      | board         | ring       | folded A  | folded B   | cells,    |
    | state, generation | head (THE     | of others: | in flight:    | capacity x | sketches, | `fold` & 1 | one run   |
    | pid, start, role  | COMMIT WORD), | how it     | start, label; | 64-byte    | sums,     | says which | a series; |
    | guard, times, gc  | fold, counts  | ended, RSS | busy time     | record     | seconds   | is good    | exemplars |
    +-------------------+---------------+------------+---------------+------------+-----------+------------+-----------+

    record   0       8                16          24                   32                  40      48    56      64
             +-------+----------------+-----------+--------------------+-------------------+-------+-----+-------+
             | time  | inference_time | batch_size| preprocessing_time | quantization_time | errors| hits| misses|
             +-------+----------------+-----------+--------------------+-------------------+-------+-----+-------+
               s, monotonic; float64    float64     s, float64           s, float64          uint64, cumulative

Every number is 8 bytes, naturally aligned, in the machine's byte order, so that one store of one word is atomic on
every 64-bit CPU. Each offset is computed from the end of the part before it; nothing here is written down twice.
"""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from shmetrics import sketch
from shmetrics.structs import Struct, round_up

MAGIC: Final = int.from_bytes(b"SHMETRIC", "little")
VERSION: Final = 3
SEMAPHORE_BYTES: Final = 32
"""sizeof(sem_t) on 64-bit Linux."""

LINE: Final = 64
"""Bytes in a cache line; every part starts on one."""

FOLD_BATCH: Final = 512
"""Records between two folds. A fold costs mostly the way to numpy, whatever it adds: the more at once the better."""

FOLD_RESERVE: Final = FOLD_BATCH // 2
"""Places in a ring for what is recorded while a reader copies it: until no more are left, a fold can be put off."""

SECONDS: Final = 300
"""Seconds of history in each per-second ring."""

BOARD_SIZE: Final = 64
"""Requests in flight that one worker can show at once; of more it shows the oldest and how many there are."""

LABEL_BYTES: Final = 56
"""Of each request's label."""

BUSY_SECONDS: Final = 64
"""Seconds of history of each worker's busy time."""

OBITUARIES: Final = 64
"""Dead workers that a hub remembers one by one."""

GENERATIONS: Final = 3
"""Of objects, as CPython's garbage collector tells them apart."""

CELLS_PER_SERIES: Final = 8
"""On average: a counter takes 2, a gauge 4, a histogram one for each bucket and 3 more."""

MEASURES: Final = ("inference_time", "batch_size", "preprocessing_time", "quantization_time", "total_time")
"""What is measured, in the order of every array with a measure axis. The last is the sum of the three times."""

FREE: Final = 0
CLAIMED: Final = 1


def offset_of(struct: Struct, name: str) -> int:
    """Bytes from the start of a struct to one of its fields."""
    return struct.offsets[name]


_U8: Final = "u8"
_F8: Final = "f8"

HEADER: Final = Struct(
    ("magic", _U8),
    ("version", _U8),
    ("layout_hash", _U8),
    ("size", _U8),
    ("max_workers", _U8),
    ("window_size", _U8),
    ("max_series", _U8),
    ("instance", _U8),  # random; tells this hub from an earlier one of the same name, also in semaphore names
    ("boot", "S40"),
    ("semaphore", f"V{SEMAPHORE_BYTES}"),  # the bytes of a fresh semaphore of value 1, from which guards are made
    ("creator_pid", _U8),
    ("created_monotonic", _F8),
    ("created_wall", _F8),
    ("retired_index", _U8),  # counts reaps; its lowest bit names the good retired copy
    ("dropped", _U8),  # records of workers that never got a slot; written under REGISTRY
    ("corrupt", _U8),  # dead slots whose words failed their checks and were freed unread; written under REGISTRY
    ("peak_throughput", _F8),  # written by the holder of ROLE
)

RECORD: Final = Struct(
    ("time", _F8),
    ("inference_time", _F8),
    ("batch_size", _F8),
    ("preprocessing_time", _F8),
    ("quantization_time", _F8),
    ("errors", _U8),
    ("cache_hits", _U8),
    ("cache_misses", _U8),
)

FOLDED: Final = Struct(
    ("valid", _U8),  # records in the sketches and sums
    ("invalid", _U8),  # records kept out of them: NaN, infinite or negative
    ("errors", _U8),  # cumulative errors at the last folded record
    ("sum", _F8, (len(MEASURES),)),
    ("min", _F8, (len(MEASURES),)),
    ("max", _F8, (len(MEASURES),)),
    ("sketch", _U8, (len(MEASURES), sketch.SIZE)),
    # The per-second ring: second s lives at s % SECONDS, and `second` says which one that is.
    ("second", _U8, (SECONDS,)),
    ("requests", _U8, (SECONDS,)),
    ("second_errors", _U8, (SECONDS,)),
    ("latency_sum", _F8, (SECONDS,)),
    ("latency_max", _F8, (SECONDS,)),
    multiple_of=LINE,  # so that the two copies never share a line
)

OWNER: Final = Struct(
    ("state", _U8),
    ("generation", _U8),  # incarnations that ever claimed this slot
    ("pid", _U8),  # for display only; liveness is a kernel lock
    ("start_ticks", _U8),  # tells a reused pid from the original
    ("guard", _U8),  # number in the guard semaphore's name
    ("claimed_at", _F8),
    ("ended_at", _F8),  # when it gave its slot up; below zero: minus the time at which it said that it was about to end
    ("heartbeat", _F8),
    ("role", "S32"),
    # Garbage collections of each generation, the youngest first.
    ("collections", _U8, (GENERATIONS,)),
    ("collected", _U8, (GENERATIONS,)),
    ("uncollectable", _U8, (GENERATIONS,)),
    ("collecting_ns", _U8, (GENERATIONS,)),
)

HOT: Final = Struct(
    ("head", _U8),
    ("fold", _U8),  # records folded so far, shifted left by one; the lowest bit names the good folded copy
    ("errors", _U8),
    ("cache_hits", _U8),
    ("cache_misses", _U8),
    ("dropped", _U8),
    ("uncounted", _U8),  # requests that were counted without a record (a subclass adding to total_requests)
)

NOTES: Final = Struct(  # what others noted of this worker; its owner clears it, and may say how it is being ended
    ("ending", _U8),  # how its process ended, as `obituary.ending_word` has it; 0 when nobody has said
    ("ended_at", _F8),  # when that was said
    ("rss_bytes", _U8),  # its resident memory when the leading aggregator last looked
)

BOARD: Final = Struct(
    ("busy", _F8),  # busy time: see `board`
    ("crowd", _U8),  # requests in flight that have no place
    # The history of `busy`: second s is at s % BUSY_SECONDS, and `second` says which one that is.
    ("second", _U8, (BUSY_SECONDS,)),
    ("busy_at", _F8, (BUSY_SECONDS,)),
    ("start", _F8, (BOARD_SIZE,)),  # 0 in a place that is empty
    ("label", f"V{LABEL_BYTES}", (BOARD_SIZE,)),  # UTF-8, filled up with zeros
)

OBITUARY: Final = Struct(
    ("serial", _U8),  # 0 while it is written; the entries with the highest are the newest
    ("slot", _U8),
    ("generation", _U8),
    ("pid", _U8),
    ("ending", _U8),  # as in NOTES; may be said later than the rest
    ("length", _U8),  # bytes of the payload
    ("payload", "V4048"),  # JSON: see `obituary`
)

EXEMPLARS: Final = 32
"""Places for exemplars in each slot."""

EXEMPLAR: Final = Struct(
    ("version", _U8),  # odd while it is written, 0 before it ever was
    ("series", _U8),
    ("bucket", _U8),
    ("value", _F8),
    ("time", _F8),  # seconds since the epoch
    ("length", _U8),
    ("labels", "V208"),  # JSON
)

BLOCK: Final = Struct(
    ("serial", _U8),  # of the entry that starts here; 0 where none does. Never given twice
    ("length", _U8),  # bytes of the entry's payload, which goes on in the payloads of the blocks that follow
    ("payload", "V240"),
)


@dataclass(frozen=True)
class Layout:
    """The layout for one set of dimensions. Immutable and cheap to compare; the dimensions are its identity."""

    max_workers: int = 64
    window_size: int = 100
    max_series: int = 1024

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_workers", 1, 1024),
            ("window_size", 1, 1_000_000),
            ("max_series", 1, 65_536),
        ):
            given = getattr(self, name)
            value = _whole(given)
            if value is None:
                raise ValueError(f"{name} must be a whole number from {low} to {high}, not {given!r}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}, not {value}")
            object.__setattr__(self, name, value)  # an int, also where one of numpy's was given: it is hashed by repr

    def __str__(self) -> str:
        return f"window_size={self.window_size}, max_workers={self.max_workers}, max_series={self.max_series}"

    @cached_property
    def capacity(self) -> int:
        """Records in a ring: a power of two with room for the window and a batch beside it."""
        wanted = self.window_size + 1 + FOLD_BATCH
        return max(2 * FOLD_BATCH, 1 << (wanted - 1).bit_length())

    @cached_property
    def catalog(self) -> Struct:
        """Custom metrics and their series; written under REGISTRY."""
        return Struct(
            ("changes", _U8),  # odd while one is under way, or was when its author died
            ("last_serial", _U8),
            ("refused", _U8),  # series for which there was no room
            ("blocks", BLOCK, (self.max_series,)),
            align=LINE,
        )

    @cached_property
    def retired(self) -> Struct:
        """What dead workers left: one of two copies."""
        return Struct(
            ("incarnations", _U8),
            ("requests", _U8),
            ("errors", _U8),
            ("cache_hits", _U8),
            ("cache_misses", _U8),
            ("dropped", _U8),
            ("folded_generation", _U8, (self.max_workers,)),
            ("folded", FOLDED),
            ("cells", _F8, (self.cells,)),
            align=LINE,
        )

    @cached_property
    def obituaries(self) -> Struct:
        """Dead workers, the newest; written under REGISTRY."""
        return Struct(
            ("oom_kills", _U8),  # of which counter, and how many it had when somebody last looked: see `oom`
            ("entries", OBITUARY, (OBITUARIES,)),
            align=LINE,
        )

    @cached_property
    def slot(self) -> Struct:
        """One worker's part."""
        return Struct(
            ("owner", OWNER),
            ("hot", HOT),
            ("notes", NOTES),
            ("board", BOARD),
            ("ring", RECORD, (self.capacity,)),
            ("folded", FOLDED, (2,)),
            ("cells", _F8, (self.cells,)),
            ("exemplars", EXEMPLAR, (EXEMPLARS,)),
            align=LINE,
        )

    @property
    def cells(self) -> int:
        """float64 cells for custom series in each slot."""
        return self.max_series * CELLS_PER_SERIES

    @property
    def catalog_offset(self) -> int:
        """Where the catalog starts."""
        return round_up(HEADER.itemsize, LINE)

    @property
    def retired_offset(self) -> int:
        """Where the two retired copies start."""
        return self.catalog_offset + self.catalog.itemsize

    @property
    def obituaries_offset(self) -> int:
        """Where the obituaries start."""
        return self.retired_offset + 2 * self.retired.itemsize

    @property
    def slots_offset(self) -> int:
        """Where slot 0 starts."""
        return self.obituaries_offset + self.obituaries.itemsize

    @property
    def size(self) -> int:
        """Bytes of the whole segment."""
        return self.slots_offset + self.max_workers * self.slot.itemsize

    @cached_property
    def hash(self) -> int:
        """64 bits over the version, every dimension and every offset: two layouts agree only if all of them do."""
        parts = [repr((VERSION, self.max_workers, self.window_size, self.max_series, self.size))]
        parts += [struct.description for struct in (HEADER, self.catalog, self.retired, self.obituaries, self.slot)]
        digest = hashlib.sha256("\n".join(parts).encode()).digest()
        return int.from_bytes(digest[:8], "little")


def _whole(number: Any) -> int | None:
    """The int that an int of whatever kind stands for; None when it is none, or a truth value."""
    if type(number).__name__ in ("bool", "bool_"):  # numpy's, too
        return None
    try:
        return operator.index(number)
    except TypeError:
        return None
