"""A worker process seen from outside: started, polled, cancelled. Needs neither torch nor Qt nor Slicer.

The worker appends its events to a file and nobody waits for anything, because Python threads hardly run inside Slicer:
whoever started the job calls `poll` from a timer, or from a loop.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from .errors import Cancelled, OutputError, SuperResError
from .locks import FileLock

LIBRARY_FOLDER = Path(__file__).resolve().parent.parent
GRACE_S = 5.0
SILENCE_LIMIT_S = 120.0
LOG_LINES = 50


class WorkerError(SuperResError):
    """A job failed; as the worker told it, or because the worker fell silent.

    Attributes
    ----------
    detail : str
        Traceback and the last lines of the log, for people who report problems.
    """

    def __init__(self, what: str, advice: str = "", exit_code: int = 1, detail: str = "") -> None:
        super().__init__(what, advice)
        self.exit_code = exit_code
        self.detail = detail


class WorkerProcess:
    """One job in a process of its own.

    >>> job = WorkerProcess({"kind": "apply", "input": "scan.nrrd", "output": "result.nrrd", "options": {}})
    >>> job.start()
    >>> while not job.finished:
    ...     for event in job.poll():
    ...         print(event)
    ...     time.sleep(0.1)
    >>> job.close()
    >>> job.result or job.error

    Parameters
    ----------
    job : dict
        What to do, see `worker`; the files for events, cancelling and life signs are added here.
    folder : path, optional
        Temporary folder of the job, which `close` removes; otherwise one is made.
    command : list of str, optional
        What to run instead of the worker; the job's file is appended.
    silence_limit_s : float
        A worker that gives no sign of life for so long is taken for hung and killed.
    """

    def __init__(
        self,
        job: dict,
        folder: str | Path | None = None,
        command: list[str] | None = None,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self.folder = Path(folder) if folder else make_job_folder()
        self._command = command or worker_command()
        self._job = {
            **job,
            "events": str(self.folder / "events.jsonl"),
            "cancel": str(self.folder / "cancel"),
            "heartbeat": str(self.folder / "heartbeat"),
            "folder": str(self.folder),
        }
        self.fraction = 0.0
        self.message = ""
        self.remaining_s: float | None = None
        self.warnings: list[str] = []
        self.result: dict | None = None
        self.error: SuperResError | None = None
        self.finished = False
        self._process: subprocess.Popen | None = None
        self._life = _LifeSigns(self.folder / "heartbeat", silence_limit_s)
        self._lock = FileLock(self.folder / "parent")
        self._read = 0
        self._rest = b""
        self._cancelled_at: float | None = None
        self._told_at: float | None = None

    def start(self) -> WorkerProcess:
        """Start the process; returns at once.

        Raises
        ------
        WorkerError
            If there is no Python to run it with.
        """
        if self._others_can_see_our_lock():
            self._job["parent"] = str(self._lock.path)
        job_file = self.folder / "job.json"
        job_file.write_text(json.dumps(self._job, ensure_ascii=False, default=str), encoding="utf-8")
        atexit.register(self.close)
        try:
            self._process = self._launch(job_file)
        except OSError as error:
            raise WorkerError(f"The worker process did not start: {error}.", "Install the program again.") from error
        return self

    def poll(self) -> list[dict]:
        """Events since the last call; never waits. Sets `finished`, and then `result` or `error`."""
        if self.finished or self._process is None:
            return []
        ended = self._process.poll() is not None
        events = self._new_events()
        for event in events:
            self._take(event)
        if self.result is None and self.error is None:
            self._look_for_trouble(ended)
        elif not ended:
            self._do_not_linger()
        self.finished = ended
        return events

    def cancel(self) -> None:
        """Ask the worker to stop; `poll` kills it if it has not stopped after five seconds."""
        if self._cancelled_at is None and not self.finished:
            Path(self._job["cancel"]).touch()
            self._cancelled_at = time.monotonic()

    def kill(self) -> None:
        """End the process and all that it started, now."""
        if self._process is None:
            return
        if os.name == "nt":
            command = ["taskkill", "/T", "/F", "/PID", str(self._process.pid)]
            subprocess.run(command, capture_output=True, check=False, creationflags=subprocess.CREATE_NO_WINDOW)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill the process if it still runs and remove the job's folder. May be called twice."""
        atexit.unregister(self.close)
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if not self.finished:
            self.finished = True
            self.error = self.error or Cancelled()
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self) -> str:
        """The last lines that the worker printed."""
        with suppress(OSError), open(self.folder / "log.txt", encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, LOG_LINES))
        return ""

    def _launch(self, job_file: Path) -> subprocess.Popen:
        with open(self.folder / "log.txt", "wb") as log:
            return subprocess.Popen(
                [*self._command, str(job_file)],
                cwd=LIBRARY_FOLDER,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **_own_group(),
            )

    def _others_can_see_our_lock(self) -> bool:
        """Whether the lock by which the worker notices our death works on this file system."""
        return self._lock.acquire() and not FileLock(self._lock.path).acquire()

    def _new_events(self) -> list[dict]:
        """Complete lines that were appended since the last call; the beginning of a line is kept for the next."""
        with suppress(FileNotFoundError), open(self._job["events"], "rb") as file:
            file.seek(self._read)
            appended = file.read()
            self._read += len(appended)
            *lines, self._rest = (self._rest + appended).split(b"\n")
            return [json.loads(line) for line in lines if line]
        return []

    def _take(self, event: dict) -> None:
        kind = event["event"]
        if kind == "progress":
            self.fraction, self.message = event["fraction"], event["message"]
            self.remaining_s = event["remaining_s"]
        elif kind == "warning":
            self.warnings.append(event["message"])
        elif kind == "done":
            self.fraction, self.remaining_s, self.result = 1.0, 0.0, event["report"]
        elif kind == "error":
            self.error = self._as_error(event)

    def _as_error(self, event: dict) -> SuperResError:
        if event["exit_code"] == Cancelled.exit_code:
            return Cancelled(event["what"], event["advice"])
        detail = "\n".join(text for text in (event["detail"], self.log_tail()) if text)
        return WorkerError(event["what"], event["advice"], event["exit_code"], detail)

    def _look_for_trouble(self, ended: bool) -> None:
        if ended:
            self.error = Cancelled() if self._cancelled_at else self._sudden_end()
        elif self._cancelled_at and time.monotonic() - self._cancelled_at > GRACE_S:
            self.kill()
        elif self._life.have_ceased():
            self.error = WorkerError(
                "The worker process stopped responding and was ended.",
                "Try again; if it happens again, choose smaller tiles or another device.",
                detail=self.log_tail(),
            )
            self.kill()

    def _do_not_linger(self) -> None:
        """A worker that has told its end has five seconds to go."""
        self._told_at = self._told_at or time.monotonic()
        if time.monotonic() - self._told_at > GRACE_S:
            self.kill()

    def _sudden_end(self) -> WorkerError:
        code = self._process.returncode
        how = f"was killed (signal {-code})" if code < 0 else f"ended unexpectedly (code {code})"
        return WorkerError(
            f"The worker process {how}.",
            "Usually the memory was full: choose a ROI, smaller tiles or axial planes.",
            detail=self.log_tail(),
        )


class _LifeSigns:
    """Notices that the heartbeat has stood still for too long.

    Silence is counted in steps of at most a second between two looks, so that a computer that slept, or a timer that
    was late, does not count as silence of the worker.
    """

    def __init__(self, path: Path, limit_s: float) -> None:
        self._path, self._limit = path, limit_s
        self._last, self._silence = b"", 0.0
        self._looked = time.monotonic()

    def have_ceased(self) -> bool:
        now = time.monotonic()
        step, self._looked = min(1.0, now - self._looked), now
        beat = self._last
        with suppress(OSError):
            beat = self._path.read_bytes()
        self._silence = self._silence + step if beat == self._last else 0.0
        self._last = beat
        return self._silence > self._limit


def make_job_folder(parent: str | Path | None = None) -> Path:
    """A new temporary folder for a job's files.

    Raises
    ------
    OutputError
        If there is no place for temporary files.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="CBCTSuperRes-", dir=parent))
    except OSError as error:
        advice = "Free some space, or choose another temporary folder."
        raise OutputError(f"No temporary folder can be made: {error}.", advice) from error


def worker_command(module: str = "CBCTSuperResLib.worker") -> list[str]:
    """How to run a module of this library in another process: with Slicer's Python within Slicer."""
    return [python_executable(), "-m", module]


def python_executable() -> str:
    """PythonSlicer within Slicer, otherwise the Python that runs now."""
    if "python" in Path(sys.executable or "").stem.lower():
        return sys.executable
    return shutil.which("PythonSlicer") or sys.executable


def _environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are ten times slower on a busy computer
    environment.pop("PYTHONSAFEPATH", None)  # it would hide the library in the working directory
    return environment


def _own_group() -> dict:
    """A process group of its own, so that a launcher and its child are killed together."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}
