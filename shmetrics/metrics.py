"""PerformanceMetrics: what an application holds. It records in this process and reads the whole fleet."""

import functools
import math
import multiprocessing
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload

from shmetrics import exemplars, forks, naming, segment
from shmetrics.attachment import Attachment
from shmetrics.book import DEFINITION_PATIENCE, Book
from shmetrics.compat import InferenceTimes
from shmetrics.decorated import decorated
from shmetrics.errors import HubClosedError
from shmetrics.hub import View
from shmetrics.layout import Layout
from shmetrics.measured import BatchSize, Measured, MeasuredBlock, batch_sizes
from shmetrics.measurement import RequestMeasurement, innermost
from shmetrics.recorder import Recorder
from shmetrics.segment import Segment
from shmetrics.slots import CACHE_HITS, CACHE_MISSES, ERRORS, UNCOUNTED
from shmetrics.snapshot import Snapshot
from shmetrics.stages import INFERENCE, Stage, request_of, samples
from shmetrics.statistics import Statistics, statistics
from shmetrics.writer import Writer

if TYPE_CHECKING:
    from shmetrics.pools import MeasuredExecutor, MeasuredPool, Task

HUB_VARIABLE: Final = "SHMETRICS_HUB"
"""Environment variable that names the hub of every PerformanceMetrics made without a name."""

_MAX_COUNT: Final = 1 << 32
"""What one call may add: far from where a counter is taken for overwritten memory, and its slot left out."""
_ONE: Final = 1  # the default count; small ints are singletons, and anything else is looked at
_OWN_STATE: Final = frozenset({"_attachment", "_made_in", "_private", "_release", "lock", "inference_times"})

_Self = TypeVar("_Self", bound="PerformanceMetrics")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class PerformanceMetrics:
    """Performance metrics of all worker processes of a server, in one shared-memory hub.

    Args:
        window_size: records of each worker that the rolling window holds, 1 to 1,000,000.
        enable_detailed_stats: compute minimum, maximum, standard deviation and the detail of each stage.
        track_percentiles: compute P50, P95 and P99.
        name: create or attach to the hub of that name (``[a-z0-9_-]{1,48}``), which lives until it is removed, so
            totals survive a restart of the server. Without a name: the hub that ``SHMETRICS_HUB`` names, else a private
            one, shared with forked children and removed when the creating process exits.
        max_workers: worker processes that can record at once, 1 to 1024.
        max_series: series of custom metrics the hub has room for, 1 to 65,536.
        role: what this process is, for people; by default the name multiprocessing gives it.

    Raises:
        ValueError: an argument is out of range; the message names it, its value and the range.
        HubLayoutError: the hub that `name` names exists with other dimensions. (Those of the hub that SHMETRICS_HUB
            names stand, with a warning: a reload with another number must not end a server.)
        HubSpaceError: /dev/shm has no room for the hub.
        HubRefusedError: the file under the hub's name cannot be trusted.
        PlatformError: there is no /dev/shm, or this user may not make files in it, or this is no 64-bit Linux.

    It works unchanged in threads, in children of fork (also when it was made and used before the fork) and in children
    of spawn and forkserver, where it pickles by name. A process takes its slot at its first record.

    The recording methods may be called from any thread, signal handler or greenlet. They wait for no other process
    (save that the first record of a process waits for its slot, normally under a millisecond, two seconds at most), and
    raise only for arguments that are not numbers. Once they have returned, the record survives any process's death.

    """

    _may_record_requests: ClassVar[bool] = True

    def __init__(
        self,
        window_size: int = 100,
        enable_detailed_stats: bool = True,
        track_percentiles: bool = True,
        *,
        name: str | None = None,
        max_workers: int = 64,
        max_series: int = 1024,
        role: str | None = None,
    ) -> None:
        dims = Layout(max_workers=max_workers, window_size=window_size, max_series=max_series)
        if role is not None and not isinstance(role, str):
            raise ValueError(f"role must be a text, not {role!r}")
        default = default_hub() if name is None else None
        private = name is None and default is None
        if name is not None:
            target = segment.create_or_attach(name, dims)
        elif default is not None:
            target = segment.create_or_attach(default, dims, any_dimensions=True)
        else:
            target = segment.create(naming.private_name(), dims)
        self._enable_detailed_stats = enable_detailed_stats
        self._track_percentiles = track_percentiles
        self._role = role
        try:
            self._attach(target, private=private)
        except BaseException:
            if private:
                segment.unlink(target.name, target.instance)
            target.close()
            raise
        if target.layout != dims:
            self.mention("dimensions", _other_dimensions(target, dims))
        if private and multiprocessing.parent_process() is not None:
            self.mention(
                "private", f"a hub of this child process alone; give it a name=, or set {HUB_VARIABLE}, to share"
            )

    @classmethod
    def attach(cls: type[_Self], name: str, *, role: str | None = None) -> _Self:
        """The hub of that name, to record in: one that exists, whatever its dimensions. For workers of any kind.

        Raises what `Hub.attach` raises: HubNotFoundError where there is none, HubRefusedError where it cannot be one.
        """
        metrics = cls.__new__(cls)
        metrics.__setstate__(
            {"_enable_detailed_stats": True, "_track_percentiles": True, "_role": role, "name": naming.check_name(name)}
        )
        return metrics

    def _attach(self, target: Segment, *, private: bool) -> None:
        self._attachment = attachment = Attachment.of(target, self._role)
        attachment.may_record_requests |= self._may_record_requests
        self._private = private
        if private:
            attachment.private_to = os.getpid()
        self._made_in = os.getpid()
        self._release = weakref.finalize(self, attachment.release, os.getpid() if private else None)
        self.lock = threading.RLock()
        self.inference_times = InferenceTimes(attachment.writer, attachment.segment.layout.window_size)
        forks.register(self)

    # Recording --------------------------------------------------------------------------------------------------------

    def update_inference(
        self,
        inference_time: float,
        batch_size: float = 1,
        preprocessing_time: float = 0.0,
        quantization_time: float = 0.0,
    ) -> None:
        """Record one request. Times in seconds; ``total_time`` is the sum of the three.

        A request with a NaN, infinite or negative value counts in ``total_requests`` and as ``invalid_records``, and
        in no measure. TypeError for what is not a number.
        """
        self._attachment.writer.record(inference_time, batch_size, preprocessing_time, quantization_time)

    def record_exemplar(self, inference_time: float, labels: Mapping[str, str]) -> None:
        """Say of which request an inference time is, after recording it: ``{"trace_id": ...}``.

        The slowest recent request of each octave keeps its labels, for exports that show exemplars. ValueError for
        names that no label can have, and for more than 128 characters.
        """
        kept, value = exemplars.checked(labels), float(inference_time)
        if math.isfinite(value):
            writer = self._attachment.writer
            writer.perform(_keep, writer, value, kept)

    def record_error(self, count: int = 1) -> None:
        """Count failed requests. ``count``: a whole number, not negative."""
        self._attachment.writer.add(ERRORS, count if count is _ONE else _whole(count))

    def record_cache_hit(self, count: int = 1) -> None:
        """Count answers that came from a cache."""
        self._attachment.writer.add(CACHE_HITS, count if count is _ONE else _whole(count))

    def record_cache_miss(self, count: int = 1) -> None:
        """Count answers that a cache did not have."""
        self._attachment.writer.add(CACHE_MISSES, count if count is _ONE else _whole(count))

    def claim(self) -> bool:
        """Take this process's slot now rather than at its first record, so that no request waits for it.

        Waits two seconds at most. False when every slot belongs to a live worker, or the registry stayed busy.
        """
        return self._attachment.writer.claim()

    def enable_profiling(self) -> None:
        """Let `shmetrics profile` sample this process, and those that are forked from it, while they have a slot.

        As SHMETRICS_PROFILING=1 does. It costs a thread that sleeps; requests cost the same. See docs/profiling.md.
        """
        self._attachment.enable_profiling()

    @property
    def recorder(self) -> Recorder:
        """The writer of this process: what wrappers of servers record with."""
        return self._attachment.writer

    @property
    def book(self) -> Book:
        """The custom metrics of this process: what `CustomMetrics` works with."""
        return self._attachment.book

    # Measuring --------------------------------------------------------------------------------------------------------

    def stage(self, name: str, *, batch_size: float | None = None) -> Stage:
        """A stage of a request: ``with metrics.stage("preprocessing"):``, or ``@metrics.stage("preprocessing")``.

        Its time, without that of stages within it, goes to the request that is being measured in this thread or task:
        "preprocessing", "inference" and "quantization" to the measures of its record, those of `add_stages` to a
        histogram. ``batch_size``: samples that the stage adds to the request.

        ValueError for any other name, TypeError for a batch size that is no number. Nothing is raised by `with`.
        """
        stage = self._attachment.stages[name]
        return stage if batch_size is None else stage.with_batch_size(batch_size)

    def add_stages(self, *names: str) -> None:
        """Declare further stages, for the whole hub: series of the histogram ``stage_duration_seconds``.

        ValueError for what is no text of 1 to 100 characters. May wait two seconds for another process.
        """
        self._attachment.stages.declare(names)

    def request(self, *, batch_size: float | None = None) -> MeasuredBlock:
        """A request outside of any server: ``with metrics.request(batch_size=8) as request:`` records one at its end.

        An exception is an error, unless it stops the block from outside (a cancellation). Within a request that is
        being measured the block is its inference stage, and adds its ``batch_size``; ``request`` is that one then.
        """
        size = None if batch_size is None else samples(batch_size)
        return MeasuredBlock(self._attachment.source, self._attachment.stages[INFERENCE], size)

    @overload
    def measure(self, function: _Function) -> _Function: ...

    @overload
    def measure(self, *, batch_size: BatchSize = None) -> Callable[[_Function], _Function]: ...

    def measure(self, function: Any = None, *, batch_size: BatchSize = None) -> Any:
        """Decorate a function, coroutine function or generator: each call is a `request`.

        ``batch_size``: a number, or a function of the same arguments, ``@metrics.measure(batch_size=len)``. Of a
        generator the time in it counts, and not that of its consumer. TypeError for what cannot be called.
        """
        if function is None:
            return functools.partial(self.measure, batch_size=batch_size)
        source, inference = self._attachment.source, self._attachment.stages[INFERENCE]
        size_of = batch_sizes(batch_size, function, source.recorder)
        return decorated(function, lambda args, kwargs: Measured(source, inference, size_of(args, kwargs)))

    @property
    def current_request(self) -> RequestMeasurement | None:
        """The request that is being measured in this thread or task; None outside of any."""
        return request_of(innermost(self._attachment.writer))

    # Pools of processes -----------------------------------------------------------------------------------------------

    def pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | str | None = None,
    ) -> "MeasuredPool":
        """A `multiprocessing.Pool` whose tasks are measured in this hub; arguments and methods are the same.

        ``context``: also the name of a start method. Each task is one record: its run time is the inference time, a
        failed one is an error. See docs/multiprocessing.md.
        """
        from shmetrics import pools  # noqa: PLC0415  for those who use them; servers import what they need

        return pools.MeasuredPool(self, processes, initializer, initargs, maxtasksperchild, context)

    def executor(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | str | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **options: Any,
    ) -> "MeasuredExecutor":
        """A `concurrent.futures.ProcessPoolExecutor` whose tasks are measured, likewise. See `pool`."""
        from shmetrics import pools  # noqa: PLC0415

        return pools.MeasuredExecutor(self, max_workers, mp_context, initializer, initargs, **options)

    def task(self, function: Callable[..., Any]) -> "Task":
        """The function, measured wherever it is called: in this process, or in a worker it was sent to by pickling."""
        from shmetrics import pools  # noqa: PLC0415

        return pools.task(self, function)

    # Reading ----------------------------------------------------------------------------------------------------------

    def get_statistics(self, *, max_age: float | None = None) -> Statistics:
        """The figures of the whole fleet: a JSON-ready dictionary (`docs/statistics.md` lists the keys).

        ``max_age``: look at the part of the window that is at most so many seconds old.
        """
        figures = statistics(self.snapshot(), max_age=max_age, **self._options())
        self._mention_invalid(figures)
        return figures

    def get_comprehensive_statistics(self, *, max_age: float | None = None) -> Statistics:
        """`get_statistics`, and with it lifetime percentiles, a row for each worker, and the health of the hub."""
        figures = self._view().comprehensive(max_age=max_age, **self._options())
        self._mention_invalid(figures)
        return figures

    def snapshot(self) -> Snapshot:
        """The fleet at this instant, as immutable data. HubClosedError after `close`."""
        return self._view().snapshot()

    @property
    def view(self) -> View:
        """What reads the hub, for parts of shmetrics that watch it. HubClosedError after `close`."""
        return self._view()

    def _view(self) -> View:
        if not self._release.alive:
            raise HubClosedError("these metrics were closed; make a new object, or attach with Hub.attach(name)")
        return self._attachment.view

    def _options(self) -> dict[str, Any]:
        return {"detailed": self._enable_detailed_stats, "percentiles": self._track_percentiles}

    def _mention_invalid(self, figures: Statistics) -> None:
        if figures["invalid_records"]:
            self._attachment.writer.warn_of_invalid()

    def mention(self, kind: str, message: str) -> None:
        """Log a warning once per `kind` and process. For wrappers of servers."""
        self._attachment.writer.mention(kind, message)

    # The hub ----------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The hub's name, for `Hub.attach` and the command line."""
        return self._attachment.segment.name

    @property
    def instance(self) -> int:
        """Which hub of that name it is: drawn at random when it was created."""
        return self._attachment.segment.instance

    @property
    def is_of_this_process_alone(self) -> bool:
        """Whether the hub is private and was made in this process, so that no sibling has it; children may."""
        return self._private and self._made_in == os.getpid()

    @property
    def window_size(self) -> int:
        """Records of each worker that the rolling window holds."""
        return self._attachment.segment.layout.window_size

    def close(self) -> None:
        """Give up this process's slot. A named hub stays, with its totals; a private one goes with its creator."""
        self._release()

    def unlink(self) -> None:
        """Remove the hub's name and semaphores. Processes that have it go on, but nobody new will find it."""
        segment.unlink(self._attachment.segment.name, self._attachment.segment.instance)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, window_size={self.window_size})"

    # For subclasses of the original class -----------------------------------------------------------------------------

    @property
    def total_requests(self) -> int:
        """Requests of *this process*; may be added to. The fleet's are in `get_statistics`."""
        return self._attachment.writer.total - self.inference_times.unacknowledged

    @total_requests.setter
    def total_requests(self, value: int) -> None:
        grown = operator.index(value) - self.total_requests
        if grown < 0:
            raise ValueError(f"total_requests only grows: it is {self.total_requests} and cannot become {value}")
        _whole(grown)
        # An append to inference_times has recorded its request already; only what exceeds those is new.
        known = min(grown, self.inference_times.unacknowledged)
        self.inference_times.unacknowledged -= known
        if grown > known:
            self._attachment.writer.add(UNCOUNTED, grown - known)

    # Other processes --------------------------------------------------------------------------------------------------

    def after_fork_in_child(self) -> None:
        """Replace what a thread of the parent may have held. Called by `forks`."""
        self.lock = threading.RLock()
        self.inference_times = InferenceTimes(self._attachment.writer, self.window_size)

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key not in _OWN_STATE}
        return state | {"name": self.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        name = state.pop("name")
        self.__dict__.update(state)
        self._attach(segment.attach(name, writable=True), private=False)


def _keep(writer: Writer, value: float, labels: bytes) -> None:
    writer.exemplars.keep(exemplars.INFERENCE_TIME, exemplars.octave(value), value, labels)


def _other_dimensions(found: Segment, wanted: Layout) -> str:
    return (
        f"it exists with {found.layout}, which stands; {wanted} was asked for. To have that, remove it while no server "
        f"runs (`shmetrics rm {found.name}`); where it is `shmetrics run` that makes it, give that "
        f"{segment.flags_for(found.layout, wanted)}"
    )


def default_hub() -> str | None:
    """The hub that SHMETRICS_HUB names, None when it is not set; ValueError when no hub can have that name."""
    name = os.environ.get(HUB_VARIABLE)
    if not name:
        return None
    try:
        return naming.check_name(name)
    except ValueError as error:
        raise ValueError(f"environment variable {HUB_VARIABLE}: {error}") from None


def recorded_hubs() -> set[str]:
    """Names of the hubs in which this process may record requests itself. For wrappers of servers."""
    return {each.segment.name for each in list(Attachment.open.values()) if each.may_record_requests}


def claim_all() -> bool:
    """Take a slot in every hub this process records in; whether there was one in each. For wrappers of servers."""
    claimed = [attachment.writer.claim() for attachment in list(Attachment.open.values())]
    return all(claimed)


def hold_all(exit_code: int) -> None:
    """Keep this process's slots until it is dead, whoever closes what, and on their boards what is in flight now.

    For wrappers of servers, when its end is no orderly one though it ends by itself. ``exit_code``: as
    `endings.report_end` takes it, of what it is being ended by.
    """
    for attachment in list(Attachment.open.values()):
        attachment.hold(exit_code)


def expect_end_all(expected: bool) -> None:
    """Say that this process is about to end in order, or that it goes on after all.

    For wrappers of servers that end a worker by a signal when it has shut down: that is no news then, unless it
    crashes, or leaves a request in flight.
    """
    for attachment in list(Attachment.open.values()):
        attachment.expect_end(expected)


def close_all() -> None:
    """Give up this process's slots. For wrappers of servers, at the orderly end of a worker."""
    deadline = time.monotonic() + DEFINITION_PATIENCE
    for attachment in list(Attachment.open.values()):
        attachment.end(deadline)


def _whole(count: int) -> int:
    """`count`, or an error: TypeError when it is not a whole number, ValueError when it is out of range."""
    number = operator.index(count)
    if not 0 <= number <= _MAX_COUNT:
        raise ValueError(f"count must be from 0 to {_MAX_COUNT}, not {count}")
    return number
