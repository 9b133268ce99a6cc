"""A pool of worker processes that stay: they start Python and torch, and load the model, once for many jobs.

Each does one job after another. One that ends, for whatever reason, costs its present job and is replaced.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from ..core.atomic import write_json
from ..core.processes import ParentLock, kill_group, start_in_own_group, worker_command
from .liveness import make_job_folder


def given_file(folder: Path, number: int) -> Path:
    """Where a worker that stays finds the next job: {"job": path of its job.json}."""
    return folder / f"given-{number}.json"


class PoolWorker:
    """A worker process that stays.

    >>> worker = PoolWorker()
    >>> job = Job(task, worker=worker).start()        # starts the process if there is none
    >>> ...                                  # poll the job until it has finished, then the next
    >>> worker.close()

    Parameters
    ----------
    threads : int, optional
        That a job is to compute with; None leaves it to the process.
    device : str, optional
        Which of several devices that share a volume is its own.
    """

    def __init__(self, threads: int | None = None, device: str | None = None) -> None:
        self.threads, self.device = threads, device
        self.process: subprocess.Popen | None = None
        self.files: Path | None = None
        self._parent: ParentLock | None = None
        self._given = 0

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def give(self, job_file: Path) -> None:
        """Let the process do a job; one that has ended is replaced.

        Raises
        ------
        OutputError, OSError
            If its folder cannot be written, or the process does not start.
        """
        if not self.is_alive:
            self.close()
            self._start()
        self._given += 1
        write_json(given_file(self.files, self._given), {"job": str(job_file)}, indent=None)

    def kill(self) -> None:
        """End the process, now; the next job gets another one."""
        if self.is_alive:
            kill_group(self.process.pid)
            self.process.wait()

    def close(self) -> None:
        """End the process and remove its files. Safe at any time, and more than once."""
        self.kill()
        if self._parent:
            self._parent.release()
        if self.files:
            shutil.rmtree(self.files, ignore_errors=True)
        self.process = self.files = self._parent = None
        self._given = 0

    def _start(self) -> None:
        self.files = make_job_folder()
        self._parent = ParentLock(self.files / "parent")
        names = {name: str(self.files / name) for name in ("folder", "events", "heartbeat", "cancel")}
        task = {"kind": "serve", **names, "folder": str(self.files), "parent": self._parent.facts}
        try:
            file = write_json(self.files / "job.json", task)
            self.process = start_in_own_group([*worker_command(), str(file)], self.files / "log.txt")
        except BaseException:
            with suppress(Exception):
                self.close()
            raise
