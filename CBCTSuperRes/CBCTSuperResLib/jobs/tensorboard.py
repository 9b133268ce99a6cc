"""TensorBoard in a process of its own, seen from a timer. Needs neither tensorboard nor Qt nor Slicer here."""

from __future__ import annotations

import atexit
import re
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from ..core.processes import kill_group, python_executable, start_in_own_group
from .job import WorkerError
from .liveness import make_job_folder

HOST = "127.0.0.1"
TIME_TO_START_S = 60.0
LOG_CHARACTERS = 2000


class Board:
    """A server that shows the numbers of trainings in a web browser of this computer.

    >>> board = Board(root / "tb_logger")
    >>> while not board.poll():        # from a timer; the address, as soon as it answers
    ...     time.sleep(0.1)
    >>> board.close()

    Parameters
    ----------
    folder : path
        What `--logdir` of TensorBoard takes: a folder of runs.
    command : list of str, optional
        What to run instead of TensorBoard; ``--logdir``, ``--host`` and ``--port`` are appended.

    Raises
    ------
    WorkerError
        If it cannot be started.
    """

    def __init__(self, folder: str | Path, command: list[str] | None = None) -> None:
        self.folder = Path(folder)
        self.address = ""
        self._files = make_job_folder()
        self._port = free_port()
        self._began = time.monotonic()
        where = ["--logdir", str(self.folder), "--host", HOST, "--port", str(self._port)]
        try:
            self._process: subprocess.Popen | None = start_in_own_group(
                [*(command or [python_executable(), "-m", "tensorboard.main"]), *where], self._files / "log.txt"
            )
        except OSError as error:
            shutil.rmtree(self._files, ignore_errors=True)
            raise WorkerError(f"TensorBoard did not start: {error}.", "Install it again.") from error
        atexit.register(self.close)

    @property
    def isRunning(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def poll(self) -> str:
        """The address, or "" as long as nobody answers there; never waits.

        Raises
        ------
        WorkerError
            If it has ended, or does not answer after a minute.
        """
        if self.address and self.isRunning:
            return self.address
        if not self.isRunning:
            raise self._failure("TensorBoard has ended.")
        if _answers(self._port):
            self.address = f"http://{HOST}:{self._port}/"
        elif time.monotonic() - self._began > TIME_TO_START_S:
            raise self._failure("TensorBoard does not answer.")
        return self.address

    def close(self) -> None:
        """End the server. Safe at any time, and more than once."""
        atexit.unregister(self.close)
        if self._process is not None:
            if self.isRunning:
                kill_group(self._process.pid)
            self._process.wait()
            self._process = None
            shutil.rmtree(self._files, ignore_errors=True)

    def _failure(self, what: str) -> WorkerError:
        text = ""
        with suppress(OSError):
            text = (self._files / "log.txt").read_text(encoding="utf-8", errors="replace")[-LOG_CHARACTERS:]
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        reason = f" It said: {lines[-1].strip()}" if lines else ""
        return WorkerError(f"{what}{reason}", "Install the package tensorboard again.", detail=text)


def free_port() -> int:
    """A port of this computer on which nobody listens."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.02)
        return probe.connect_ex((HOST, port)) == 0
