"""The same work with each peer."""

import pytest

from shmetrics.benchmarks import peers
from shmetrics.benchmarks.peers import OURS, REQUEST, WORKS, missing, mpmetrics, needs, opened, ours
from shmetrics.layout import FOLD_BATCH


def test_ours_is_the_first():
    assert next(iter(peers.peers())) == OURS


@pytest.mark.parametrize("name", peers.peers())
def test_a_peer_does_work_that_has_a_name_and_leaves_nothing(name):
    peer = peers.peers()[name]
    if peer.lacking():
        pytest.skip(peer.lacking())
    with opened(peer) as state:
        calls = peer.calls(state)
        assert set(calls) <= set(WORKS)
        for call in calls.values():
            call.many(3)
            assert len(call.each(2)) == 2


def test_what_a_peer_of_ours_counts_is_what_was_called():
    peer = peers.peers()[OURS]
    with opened(peer) as metrics:
        peer.calls(metrics)[REQUEST].many(5)
        assert metrics.get_statistics()["total_requests"] == 5


def test_a_hub_that_never_folds_says_that_it_did_for_each_batch_of_records(monkeypatch):
    heads = []

    class Counting(ours._NeverFolding):
        def fold(self, head, fold):
            heads.append(head)
            return super().fold(head, fold)

    monkeypatch.setattr(ours, "_NeverFolding", Counting)
    with ours.never_folding() as calls:
        calls[REQUEST].many(2 * FOLD_BATCH + 1)
    assert heads == [FOLD_BATCH, 2 * FOLD_BATCH]


def test_a_peer_that_is_not_installed_is_named_with_the_command_that_does_it(monkeypatch):
    absent = peers.Peer("other", None, None, needs("no_such_module", "pip install other"))
    assert absent.lacking() == "pip install other"
    assert needs("shmetrics")() == ""
    assert needs("no_such_package.module", "pip install other")() == "pip install other"
    monkeypatch.setattr(peers, "peers", lambda: {"other": absent})
    assert missing() == {"other": "pip install other"}


def test_an_environment_that_is_there_is_not_made_again_and_one_whose_python_is_gone_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = mpmetrics.environment() / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (mpmetrics.environment() / "installed").touch()
    mpmetrics.install()
    assert python.read_bytes() == b""
    python.unlink()
    assert peers.peers()["mpmetrics"].lacking() == "shmetrics bench --install"
