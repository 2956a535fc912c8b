"""Running a function in other processes, under every start method, from a common starting line."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback

START_METHODS = ("fork", "spawn", "forkserver")
PATIENCE = 60.0


def _run(function, args, barrier, results):
    try:
        barrier.wait(PATIENCE)
        results.put((os.getpid(), function(*args), None))
    except BaseException:
        results.put((os.getpid(), None, traceback.format_exc()))
        raise


def run_in_processes(method, count, function, *args):
    """Call `function(*args, index)` in `count` new processes at once; returns their results by index of start.

    `function` must be importable (spawn and forkserver pickle it by name), `args` picklable. A failure in any of them
    is a failure here, with its traceback.
    """
    context = multiprocessing.get_context(method)
    barrier, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=_run, args=(function, (*args, index), barrier, results)) for index in range(count)
    ]
    for process in processes:
        process.start()
    order = {process.pid: index for index, process in enumerate(processes)}
    answers = [None] * count
    try:
        for _ in processes:
            pid, answer, failure = results.get(timeout=PATIENCE)
            assert failure is None, failure
            answers[order[pid]] = answer
    finally:
        for process in processes:
            process.join(PATIENCE)
            if process.is_alive():
                process.kill()
                process.join()
    assert [process.exitcode for process in processes] == [0] * count
    return answers


def run_in_threads(count, function, *args):
    """Call `function(*args, index)` in `count` threads at once; a failure in any of them is a failure here."""
    barrier, failures = threading.Barrier(count), []

    def run(index):
        try:
            barrier.wait(PATIENCE)
            function(*args, index)
        except BaseException:
            failures.append(traceback.format_exc())
            raise

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failures, failures[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


def forked(function):
    """Run `function()` in a child of `os.fork` and return its pid; the child exits with 0, or prints what it raised."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:  # noqa: BLE001  whatever it is, the child must not return into the test
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def in_forked_child(function):
    """Run `function()` in a child of `os.fork`; fails when it raises. The child runs nothing else of the test."""
    assert os.waitstatus_to_exitcode(os.waitpid(forked(function), 0)[1]) == 0


@contextlib.contextmanager
def alarm_handled_by(handler):
    """Handle SIGALRM so, and at the end let no alarm that is still under way find a handler, or none."""
    previous = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, lambda _signal, _frame: None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def wait_until(condition, seconds=PATIENCE):
    """Look again and again until `condition()` holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)
