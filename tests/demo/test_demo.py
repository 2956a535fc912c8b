import importlib.util
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from shmetrics import PerformanceMetrics, naming
from shmetrics.cli import main
from shmetrics.demo.load import Load, Tally
from shmetrics.demo.model import CLASSES, SIDE, Model, preprocess, quantize
from shmetrics.demo.run import Demo, _is_connected
from shmetrics.errors import HubNotFoundError, ShmetricsError
from shmetrics.hub import Hub, remove
from tests.cli import PATIENCE, command, environment, run_on_terminal, strict_json, struck, until

# The whole of it ------------------------------------------------------------------------------------------------------


@contextmanager
def demo(*options, program=command, **more):
    """The running demo, in a session of its own; whatever of it is left afterwards is ended."""
    settings = {"stdout": subprocess.DEVNULL, "env": environment()} | more
    process = subprocess.Popen(program("demo", *options), start_new_session=True, **settings)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with suppress(HubNotFoundError):
            remove(f"demo-{process.pid}", force=True)


def processes_of(session):
    """What lives of a session; zombies are dead, and whose turn it is to bury them is not ours to say."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def left_by(process):
    """Processes, segments and semaphores that a demo left behind."""
    files = [file for file in os.listdir(naming.SHM_DIR) if f"demo-{process.pid}" in file]
    return processes_of(process.pid) + files


def requests_of(process):
    with suppress(HubNotFoundError), Hub.attach(f"demo-{process.pid}") as hub:
        return hub.snapshot().counters.requests
    return 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A real run of four seconds, and what it left."""
    runtime = tmp_path_factory.mktemp("runtime")
    (runtime / "gunicorn.ctl").write_text("the socket by which somebody controls another gunicorn")
    told = {"stdout": subprocess.PIPE, "env": environment(XDG_RUNTIME_DIR=str(runtime))}
    with demo("--seconds", "4", "--json", **told) as process:
        output, _ = process.communicate(timeout=4 * PATIENCE)
        left = left_by(process)
    return SimpleNamespace(status=process.returncode, said=strict_json(output), left=left, runtime=runtime)


def test_it_succeeds(finished):
    assert finished.status == 0


def test_the_hub_counted_exactly_what_the_client_got(finished):
    said = finished.said
    assert said["equal"] is True
    assert said["responses"] == said["requests"] == said["statistics"]["total_requests"] > 100


def test_the_hub_counted_the_errors_that_the_client_saw(finished):
    assert finished.said["errors"] == finished.said["server_errors_seen"] > 0


def test_the_requests_of_the_killed_worker_are_in_the_totals(finished):
    killed, figures = finished.said["killed"], finished.said["statistics"]
    (row,) = [row for row in figures["workers"] if row["pid"] == killed["pid"]]
    assert (row["slot"], row["requests"]) == (killed["slot"], killed["requests"])
    assert sum(row["requests"] for row in figures["workers"]) == figures["total_requests"]


def test_the_killed_worker_was_replaced(finished):
    assert finished.said["statistics"]["workers_seen"] == 5


def test_every_stage_was_measured(finished):
    figures = finished.said["statistics"]
    assert figures["max_preprocessing_time"] > 0.0
    assert figures["max_quantization_time"] > 0.0
    assert figures["max_batch_size"] == 8.0
    assert figures["cache_hits"] + figures["cache_misses"] == figures["total_requests"] - figures["total_errors"]


def test_nothing_is_left_behind(finished):
    assert finished.said["left_behind"] == finished.left == []


def test_other_gunicorns_of_the_user_are_left_alone(finished):
    """gunicorn 25 and later replace the control socket of another one, unless they are told not to have any."""
    assert [file.name for file in finished.runtime.iterdir()] == ["gunicorn.ctl"]


def test_a_terminal_is_repainted_and_gets_the_verdict():
    text = run_on_terminal("demo", "--seconds", "0.6")
    assert "\x1b[H" in text
    assert "equal: nothing was lost" in text
    assert "left behind: no process, no segment, no semaphore" in text


@pytest.mark.parametrize(
    ("send", "sent"),
    [(os.kill, signal.SIGINT), (os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM), (os.killpg, signal.SIGHUP)],
    ids=["SIGINT", "Ctrl-C, which goes to all of its processes", "SIGTERM", "a closed terminal"],
)
def test_a_signal_in_the_middle_leaves_nothing_behind(send, sent):
    with demo("--seconds", "60", stderr=subprocess.DEVNULL) as process:
        until(lambda: requests_of(process) > 20)
        send(process.pid, sent)
        status = process.wait(PATIENCE)
        assert left_by(process) == []
        assert status == 130 or sent != signal.SIGINT


def test_ctrl_c_that_comes_where_exceptions_are_lost_ends_it():
    program = struck(signal.SIGINT, "gunicorn: ")
    with demo("--seconds", "600", program=program, stderr=subprocess.PIPE) as process:
        _, complaints = process.communicate(timeout=PATIENCE)
        assert left_by(process) == []
        assert process.returncode == 130
    assert b"interrupted; cleaning up" in complaints


def test_a_reader_that_went_away_leaves_nothing_behind():
    reading, writing = os.pipe()
    os.close(reading)
    with demo("--seconds", "1", stdout=writing) as process:
        os.close(writing)
        status = process.wait(PATIENCE)
        assert left_by(process) == []
        assert status == 0


def test_output_that_cannot_be_written_leaves_nothing_behind():
    with open("/dev/full", "w") as full, demo("--seconds", "1", stdout=full, stderr=subprocess.PIPE) as process:
        _, complaints = process.communicate(timeout=PATIENCE)
        assert left_by(process) == []
        assert process.returncode == 1
    assert b"cannot write to standard output" in complaints
    assert b"Traceback" not in complaints


def test_a_pid_in_the_hub_that_is_none_of_its_gunicorn_is_never_signalled(hub_name):
    """The only worker in the hub is this process, which gunicorn did not start."""
    with PerformanceMetrics(name=hub_name, max_workers=2, max_series=8) as metrics, Hub.attach(hub_name) as view:
        metrics.update_inference(0.1)
        with subprocess.Popen(["sleep", "60"]) as server:
            try:
                run = Demo(1.0, show=lambda _figures: None, say=lambda _line: None, aggregator_output=None)
                with pytest.raises(
                    ShmetricsError, match=rf"pids: {os.getpid()}\).* is a process of the demo's gunicorn"
                ):
                    run._kill_one(view, server)
            finally:
                server.kill()


ACCEPTING = """
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    with listener.accept()[0] as connection:
        print("accepted", flush=True)
        connection.recv(1)
    print("closed", flush=True)
    input()
"""


def test_a_worker_with_a_connection_is_told_from_one_that_only_listens():
    """It may have recorded a request that it has not answered yet; killed then, the demo would count one too few."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ACCEPTING], **pipes) as process:
        port = int(process.stdout.readline())
        seen = [_is_connected(process.pid)]
        with socket.create_connection(("127.0.0.1", port)):
            process.stdout.readline()
            seen.append(_is_connected(process.pid))
        process.stdout.readline()
        seen.append(_is_connected(process.pid))
        process.communicate("\n")
    assert seen == [False, True, False]


def test_without_gunicorn_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo"]) == 1
    assert "pip install gunicorn" in capsys.readouterr().err


# Its parts ------------------------------------------------------------------------------------------------------------


def test_images_are_normalised_and_the_same_every_time():
    images = preprocess(5, 8)
    assert images.shape == (8, SIDE * SIDE)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images.mean(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(images.std(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(images, preprocess(5, 8))


def test_quantization_is_wrong_by_half_a_step_at_most():
    values = np.random.default_rng(1).standard_normal(10_000, np.float32)
    small, scale = quantize(values)
    assert small.dtype == np.int8
    assert np.abs(small.astype(int)).max() == 127
    assert np.abs(values - small * scale).max() <= scale * 0.5001


def test_quantization_of_nothing_but_zeros_is_zeros():
    small, scale = quantize(np.zeros(4, np.float32))
    np.testing.assert_array_equal(small * scale, np.zeros(4))


def test_int8_and_float32_mostly_agree():
    model, images = Model(), preprocess(3, 500)
    exact, approximate = model.predict(images), model.predict_int8(*quantize(images))
    assert set(exact) <= set(range(CLASSES))
    assert len(set(exact)) > 1
    assert np.mean(np.equal(exact, approximate)) > 0.9


def test_a_load_that_was_never_started_stops_at_once():
    assert Load(port=1).stop() == Tally()


def test_connections_that_break_are_no_responses():
    """Nobody listens on the port."""
    load = Load(port=1)
    load.start()
    until(lambda: load.tally.interrupted > 0)
    seen = load.stop()
    assert (seen.responses, seen.server_errors) == (0, 0)
