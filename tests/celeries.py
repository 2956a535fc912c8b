"""Real Celery workers and clients. Their broker is a folder, kombu's filesystem transport, so no service is needed."""

import signal
import subprocess
import sys
from contextlib import contextmanager

from tests.cli import environment, until

PATIENCE = 60.0


class Celery:
    """A folder in which workers and clients of one application run."""

    def __init__(self, directory, hub, module):
        self.directory, self._module = directory, module
        for folder in ("data_out", "control", "results"):
            (directory / folder).mkdir()
        (directory / "data_in").symlink_to("data_out")  # what clients write is what workers read
        self._environment = environment(
            SHMETRICS_HUB=hub,
            CELERY_BROKER_URL="filesystem://",
            CELERY_RESULT_BACKEND=f"file://{directory}/results",
        )

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
        done = subprocess.run(
            [sys.executable, "-c", f"from {self._module} import *\n{code}"],
            cwd=self.directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr + (self.directory / "worker.log").read_text()
        return done.stdout.strip()
