"""A worker process seen from outside: started, polled, cancelled. Needs neither torch nor Qt nor Slicer.

The worker appends its events to a file and nobody waits for anything, because Python threads hardly run inside Slicer:
whoever started the job calls `poll` from a timer, or from a loop.
"""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from ..errors import Cancelled, OutputError, SuperResError
from ..locks import FileLock
from ..processes import kill_group, start_in_own_group, worker_command
from .state import JobState, LifeSigns, WorkerError

GRACE_S = 5.0
PATIENCE_S = 1.5  # so that a user who cancels waits for two seconds at most
SILENCE_LIMIT_S = 120.0


class WorkerProcess(JobState):
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

    advice_when_killed = "Usually the memory was full: choose a ROI, smaller tiles or axial planes."
    advice_when_hung = "Try again; if it happens again, choose smaller tiles or another device."

    def __init__(
        self,
        job: dict,
        folder: str | Path | None = None,
        command: list[str] | None = None,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        super().__init__(Path(folder) if folder else make_job_folder())
        self.finished = False
        self._command = command or worker_command()
        self._job = {
            **job,
            "events": str(self.folder / "events.jsonl"),
            "cancel": str(self.folder / "cancel"),
            "heartbeat": str(self.folder / "heartbeat"),
            "folder": str(self.folder),
        }
        self._process: subprocess.Popen | None = None
        self._life = LifeSigns(self.folder / "heartbeat", silence_limit_s)
        self._lock = FileLock(self.folder / "parent")
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
            self._process = start_in_own_group([*self._command, str(job_file)], self.folder / "log.txt")
        except OSError as error:
            raise WorkerError(f"The worker process did not start: {error}.", "Install the program again.") from error
        return self

    def poll(self) -> list[dict]:
        """Events since the last call; never waits. Sets `finished`, and then `result` or `error`."""
        if self.finished or not self._has_started():
            return []
        ended = self._has_ended()
        events = self.read_events()
        if self.result is None and self.error is None:
            self._look_for_trouble(ended)
        elif not ended:
            self._do_not_linger()
        self.finished = ended
        return events

    def cancel(self) -> None:
        """Ask the worker to stop; `poll` kills it if it has not stopped after 1.5 seconds."""
        if self._cancelled_at is None and not self.finished:
            Path(self._job["cancel"]).touch()
            self._cancelled_at = time.monotonic()

    def kill(self) -> None:
        """End the process and all that it started, now."""
        if self._process is not None:
            kill_group(self._process.pid)
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

    def _has_started(self) -> bool:
        return self._process is not None

    def _has_ended(self) -> bool:
        return self._process.poll() is not None

    def _others_can_see_our_lock(self) -> bool:
        """Whether the lock by which the worker notices our death works on this file system."""
        return self._lock.acquire() and not FileLock(self._lock.path).acquire()

    def _look_for_trouble(self, ended: bool) -> None:
        if ended:
            self.error = Cancelled() if self._cancelled_at else self._sudden_end()
        elif self._cancelled_at and self._has_waited_enough(self._cancelled_at):
            self.kill()
        elif self._life.have_ceased():
            self.error = WorkerError(
                "The worker process stopped responding and was ended.", self.advice_when_hung, detail=self.log_tail()
            )
            self.kill()

    def _has_waited_enough(self, since: float) -> bool:
        """Whether a worker that was asked to stop, `since` a monotonic time, is to be killed."""
        return time.monotonic() - since > PATIENCE_S

    def _do_not_linger(self) -> None:
        """A worker that has told its end has five seconds to go."""
        self._told_at = self._told_at or time.monotonic()
        if time.monotonic() - self._told_at > GRACE_S:
            self.kill()

    def _sudden_end(self) -> SuperResError:
        code = self._process.returncode
        how = f"was killed (signal {-code})" if code < 0 else f"ended unexpectedly (code {code})"
        return WorkerError(f"The worker process {how}.", self.advice_when_killed, detail=self.log_tail())


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
