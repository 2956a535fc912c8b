"""Real Celery workers and clients, whose broker and store of results is a real Redis of their own.

kombu's filesystem transport would need no service, but it opens a message, then writes it, and a worker that reads one
in between ends with "Unrecoverable error: JSONDecodeError": of twenty runs of all these tests, four at once on two
processors, four did.
"""

import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager

from tests.cli import environment, until
from tests.exporters.services import program

PATIENCE = 60.0


@contextmanager
def redis():
    """The address of a Redis that keeps nothing. Its socket lies in a folder of its own: a path has to be short."""
    path = program("redis-server")
    with tempfile.TemporaryDirectory() as folder:
        command = [path, "--port", "0", "--unixsocket", f"{folder}/socket", "--save", "", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                said = []
                for line in process.stdout:
                    said.append(line)
                    if "ready to accept connections" in line:
                        break
                else:
                    raise AssertionError("".join(said))
                yield f"redis+socket://{folder}/socket"
            finally:
                process.terminate()
                process.communicate()  # what it says when it leaves, so that it can


class Celery:
    """A folder in which workers and clients of one application run."""

    def __init__(self, directory, hub, module, redis):
        self.directory, self.hub, self._module = directory, hub, module
        self._environment = environment(SHMETRICS_HUB=hub, CELERY_BROKER_URL=redis, CELERY_RESULT_BACKEND=redis)

    @contextmanager
    def worker(self, *options):
        """A worker that runs, ready for tasks; ended orderly, so that its processes leave as they should."""
        command = [sys.executable, "-m", "celery", "--app", self._module, "worker", "--without-gossip"]
        log = self.directory / "worker.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, "--without-mingle", "--without-heartbeat", "--loglevel", "INFO", *options],
                cwd=self.directory,
                env=self._environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            until(lambda: process.poll() is not None or " ready." in log.read_text(), PATIENCE)
            assert process.poll() is None, log.read_text()
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()  # its children follow it: they asked for SIGKILL when it dies
                process.wait()

    def client(self, code):
        """What a program that imports the application's module prints."""
        try:
            done = subprocess.run(
                [sys.executable, "-c", f"from {self._module} import *\n{code}"],
                cwd=self.directory,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired as waited:
            raise AssertionError(f"{waited}\n{(self.directory / 'worker.log').read_text()}") from waited
        assert done.returncode == 0, done.stderr + (self.directory / "worker.log").read_text()
        return done.stdout.strip()
