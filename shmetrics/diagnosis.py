"""The diagnosis: what an operator should know about shared memory and about each hub in it.

Each rule is one small function that yields findings; `RULES` and `HUB_RULES` list them, and `findings` has those that
go by a snapshot alone. Nothing is changed, and nobody waits: a hub is looked at as any reader does.
"""

import os
import pwd
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from shmetrics import inventory, naming, native, segment
from shmetrics.errors import HubNotFoundError, ShmetricsError
from shmetrics.evidence import STUCK_AFTER, Evidence, Finding
from shmetrics.findings import find
from shmetrics.hub import View
from shmetrics.layout import Layout
from shmetrics.locks import REGISTRY, ROLE, is_locked
from shmetrics.resources import Resources
from shmetrics.segment import Segment
from shmetrics.snapshot import Snapshot

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


def diagnose(name: str | None = None, *, stuck_after: float = STUCK_AFTER) -> Iterator[Finding]:
    """Everything there is to say: about the machine, and about one hub, or all of this user's.

    HubNotFoundError where there is no hub of that name; a hub that is refused is a finding.
    """
    for rule in RULES:
        yield from rule()
    for one in naming.hub_names() if name is None else [name]:
        try:
            yield from diagnose_hub(one, stuck_after=stuck_after)
        except HubNotFoundError:
            if name is not None:
                raise


def diagnose_hub(name: str, *, stuck_after: float = STUCK_AFTER) -> Iterator[Finding]:
    """Everything there is to say about one hub; a request is stuck after so many seconds."""
    subject = f"hub {name}"
    try:
        target = segment.attach(name)
    except HubNotFoundError:
        raise
    except ShmetricsError as error:
        yield Finding("refused", "problem", str(error), subject)
        return
    view = View(target)
    try:
        fleet = view.snapshot()
        counted = [worker for worker in fleet.workers if worker.counted]
        usages = {worker.slot: usage for worker, usage in zip(counted, Resources().usages(counted), strict=True)}
        found = [finding for rule in HUB_RULES for finding in rule(target, fleet)]
        for finding in (*found, *find(Evidence(fleet, usages, stuck_after, view.has_aggregator))):
            yield replace(finding, subject=subject)
    finally:
        view.close()


# The machine ----------------------------------------------------------------------------------------------------------


def _space() -> Iterator[Finding]:
    """Free bytes and files, held against what a hub of the default dimensions takes."""
    if not naming.is_usable():
        text = f"user {os.geteuid()} may not make files in it, or there is none: {naming.USABLE_SHM}"
        yield Finding("unusable", "problem", text, naming.SHM_DIR)
        return
    status = os.statvfs(naming.SHM_DIR)
    free, total, wanted = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, Layout().size
    text = (
        f"{free / 2**20:,.1f} MiB of {total / 2**20:,.1f} MiB free, {status.f_favail:,} more files; a hub of the "
        f"default size takes {wanted / 2**20:.1f} MiB"
    )
    if free < wanted or not status.f_favail:
        text += f": remove what nobody needs (`shmetrics gc`, `shmetrics ls`), or {naming.MORE_SHM}"
        yield Finding("space", "problem", text, naming.SHM_DIR, value=free, threshold=wanted)
    else:
        yield Finding("space", "ok", text, naming.SHM_DIR, value=free, threshold=wanted)


def _left_behind() -> Iterator[Finding]:
    """Hubs and semaphores that serve nobody."""
    found = list(inventory.leftovers())
    if found:
        shown = ", ".join(leftover.name for leftover in found[:3]) + (", ..." if len(found) > 3 else "")
        text = f"{len(found)} that serve nobody ({shown}): `shmetrics gc` removes them"
        yield Finding("leftovers", "warning", text, "leftovers", value=len(found), threshold=1)
    else:
        yield Finding("leftovers", "ok", "none: every hub and every semaphore serves somebody", "leftovers")


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
    text = (
        f"systemd removes the shared memory of user {user} when the last session ends, under running servers too; set "
        f"RemoveIPC=no in logind.conf, or `loginctl enable-linger {user}`, or run as a system user"
    )
    yield Finding("remove_ipc", "warning", text, "RemoveIPC")


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


def _writes() -> Iterator[Finding]:
    """Whether writes are compiled; they are slower where they are not, and nothing else."""
    if native.is_used():
        text = "in C"
    elif native.IS_BUILT:
        text = f"in Python, as {native.VARIABLE} says"
    else:
        text = "in Python, which takes a few times as long: there was no C compiler when shmetrics was installed"
    yield Finding("writes", "ok", text, "writes")


RULES: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (_space, _left_behind, _remove_ipc, _writes)


# A hub, beside what `findings` has to say of its fleet ----------------------------------------------------------------

_Rule = Callable[[Segment, Snapshot], Iterator[Finding]]


def _sizes(target: Segment, _fleet: Snapshot) -> Iterator[Finding]:
    dims = target.layout
    text = (
        f"{dims.size / 2**20:.1f} MiB: {dims}; {dims.slot.itemsize / 2**10:,.0f} KiB a slot, "
        f"{dims.capacity:,} records in each ring"
    )
    yield Finding("sizes", "ok", text)


def _pool(_target: Segment, fleet: Snapshot) -> Iterator[Finding]:
    """Slots against workers."""
    health = fleet.health
    text = (
        f"{health.slots_live} of {health.slots_total} slots have a live worker, {health.slots_dead} a worker that ended"
    )
    fill = health.slots_live / health.slots_total
    if fill >= _NEARLY_FULL:
        text += "; the next worker may find none and drop its records: plan a larger max_workers"
        yield Finding("pool", "warning", text, value=fill, threshold=_NEARLY_FULL)
    else:
        yield Finding("pool", "ok", text, value=fill, threshold=_NEARLY_FULL)


def _aggregator(target: Segment, fleet: Snapshot) -> Iterator[Finding]:
    if is_locked(target.descriptor, ROLE):
        text = "an aggregator leads"
    elif fleet.health.slots_dead:
        text = (
            f"no aggregator, so that workers that ended keep their slots until new ones need them, which loses nothing "
            f"(`shmetrics serve {fleet.name}` frees them at once)"
        )
    else:
        text = f"no aggregator, which is only needed to notice deaths at once (`shmetrics serve {fleet.name}`)"
    yield Finding("aggregator", "ok", text)


def _registry(target: Segment, _fleet: Snapshot) -> Iterator[Finding]:
    """Whoever claims or reaps holds the registry for a millisecond. Whoever holds it for longer stands still."""
    deadline = time.monotonic() + _REGISTRY_SECONDS
    while is_locked(target.descriptor, REGISTRY):
        if time.monotonic() > deadline:
            text = (
                f"the registry has been held for {_REGISTRY_SECONDS:g} s: a process stands still in it (SIGSTOP, a "
                f"debugger?), and new workers get no slot, though they go on; continue or end that process"
            )
            yield Finding("registry", "problem", text, value=_REGISTRY_SECONDS, threshold=_REGISTRY_SECONDS)
            return
        time.sleep(_POLL)


HUB_RULES: Final[tuple[_Rule, ...]] = (_sizes, _pool, _aggregator, _registry)
