"""The diagnosis: what an operator should know about shared memory and about each hub in it.

Each rule is one small function that yields findings; `RULES` and `HUB_RULES` list them. Nothing is changed, and nobody
waits: a hub is looked at as any reader does.
"""

import os
import pwd
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from shmetrics import inventory, naming, segment
from shmetrics.errors import HubNotFoundError, ShmetricsError
from shmetrics.hub import View
from shmetrics.layout import Layout
from shmetrics.locks import REGISTRY, ROLE, is_locked
from shmetrics.process import state_of
from shmetrics.segment import Segment
from shmetrics.snapshot import Snapshot

HUNG_SECONDS: Final = 10.0
"""A worker that serves one request for so long, and has recorded nothing since, is taken for hung."""
_REGISTRY_SECONDS: Final = 0.25
_POLL: Final = 0.005
_NEARLY_FULL: Final = 0.9
_SYSTEM_UIDS: Final = 1000
_LOGIND: Final = (
    "/usr/lib/systemd/logind.conf",
    "/usr/lib/systemd/logind.conf.d/*.conf",
    "/etc/systemd/logind.conf",
    "/etc/systemd/logind.conf.d/*.conf",
)
_REMOVE_IPC: Final = re.compile(r"^\s*RemoveIPC\s*=\s*(\S+)", re.MULTILINE)

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing to know: how bad it is, about what, and in words what was found and what to do."""

    level: Level
    subject: str
    text: str


def diagnose(name: str | None = None) -> Iterator[Finding]:
    """Everything there is to say: about the machine, and about one hub, or all of this user's.

    HubNotFoundError where there is no hub of that name; a hub that is refused is a finding.
    """
    for rule in RULES:
        yield from rule()
    for one in naming.hub_names() if name is None else [name]:
        try:
            yield from diagnose_hub(one)
        except HubNotFoundError:
            if name is not None:
                raise


def diagnose_hub(name: str) -> Iterator[Finding]:
    """Everything there is to say about one hub."""
    subject = f"hub {name}"
    try:
        target = segment.attach(name)
    except HubNotFoundError:
        raise
    except ShmetricsError as error:
        yield Finding("problem", subject, str(error))
        return
    view = View(target)
    try:
        fleet = view.snapshot()
        for rule in HUB_RULES:
            for level, text in rule(target, fleet):
                yield Finding(level, subject, text)
    finally:
        view.close()


# The machine ----------------------------------------------------------------------------------------------------------


def _space() -> Iterator[Finding]:
    """Free bytes and files, held against what a hub of the default dimensions takes."""
    if not naming.is_usable():
        yield Finding(
            "problem", naming.SHM_DIR, f"user {os.geteuid()} may not make files in it, or there is none: "
            f"{naming.USABLE_SHM}",
        )  # fmt: skip
        return
    status = os.statvfs(naming.SHM_DIR)
    free, total, wanted = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, Layout().size
    text = f"{free / 2**20:,.1f} MiB of {total / 2**20:,.1f} MiB free, {status.f_favail:,} more files"
    if free < wanted or not status.f_favail:
        yield Finding(
            "problem", naming.SHM_DIR, f"{text}; a hub of the default size takes {wanted / 2**20:.1f} MiB: remove "
            f"what nobody needs (`shmetrics gc`, `shmetrics ls`), or {naming.MORE_SHM}",
        )  # fmt: skip
    else:
        yield Finding("ok", naming.SHM_DIR, f"{text}; a hub of the default size takes {wanted / 2**20:.1f} MiB")


def _left_behind() -> Iterator[Finding]:
    """Hubs and semaphores that serve nobody."""
    found = list(inventory.leftovers())
    if found:
        shown = ", ".join(leftover.name for leftover in found[:3]) + (", ..." if len(found) > 3 else "")
        yield Finding("warning", "leftovers", f"{len(found)} that serve nobody ({shown}): `shmetrics gc` removes them")
    else:
        yield Finding("ok", "leftovers", "none: every hub and every semaphore serves somebody")


def _remove_ipc() -> Iterator[Finding]:
    """systemd-logind removes the shared memory of a user who logs out (logind.conf(5), RemoveIPC=, default yes)."""
    uid = os.geteuid()
    if uid < _SYSTEM_UIDS or not os.path.isdir("/run/systemd/system") or _removes_ipc() is False:
        return
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        return  # no user that could log in
    if os.path.exists(f"/var/lib/systemd/linger/{user}"):
        return
    yield Finding(
        "warning",
        "RemoveIPC",
        f"systemd removes the shared memory of user {user} when the last session ends, under running servers too; set "
        f"RemoveIPC=no in logind.conf, or `loginctl enable-linger {user}`, or run as a system user",
    )


def _removes_ipc() -> bool:
    """What the last of logind's files says; yes is the default."""
    answer = "yes"
    for pattern in _LOGIND:
        directory, _, glob = pattern.rpartition("/")
        for path in sorted(Path(directory).glob(glob)):
            try:
                answers = _REMOVE_IPC.findall(path.read_text(encoding="utf-8", errors="replace"))
            except OSError:
                continue
            answer = answers[-1] if answers else answer
    return answer.lower() not in ("no", "false", "0", "off")


RULES: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (_space, _left_behind, _remove_ipc)


# A hub ----------------------------------------------------------------------------------------------------------------

_Rule = Callable[[Segment, Snapshot], Iterator[tuple[Level, str]]]


def _sizes(target: Segment, _fleet: Snapshot) -> Iterator[tuple[Level, str]]:
    dims = target.layout
    yield (
        "ok",
        f"{dims.size / 2**20:.1f} MiB: {dims}; {dims.slot.itemsize / 2**10:,.0f} KiB a slot, "
        f"{dims.capacity:,} records in each ring",
    )


def _pool(_target: Segment, fleet: Snapshot) -> Iterator[tuple[Level, str]]:
    """Slots against workers."""
    health = fleet.health
    text = f"{health.slots_live} of {health.slots_total} slots have a live worker, {health.slots_dead} a dead one"
    if fleet.counters.dropped:
        yield (
            "problem",
            f"{text}; {fleet.counters.dropped:,} records were dropped for want of a slot: stop the server, "
            f"`shmetrics rm {fleet.name}`, and start it with a larger max_workers",
        )
    elif health.slots_live >= _NEARLY_FULL * health.slots_total:
        yield "warning", f"{text}; the next worker may find none and drop its records: plan a larger max_workers"
    else:
        yield "ok", text


def _aggregator(target: Segment, fleet: Snapshot) -> Iterator[tuple[Level, str]]:
    if is_locked(target.descriptor, ROLE):
        yield "ok", "an aggregator leads"
    elif fleet.health.slots_dead:
        yield (
            "ok",
            f"no aggregator, so that dead workers keep their slots until new ones need them, which loses nothing "
            f"(`shmetrics serve {fleet.name}` frees them at once)",
        )
    else:
        yield "ok", f"no aggregator, which is only needed to notice deaths at once (`shmetrics serve {fleet.name}`)"


def _registry(target: Segment, _fleet: Snapshot) -> Iterator[tuple[Level, str]]:
    """Whoever claims or reaps holds the registry for a millisecond. Whoever holds it for longer stands still."""
    deadline = time.monotonic() + _REGISTRY_SECONDS
    while is_locked(target.descriptor, REGISTRY):
        if time.monotonic() > deadline:
            yield (
                "problem",
                f"the registry has been held for {_REGISTRY_SECONDS:g} s: a process stands still in it (SIGSTOP, a "
                f"debugger?), and new workers get no slot, though they go on; continue or end that process",
            )
            return
        time.sleep(_POLL)


def _hung(_target: Segment, fleet: Snapshot) -> Iterator[tuple[Level, str]]:
    """Workers whose lock is held and that do nothing."""
    for worker in fleet.workers:
        if not worker.alive:
            continue
        who = f"worker {worker.pid} in slot {worker.slot}"
        oldest = max((fleet.taken_at - request.started_at for request in worker.in_flight), default=0.0)
        silent = fleet.taken_at - worker.last_seen
        if state_of(worker.pid, worker.start_ticks) in ("T", "t"):
            yield "problem", f"{who} is alive but stopped (SIGSTOP, a debugger?); continue it, or end it"
        elif oldest > HUNG_SECONDS and silent > HUNG_SECONDS:
            yield (
                "problem",
                f"{who} is alive but hung: it serves one request for {oldest:.0f} s and has recorded nothing for "
                f"{silent:.0f} s; look at it (py-spy dump --pid {worker.pid}), or end it",
            )


def _beliefs(_target: Segment, fleet: Snapshot) -> Iterator[tuple[Level, str]]:
    """What could not be believed, or not be copied."""
    health = fleet.health
    for part, why in health.corrupt.items():
        yield "problem", f"{part} cannot be believed and is left out: {why}; restart the server with a fresh hub"
    if health.corrupt_reaped:
        yield "problem", f"{health.corrupt_reaped} dead workers left slots that could not be believed; theirs is lost"
    if health.stale or health.stale_slots:
        yield "warning", "it changes faster than it can be copied; some figures are older"
    if health.unlinked:
        yield "problem", "its name was removed; workers that start now will not find it; restart the server"


def _series(_target: Segment, fleet: Snapshot) -> Iterator[tuple[Level, str]]:
    """Room for custom metrics."""
    health = fleet.health
    used = (
        f"custom metrics take {health.catalog_used:,} of {health.catalog_total:,} blocks, and {health.cells_used:,} of "
        f"{health.cells_total:,} cells"
    )
    if health.refused_series:
        yield "problem", f"{used}, and series were refused; use fewer label values, or a larger max_series"
    elif health.catalog_used > 0.9 * health.catalog_total or health.cells_used > 0.9 * health.cells_total:
        yield "warning", f"{used}; use fewer label values, or create the hub with a larger max_series"


HUB_RULES: Final[tuple[_Rule, ...]] = (_sizes, _pool, _aggregator, _registry, _hung, _beliefs, _series)
