"""The diagnosis: each thing that can be wrong is found, and nothing else is."""

import os
import signal

import numpy as np
import pytest

from shmetrics import PerformanceMetrics, diagnosis, naming, native, segment, slots
from shmetrics.aggregator import Aggregator
from shmetrics.diagnosis import diagnose, diagnose_hub
from shmetrics.errors import HubNotFoundError
from shmetrics.layout import VERSION, Layout
from shmetrics.locks import REGISTRY, ByteLock
from tests.processes import wait_until
from tests.test_forks import Child

SMALL = {"max_workers": 2, "max_series": 8}


def found(name, *levels):
    """The texts of a hub's findings of these levels."""
    return [finding.text for finding in diagnose_hub(name) if finding.level in (levels or ("warning", "problem"))]


def record(name):
    metrics = PerformanceMetrics(name=name, **SMALL)
    metrics.update_inference(0.1)
    return metrics


def test_a_healthy_hub_has_nothing_but_its_sizes_told(hub_name):
    with record(hub_name), Aggregator(segment.attach(hub_name, writable=True)) as aggregator:
        aggregator.try_lead()
        assert found(hub_name) == []
        sizes, pool, leads = found(hub_name, "ok")
    assert "max_workers=2" in sizes
    assert "1 of 2 slots have a live worker, 0 a worker that ended" in pool
    assert leads == "an aggregator leads"


def test_a_hub_that_is_not_there_is_an_error_and_one_that_goes_meanwhile_is_none(hub_name, monkeypatch):
    with pytest.raises(HubNotFoundError):
        list(diagnose(hub_name))
    monkeypatch.setattr(naming, "hub_names", lambda: iter([hub_name]))
    assert [finding for finding in diagnose() if hub_name in finding.subject] == []


def test_a_hub_of_another_layout_is_a_problem_with_the_remedy(make_segment, hub_name):
    target = make_segment()
    target.header["version"] = VERSION + 1
    (text,) = found(hub_name)
    target.header["version"] = VERSION
    assert "layout version" in text
    assert "shmetrics rm --force" in text


def test_a_full_pool_is_a_warning_and_dropped_records_are_a_problem(hub_name):
    with PerformanceMetrics(name=hub_name, max_workers=1, max_series=8) as metrics:
        metrics.update_inference(0.1)
        assert any("1 of 1 slots" in text for text in found(hub_name, "warning"))
        segment.attach(hub_name, writable=True).header["dropped"] = np.uint64(7)
        assert any("7 records were dropped" in text and "max_workers" in text for text in found(hub_name, "problem"))


def test_the_dead_without_an_aggregator_are_told_and_are_nothing_to_worry_about(make_segment, hub_name):
    """An aggregator is optional, and a server that was stopped has nothing but dead workers."""
    target = make_segment()
    with Child(lambda: record_in(target)) as child:
        child.kill()
        wait_until(lambda: any("so that workers that ended keep their slots" in text for text in found(hub_name, "ok")))
        assert found(hub_name) == []


def record_in(target):
    metrics = PerformanceMetrics(name=target.name, max_series=16, max_workers=4)
    metrics.update_inference(0.1)
    return metrics


def test_a_stopped_worker_is_a_problem_and_an_idle_one_is_not(make_segment, hub_name):
    target = make_segment()
    with Child(lambda: record_in(target)) as child:
        assert found(hub_name, "problem") == []
        os.kill(child.pid, signal.SIGSTOP)
        wait_until(lambda: any(f"{child.pid} in slot 0 is alive but stopped" in text for text in found(hub_name)))
        os.kill(child.pid, signal.SIGCONT)
        wait_until(lambda: found(hub_name, "problem") == [])


def test_a_worker_that_serves_one_request_for_long_and_records_nothing_hangs(hub_name):
    with record(hub_name) as metrics:
        metrics.recorder.enter("GET /")
        assert found(hub_name, "problem") == []
        (finding,) = [each for each in diagnose_hub(hub_name, stuck_after=1e-9) if each.level == "problem"]
        assert f"worker {os.getpid()} in slot 0 hangs: it has been serving GET / for " in finding.text
        assert (finding.subject, finding.worker, finding.pid) == (f"hub {hub_name}", 0, os.getpid())


def test_a_worker_that_was_killed_is_a_problem_for_a_while(make_segment, hub_name):
    target = make_segment()

    def serve():
        metrics = record_in(target)
        metrics.recorder.enter("GET /slow")
        return metrics

    with Child(serve) as child:
        child.make_zombie()
        slots.reap(target)
        (text,) = found(hub_name, "problem")
    assert "was killed by SIGKILL" in text
    assert "while serving 1 request: GET /slow" in text


def test_a_registry_that_somebody_holds_is_a_problem(make_segment, hub_name):
    target = make_segment()
    with ByteLock(target.descriptor, REGISTRY) as registry:
        registry.try_acquire()
        assert any("registry" in text for text in found(hub_name, "problem"))
    assert found(hub_name, "problem") == []


def test_a_slot_that_cannot_be_believed_is_a_problem(hub_name):
    with record(hub_name):
        target = segment.attach(hub_name, writable=True)
        slots.words_of(target, 0)[slots.ERRORS] = 2**63
        assert any(text.startswith("slot 0 cannot be believed") for text in found(hub_name, "problem"))
        slots.words_of(target, 0)[slots.ERRORS] = 0
        target.close()


def test_little_space_is_a_problem_with_the_remedy_for_containers(monkeypatch):
    real = os.statvfs(naming.SHM_DIR)
    few = Layout().size // real.f_frsize - 1
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result((*real[:3], few, few, *real[5:])))
    (finding,) = diagnosis._space()
    assert finding.level == "problem"
    assert "docker run --shm-size" in finding.text
    assert "Kubernetes" in finding.text


def test_where_nobody_may_make_files_that_is_the_problem(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(naming, "SHM_DIR", "/nowhere")
        finding, leftovers, *_ = diagnose()
    assert (finding.level, finding.subject) == ("problem", "/nowhere")
    assert "mount a tmpfs" in finding.text
    assert leftovers.level == "ok"


def test_much_space_is_fine():
    (finding,) = diagnosis._space()
    assert finding.level == "ok"


@pytest.mark.parametrize(
    ("files", "removes"),
    [({}, True), ({"logind.conf": "RemoveIPC=no"}, False), ({"logind.conf": "#RemoveIPC=no"}, True),
     ({"logind.conf": "RemoveIPC=no", "logind.conf.d/50.conf": "[Login]\nRemoveIPC = yes\n"}, True)],
    ids=["no file", "no", "a comment", "the last file decides"],
)  # fmt: skip
def test_the_last_setting_of_logind_decides_and_yes_is_the_default(files, removes, tmp_path, monkeypatch):
    (tmp_path / "logind.conf.d").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(diagnosis, "_LOGIND", (f"{tmp_path}/logind.conf", f"{tmp_path}/logind.conf.d/*.conf"))
    assert diagnosis._removes_ipc() is removes


def test_it_is_told_in_what_writes_are_made(written_in, monkeypatch):
    def told():
        return next(finding.text for finding in diagnose() if finding.subject == "writes")

    assert told().startswith(f"in {written_in}")
    monkeypatch.setattr(native, "IS_BUILT", False)
    assert told().startswith("in Python, which takes a few times as long: there was no C compiler")
