"""Names of hubs, and of their files."""

import os
import re

import pytest

from shmetrics import guards, naming


@pytest.mark.parametrize("name", ["a", "0", "-", "_", "resnet", "resnet-50_v2", "a" * 48])
def test_good_names_are_given_back(name):
    assert naming.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 49, "A", "a.b", "a/b", "../a", "/a", "a b", "a\n", "\na", "a\0", "é", "٣", "%s", None, 5, b"a", ["a"]],
    ids=repr,
)
def test_other_names_are_refused_with_the_rule_and_the_name(name):
    with pytest.raises(ValueError, match=re.escape(f"1 to 48 characters of a-z, 0-9, '_' and '-', not {name!r}")):
        naming.check_name(name)


def test_private_names_are_good_and_never_the_same():
    names = {naming.private_name() for _ in range(200)}
    assert len(names) == 200
    assert all(naming.check_name(name) for name in names)


def test_a_private_name_says_whose_it_is():
    assert naming.private_name().startswith(f"private-{os.getpid()}-")


def test_a_hub_is_one_file_named_after_the_user_and_the_hub():
    assert naming.segment_path("resnet") == f"/dev/shm/shmetrics.{os.geteuid()}.resnet"


def test_semaphores_of_a_hub_share_a_prefix_that_only_this_instance_has():
    assert naming.semaphore_prefix("resnet", 0xBEEF) == f"shmetrics.{os.geteuid()}.resnet.000000000000beef."
    assert naming.semaphore_prefix("resnet", 1) != naming.semaphore_prefix("resnet", 2)


def test_the_longest_names_fit_what_a_file_and_a_semaphore_may_be_called():
    """251 bytes for a semaphore after its slash (sem_overview(7)), and 255 for a file."""
    prefix = naming.semaphore_prefix("a" * 48, 2**64 - 1)
    assert len(guards.guard_name(prefix, 1023, 2**62).lstrip("/")) <= 251
    assert len(naming.segment_file("a" * 48)) <= 255


def test_semaphores_of_a_hub_are_not_mistaken_for_those_of_a_hub_with_a_longer_name():
    assert not naming.semaphore_prefix("a-b", 1).startswith(naming.semaphore_prefix("a", 1))


def test_hubs_are_listed_by_name_and_nothing_else_is(tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "SHM_DIR", str(tmp_path))
    mine = f"shmetrics.{os.geteuid()}."
    others = [f"{mine}UPPER", f"{mine}a.b", f"{mine}{'a' * 49}", mine, f"shmetrics.{os.geteuid() + 1}.other",
              f"sem.{mine}a.0000000000000001.bell", "shmetrics", "psm_1234", f"{mine}line\nbreak"]  # fmt: skip
    for file in [f"{mine}resnet", f"{mine}bert-2", *others]:
        (tmp_path / file).touch()
    assert list(naming.hub_names()) == ["bert-2", "resnet"]


def test_a_message_names_hubs_and_counts_private_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(naming, "SHM_DIR", str(tmp_path))
    assert naming.known_hubs() == "none"
    for name in ("resnet", "private-1-00000000", "private-1-00000001", "gunicorn-1"):
        (tmp_path / f"shmetrics.{os.geteuid()}.{name}").touch()
    assert naming.known_hubs() == "gunicorn-1, resnet, 2 private ones"


def test_a_hub_is_listed_as_soon_as_it_is_made(make_segment, hub_name):
    assert hub_name not in set(naming.hub_names())
    with_hub = make_segment()
    assert hub_name in set(naming.hub_names())
    with_hub.close()


@pytest.mark.parametrize(
    ("command", "known_as"),
    [
        ("gunicorn", "gunicorn"),
        ("/usr/bin/python3.11", "python3-11"),
        ("./Serve Me.sh", "serve-me-sh"),
        ("x" * 100, "x" * 24),
        ("é", "command"),
    ],
)
def test_the_hub_of_a_command_that_is_run_is_named_after_both_and_goes_with_the_runner(command, known_as):
    name = naming.check_name(naming.run_name(command))
    assert name.startswith(f"run-{known_as}-{os.getpid()}-")
    assert naming.owner_of(name) == os.getpid()
    assert naming.run_name(command) != name


@pytest.mark.parametrize("name", ["run-resnet-50", "run-2024", "gunicorn-x", "run-a-1-0123456g"])
def test_a_name_that_a_person_would_give_is_no_automatic_one(name):
    assert naming.owner_of(name) is None


def test_of_other_users_those_are_told_that_a_hub_can_have_and_no_file_of_another_kind(monkeypatch):
    files = [
        "shmetrics.7.a",
        "shmetrics.12.a",
        "shmetrics.\x1b[31m.a",
        "shmetrics.7.x.a",
        "shmetrics.\u0663.a",
        "sem.shmetrics.3.a",
    ]
    monkeypatch.setattr(naming, "files", lambda: files)
    assert naming.of_others("a") == "; user 7 and user 12 has one of that name: ask as that user"
    assert naming.of_others("b") == ""
