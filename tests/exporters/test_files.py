import os
import resource
import stat
import threading

import pytest

from shmetrics.errors import OutputError
from shmetrics.exporters import files
from shmetrics.exporters.files import check_writable, write_atomically
from tests.processes import in_forked_child, wait_until


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file"


@pytest.fixture
def umask():
    previous = os.umask(0o027)
    yield 0o027
    os.umask(previous)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_content_is_there_and_nothing_else(target):
    write_atomically(str(target), b"content\r\n")
    assert target.read_bytes() == b"content\r\n"
    assert list(target.parent.iterdir()) == [target]


def test_a_new_file_has_the_mode_that_the_umask_leaves(target, umask):
    write_atomically(str(target), b"")
    assert mode_of(target) == 0o666 & ~umask


def test_a_file_that_was_there_keeps_its_mode(target, umask):
    target.write_bytes(b"before")
    target.chmod(0o604)
    write_atomically(str(target), b"after")
    assert (target.read_bytes(), mode_of(target)) == (b"after", 0o604)


def test_who_has_the_old_file_open_reads_the_old_file(target):
    target.write_bytes(b"before")
    with target.open("rb") as reader:
        write_atomically(str(target), b"after")
        assert reader.read() == b"before"


def test_a_reader_sees_one_whole_content_or_another(target):
    contents = [bytes([letter]) * 200_000 for letter in b"ab"]
    write_atomically(str(target), contents[0])
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for content in contents:
                write_atomically(str(target), content)

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    try:
        for _ in range(200):
            content = target.read_bytes()
            assert content in contents
            seen.add(content)
        wait_until(lambda: seen.add(target.read_bytes()) or len(seen) == 2)
    finally:
        stop.set()
        writer.join()


def test_a_relative_name_is_one_of_the_current_directory(target, monkeypatch):
    monkeypatch.chdir(target.parent)
    write_atomically(target.name, b"content")
    assert target.read_bytes() == b"content"


def test_a_symbolic_link_stays_one(target):
    link = target.parent / "link"
    link.symlink_to(target)
    for content in (b"made", b"replaced"):
        write_atomically(str(link), content)
        assert link.is_symlink()
        assert target.read_bytes() == content


def test_a_pipe_is_written_to_and_stays_a_pipe(target):
    os.mkfifo(target)
    got = []
    reader = threading.Thread(target=lambda: got.append(target.read_bytes()))
    reader.start()
    write_atomically(str(target), b"content")
    reader.join()
    assert got == [b"content"]
    assert stat.S_ISFIFO(target.stat().st_mode)


def test_a_device_is_written_to_and_stays_a_device():
    write_atomically("/dev/null", b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically("/dev/full", b"content")


def test_a_directory_that_is_not_there_is_said(target):
    with pytest.raises(OutputError, match="No such file or directory; name a file in a directory that is there"):
        write_atomically(str(target / "deeper"), b"content")


@pytest.mark.parametrize("name", ["", "/", "."])
def test_a_directory_is_no_file(target, name):
    path = name or str(target.parent)
    with pytest.raises(OutputError, match="Is a directory"):
        write_atomically(path, b"content")
    assert list(target.parent.iterdir()) == []


def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(target):
    target.write_bytes(b"before")

    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # for ever: hence the child
        with pytest.raises(OutputError, match="File too large"):
            write_atomically(str(target), b"after" * 1000)

    in_forked_child(write)
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


def test_an_interruption_leaves_the_old_file_and_nothing_else(target, monkeypatch):
    target.write_bytes(b"before")

    def interrupted(_from, _to):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(str(target), b"after")
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


def test_a_name_that_no_file_can_have_is_an_error_that_says_so(tmp_path):
    for name in ("with a \0", "with a \ud800"):
        with pytest.raises(OutputError, match="cannot write"):
            write_atomically(str(tmp_path / name), b"content")
    assert not list(tmp_path.iterdir())


# Asked before ---------------------------------------------------------------------------------------------------------


def refused(function, *args):
    """What it says, or nothing where it does what it is asked for."""
    try:
        function(*args)
    except OutputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("made", ["nothing", "file", "link", "directory", "device"])
@pytest.mark.parametrize("name", ["file", "missing/file", "nul\0"])
def test_it_is_said_before_whether_something_could_be_written(tmp_path, made, name):
    (tmp_path / "elsewhere").write_text("")
    make = {
        "file": lambda path: path.write_text(""),
        "link": lambda path: path.symlink_to(tmp_path / "elsewhere"),
        "directory": lambda path: path.mkdir(),
        "device": lambda path: path.symlink_to("/dev/null"),
    }.get(made)
    if make is not None:
        make(tmp_path / "file")
    path = f"{tmp_path}/{name}"
    before = sorted(os.listdir(tmp_path))
    said = refused(check_writable, path)
    assert sorted(os.listdir(tmp_path)) == before
    assert bool(said) == bool(refused(write_atomically, path, b""))
    assert refused(write_atomically, path, b"").startswith(said.partition(";")[0])


def test_a_directory_that_one_may_not_write_to_is_said_before(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    tmp_path.chmod(0o755)

    def as_nobody():
        os.setuid(65534)
        assert "Permission denied" in refused(check_writable, f"{tmp_path}/file")

    in_forked_child(as_nobody)
