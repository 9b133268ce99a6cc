"""Worker processes that begin at once: a server that has imported what they need forks them.

A worker that starts as in the product imports torch for seconds. That start itself is tested in Testing/jobs.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from CBCTSuperResLib.core import processes

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()
IMPORTED = ["torch", "cv2", "SimpleITK", "ready_workers", "quick_trainings", "CBCTSuperResLib.jobs.worker"]
IMPORTED += ["CBCTSuperResLib.apply.engine", "CBCTSuperResLib.jobs.preview_server", "CBCTSuperResLib.train.run"]
IMPORTED += ["torch._dynamo", "matplotlib.backends.backend_agg"]  # by every training, for seconds


class ReadyWorker:
    """What `jobs.job` needs of a `subprocess.Popen`, for a worker that the server forks.

    Parameters
    ----------
    prepare : callable, optional
        Called in the worker before it begins.
    """

    def __init__(self, file: str, log: Path, prepare: Callable[[], None] | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        self._process = context.Process(target=_work, args=(file, str(log), dict(os.environ), prepare), daemon=True)
        self._process.start()
        self.pid = self._process.pid
        while self.returncode is None and os.getpgid(self.pid) != self.pid:  # whoever kills its group must find it
            time.sleep(0.001)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode


def start_in_own_group(command: Sequence[str], log: Path):
    """What `core.processes.start_in_own_group` does; commands that start no worker are left to it."""
    if list(command[:-1]) != processes.worker_command():
        return processes.start_in_own_group(command, log)
    return ReadyWorker(command[-1], log)


def _work(file: str, log: str, environment: dict[str, str], prepare: Callable[[], None] | None) -> None:
    from CBCTSuperResLib.jobs import worker

    os.setsid()
    os.chdir(processes.LIBRARY_FOLDER)
    os.environ.update(environment)
    multiprocessing.current_process()._config["daemon"] = False  # it may load its data in processes
    with open(log, "wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    if prepare:
        prepare()
    code = worker.main([file])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
