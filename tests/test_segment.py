"""The segment: created whole or not at all, attached only when everything about it is right, removed alone."""

import os
import re
import shutil
import socket
import stat

import pytest

from shmetrics import guards, layout, naming, segment
from shmetrics.errors import (
    HubFileTypeError,
    HubLayoutError,
    HubNotFoundError,
    HubOwnerError,
    HubPermissionError,
    HubRefusedError,
    HubSpaceError,
    HubStaleError,
    PlatformError,
)
from shmetrics.layout import HEADER, Layout
from tests.processes import in_forked_child, run_in_processes
from tests.test_locks import open_descriptors

SMALL = Layout(max_workers=4, max_series=16)


@pytest.fixture
def path(hub_name):
    """Where this test's hub stands; whatever the test put there is removed."""
    path = naming.segment_path(hub_name)
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


@pytest.fixture
def hub(make_segment, path):
    """A hub at `path`."""
    return make_segment()


def files_of(name, instance):
    """The semaphores of one hub, sorted."""
    prefix = "sem." + naming.semaphore_prefix(name, instance)
    return sorted(file for file in os.listdir(naming.SHM_DIR) if file.startswith(prefix))


# Creating -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_the_mode_is_0600_whatever_the_umask(make_segment, path, umask):
    before = os.umask(umask)
    try:
        make_segment()
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_the_file_has_the_exact_size_and_every_block_is_reserved(hub, path):
    size = hub.layout.size
    status = os.stat(path)
    assert status.st_size == size
    assert status.st_blocks * 512 >= size


def test_a_taken_name_is_refused_and_its_hub_untouched(hub):
    before = open_descriptors()
    with pytest.raises(FileExistsError):
        segment.create(hub.name, SMALL)
    assert open_descriptors() == before
    assert segment.attach(hub.name).instance == hub.instance


def test_a_symbolic_link_on_the_name_is_not_followed(hub_name, path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(FileExistsError):
        segment.create(hub_name, SMALL)
    assert not os.path.lexists(tmp_path / "elsewhere")


def start(name, _process):
    target = segment.create_or_attach(name, SMALL)
    return target.instance, int(target.header["creator_pid"]) == os.getpid()


@pytest.mark.parametrize("_round", range(3))
def test_racing_starters_end_on_one_instance_that_one_of_them_made(hub_name, _round):
    answers = run_in_processes("fork", 8, start, hub_name)
    assert len({instance for instance, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1


def test_a_hub_that_the_machine_cannot_hold_is_refused_with_the_remedy_and_leaves_nothing(hub_name, path):
    huge = Layout(max_workers=1024, window_size=1_000_000, max_series=65_536)
    room = os.statvfs(naming.SHM_DIR)
    total = room.f_blocks * room.f_frsize
    if not 0 < total < huge.size:
        pytest.skip(f"{naming.SHM_DIR} could hold the largest hub there is")
    before = open_descriptors()
    with pytest.raises(HubSpaceError) as caught:
        segment.create(hub_name, huge)
    message = str(caught.value)
    assert f"needs {huge.size:,} bytes" in message
    assert re.search(rf"has [\d,]+ of {total:,} free", message)
    assert "docker run --shm-size" in message
    assert not os.path.lexists(path)
    assert open_descriptors() == before


@pytest.mark.parametrize("directory", ["/nowhere", "/proc"])
def test_a_directory_that_can_hold_no_hub_is_refused_with_the_remedy(hub_name, directory, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(naming, "SHM_DIR", directory)
        assert list(naming.hub_names()) == []
        for make in (segment.create, segment.create_or_attach):
            with pytest.raises(PlatformError, match=f"^{directory} cannot hold a hub .*mount a tmpfs"):
                make(hub_name, SMALL)


BAD_NAMES = ["", "A", "a/b", "../a", "a.b", "x" * 49, "a\n", " a", "é", "a\0", None, 5, b"a"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_hub_can_have_is_refused(name):
    for attempt in (
        lambda: segment.create(name, SMALL),
        lambda: segment.attach(name),
        lambda: segment.create_or_attach(name, SMALL),
    ):
        with pytest.raises(ValueError, match="hub name must be"):
            attempt()


# Attaching ------------------------------------------------------------------------------------------------------------


def test_an_attached_hub_is_the_one_created(hub):
    hub.header["peak_throughput"] = 12.5
    attached = segment.attach(hub.name)
    assert attached.instance == hub.instance
    assert attached.layout == hub.layout
    assert attached.header["peak_throughput"] == 12.5


def test_a_hub_is_attached_read_only_unless_asked_otherwise(hub):
    with pytest.raises(TypeError, match="read-only"):
        segment.attach(hub.name).header["peak_throughput"] = 1.0
    segment.attach(hub.name, writable=True).header["peak_throughput"] = 2.0
    assert hub.header["peak_throughput"] == 2.0


def test_a_hub_that_is_not_there_is_reported_with_those_that_are(hub):
    with pytest.raises(HubNotFoundError, match=rf"no hub named '{hub.name}-x'.*\b{hub.name}\b"):
        segment.attach(f"{hub.name}-x")


def test_of_a_hub_that_another_user_has_it_is_said_whose_it_is(hub_name):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")

    def as_nobody():
        os.setuid(65534)
        segment.create(hub_name, Layout()).close()

    in_forked_child(as_nobody)
    try:
        with pytest.raises(HubNotFoundError, match="; user 65534 has one of that name: ask as that user"):
            segment.attach(hub_name)
    finally:
        for file in naming.files():
            if file.endswith(f"shmetrics.65534.{hub_name}") or f"shmetrics.65534.{hub_name}." in file:
                os.unlink(f"{naming.SHM_DIR}/{file}")


def make_link(path):
    os.symlink("/dev/null", path)


def make_dangling_link(path):
    os.symlink("/nonexistent", path)


def make_fifo(path):
    os.mkfifo(path, 0o600)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path)


@pytest.mark.parametrize("make", [make_link, make_dangling_link, os.mkdir, make_fifo, make_socket])
@pytest.mark.parametrize("writable", [False, True])
def test_what_is_not_a_regular_file_is_refused_without_waiting_for_it(hub_name, path, make, writable):
    make(path)
    before = open_descriptors()
    with pytest.raises(HubFileTypeError, match=re.escape(path)):
        segment.attach(hub_name, writable=writable)
    assert open_descriptors() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_hub_of_another_user_is_refused(hub, path):
    shutil.chown(path, user=12345)
    with pytest.raises(HubOwnerError, match="belongs to user 12345"):
        segment.attach(hub.name)


@pytest.mark.parametrize("mode", [0o400, 0o200, 0o000])
def test_a_hub_that_its_own_user_may_not_open_is_refused_with_the_remedy(hub, path, mode):
    user = os.geteuid() or 12345  # root may open anything
    theirs = path.replace(f".{os.geteuid()}.", f".{user}.")
    os.rename(path, theirs)
    os.chown(theirs, user, -1)
    os.chmod(theirs, mode)

    def attach():
        os.seteuid(user)
        with pytest.raises(HubPermissionError, match=f"has mode {mode:04o}.*its own user.*chmod 600"):
            segment.attach(hub.name, writable=True)

    try:
        in_forked_child(attach)
    finally:
        os.chown(theirs, os.geteuid(), -1)
        os.chmod(theirs, 0o600)
        os.rename(theirs, path)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o610, 0o666])
def test_a_hub_that_others_may_open_is_refused(hub, path, mode):
    os.chmod(path, mode)
    with pytest.raises(HubPermissionError, match=f"has mode {mode:04o}.*chmod 600"):
        segment.attach(hub.name)


@pytest.mark.parametrize("size", [0, 1, HEADER.itemsize - 1, HEADER.itemsize, SMALL.size - 1, SMALL.size + 1])
def test_a_file_of_the_wrong_length_is_refused(hub, path, size):
    hub.close()
    os.truncate(path, size)
    with pytest.raises(HubLayoutError, match=f"{size:,} bytes"):
        segment.attach(hub.name)


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("magic", layout.MAGIC + 1, HubLayoutError, "does not start as a hub"),
        ("version", layout.VERSION + 1, HubLayoutError, f"version {layout.VERSION + 1}.*has {layout.VERSION};"),
        ("layout_hash", 0xABC, HubLayoutError, f"hash 0000000000000abc, here {SMALL.hash:016x}"),
        ("size", SMALL.size + 1, HubLayoutError, "bytes instead of"),
        ("max_workers", 0, HubLayoutError, "max_workers must be"),
        ("max_workers", 1025, HubLayoutError, "max_workers must be"),
        ("max_workers", 5, HubLayoutError, "laid out differently"),
        ("window_size", 2**63, HubLayoutError, "window_size must be"),
        ("max_series", 2**64 - 1, HubLayoutError, "max_series must be"),
        ("boot", b"00000000-0000-0000-0000-000000000000", HubStaleError, "before the machine last booted"),
        ("boot", b"\xff" * 40, HubStaleError, "before the machine last booted"),
        ("boot", b"", HubStaleError, "before the machine last booted"),
    ],
)
def test_a_header_that_is_wrong_is_refused_with_the_reason_and_the_remedy(hub, field, value, error, message):
    hub.header[field] = value
    before = open_descriptors()
    with pytest.raises(HubRefusedError, match=message) as caught:
        segment.attach(hub.name)
    assert type(caught.value) is error
    assert f"shmetrics rm --force {hub.name}" in str(caught.value)
    assert open_descriptors() == before


def test_create_or_attach_creates_once_and_attaches_for_writing_then(hub_name):
    first = segment.create_or_attach(hub_name, SMALL)
    second = segment.create_or_attach(hub_name, SMALL)
    assert first.instance == second.instance
    assert second.writable


@pytest.mark.parametrize("other", [Layout(5, 100, 16), Layout(4, 101, 16), Layout(4, 100, 17)])
def test_create_or_attach_with_other_dimensions_is_refused_and_names_both(hub, other):
    found = "window_size=100, max_workers=4, max_series=16"
    wanted = f"window_size={other.window_size}, max_workers={other.max_workers}, max_series={other.max_series}"
    with pytest.raises(HubLayoutError, match=f"exists with {found}, but {wanted} was asked for"):
        segment.create_or_attach(hub.name, other)


def test_create_or_attach_takes_any_dimensions_when_told_to(hub):
    assert segment.create_or_attach(hub.name, Layout(5, 100, 16), any_dimensions=True).layout == hub.layout


def test_create_or_attach_does_not_replace_what_is_refused(hub_name, path):
    os.mkdir(path)
    with pytest.raises(HubFileTypeError):
        segment.create_or_attach(hub_name, SMALL)


# Using and closing ----------------------------------------------------------------------------------------------------


def test_the_two_retired_copies_alternate(hub):
    hub.retired(0)["requests"] = 1
    hub.retired(1)["requests"] = 2
    assert hub.retired_index == 0
    hub.flip_retired(7)
    assert hub.retired_index == 7
    assert hub.retired(hub.retired_index)["requests"] == 2


def test_close_gives_the_descriptor_back_once_and_leaves_the_mapping(hub):
    before = open_descriptors()
    hub.close()
    hub.close()
    assert open_descriptors() == before - 1
    assert int(hub.header["magic"]) == layout.MAGIC


def test_a_segment_whose_descriptor_was_closed_by_others_opens_another(hub, tmp_path):
    """A daemon closes all descriptors; the next file opened must not be locked in the hub's stead."""
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    os.dup2(log, hub.descriptor)
    assert os.path.samestat(os.fstat(hub.descriptor), os.stat(naming.segment_path(hub.name)))
    assert not hub.is_unlinked
    os.close(log)


def test_a_segment_whose_descriptor_and_name_are_gone_says_so_and_closes_nothing_of_others(hub, path, tmp_path):
    number = hub.descriptor
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    os.dup2(log, number)
    os.unlink(path)
    with pytest.raises(OSError):  # noqa: PT011  whichever: the name is gone, or is another file's
        _ = hub.descriptor
    assert hub.is_unlinked
    hub.close()
    assert os.path.samestat(os.fstat(number), os.fstat(log))
    os.close(log)
    os.close(number)


def test_a_segment_that_is_forgotten_closes_itself(hub):
    before = open_descriptors()
    segment.attach(hub.name)
    assert open_descriptors() == before


# Removing -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def make_guard():
    """A function that makes a guard of a hub and returns its file's name; removed at the end."""
    made = []

    def make(name, instance):
        semaphore = guards.guard_name(naming.semaphore_prefix(name, instance), 0, 1)
        guards.create(semaphore, guards.template()).close()
        made.append(semaphore)
        return f"sem.{semaphore}"

    yield make
    for semaphore in made:
        guards.unlink(semaphore)


def test_unlink_removes_the_hub_and_its_semaphores(hub, make_guard, path):
    make_guard(hub.name, hub.instance)
    segment.unlink(hub.name, hub.instance)
    assert not os.path.exists(path)
    assert files_of(hub.name, hub.instance) == []


def test_a_mapped_hub_goes_on_working_after_unlink(hub):
    assert not hub.is_unlinked
    segment.unlink(hub.name, hub.instance)
    assert hub.is_unlinked
    hub.header["peak_throughput"] = 3.0
    assert hub.header["peak_throughput"] == 3.0


def test_unlinking_twice_is_harmless(hub):
    segment.unlink(hub.name, hub.instance)
    segment.unlink(hub.name, hub.instance)


def test_unlink_leaves_another_instance_of_the_same_name_alone(hub, make_guard, path):
    own, earlier = make_guard(hub.name, hub.instance), make_guard(hub.name, hub.instance ^ 1)
    segment.unlink(hub.name, hub.instance ^ 1)
    assert os.path.exists(path)
    assert files_of(hub.name, hub.instance) == [own]
    assert not os.path.exists(f"{naming.SHM_DIR}/{earlier}")


def test_unlink_leaves_a_hub_alone_whose_name_starts_the_same(hub, make_guard):
    other = segment.create(f"{hub.name}-b", SMALL)
    try:
        kept = make_guard(other.name, other.instance)
        segment.unlink(hub.name, hub.instance)
        assert segment.attach(other.name).instance == other.instance
        assert files_of(other.name, other.instance) == [kept]
    finally:
        segment.unlink(other.name, other.instance)


@pytest.mark.parametrize("make", [make_link, os.mkdir, make_fifo, make_socket])
def test_unlink_leaves_what_took_the_name_meanwhile_and_still_removes_its_semaphores(hub, make_guard, path, make):
    make_guard(hub.name, hub.instance)
    os.unlink(path)
    make(path)
    segment.unlink(hub.name, hub.instance)
    assert os.path.lexists(path)
    assert files_of(hub.name, hub.instance) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_unlink_leaves_the_files_of_other_users_alone(hub, make_guard, path):
    foreign = f"{naming.SHM_DIR}/{make_guard(hub.name, hub.instance)}"
    for file in (path, foreign):
        shutil.chown(file, user=12345)
    segment.unlink(hub.name, hub.instance)
    assert os.path.exists(path)
    assert os.path.exists(foreign)


def test_a_hub_of_other_dimensions_is_refused_with_the_flags_that_would_make_it(hub_name):
    segment.create(hub_name, SMALL).close()
    wanted = layout.Layout(max_workers=SMALL.max_workers, window_size=1234, max_series=SMALL.max_series + 1)
    flags = f"`shmetrics run` that makes it, give that --window-size 1234 --max-series {SMALL.max_series + 1}$"
    with pytest.raises(HubLayoutError, match=flags):
        segment.create_or_attach(hub_name, wanted)
