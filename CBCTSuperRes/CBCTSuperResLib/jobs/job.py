"""What is known of a job from the files in its folder: the worker's events, its log and its signs of life.

A worker process seen from outside: started, polled, cancelled. Needs neither torch nor Qt nor Slicer.

The worker appends its events to a file and nobody waits for anything, because Python threads hardly run inside Slicer:
whoever started the job calls `poll` from a timer, or from a loop.

Jobs that may go on after the program that started them has ended, and are found again by their folder.

A job done where it is polled, for plain Python; in Slicer's own process torch may crash.
"""

from __future__ import annotations

import atexit
import json
import platform
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.atomic import FileLock
from ..core.errors import Cancelled, InputError, OutputError, SuperResError
from ..core.events import EventReader
from ..core.options import Options
from ..core.processes import kill_group, start_in_own_group, worker_command

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


class JobState:
    """How far a job is, as its worker told it.

    Attributes
    ----------
    fraction, message, remaining_s : float, str, float or None
        Progress from 0 to 1, the stage in words, and the seconds to go if they are known.
    warnings : list of str
    result : dict or None
        The report of a job that was done.
    error : SuperResError or None
        Why there is no report.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fraction = 0.0
        self.message = ""
        self.remaining_s: float | None = None
        self.warnings: list[str] = []
        self.result: dict | None = None
        self.error: SuperResError | None = None
        self._readers = [EventReader(self.folder / "events.jsonl")]

    def log_tail(self) -> str:
        """The last lines that the worker printed."""
        with suppress(OSError), open(self.folder / "log.txt", encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, LOG_LINES))
        return ""

    def read_events(self) -> list[dict]:
        """Take in what was told since the last call, here and in the files that were named to follow."""
        events = []
        for reader in self._readers:
            for event in reader.read():
                if event["event"] == "follow":
                    self._readers.append(EventReader(event["path"]))
                events.append(event)
                self._take(event)
        return events

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


class LifeSigns:
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


SILENCE_OF_A_LOST_WORKER_S = 10.0
TIME_TO_STOP_S = 1800.0


class LastingJob(WorkerProcess):
    """A job in a folder that stays, whose worker may outlive its parent and is never killed without being asked to.

    >>> job = LastingJob({"kind": "train", "options": options}, folder).start()
    >>> job.detach()                                     # now it goes on when this program ends
    >>> job = LastingJob.attach(folder)                  # later, in this program or another

    Without `detach`, the worker of a program that ends stops as if it had been asked to, and takes its time for it.
    """

    advice_when_killed = "Usually the memory was full: choose a smaller batch_size or HR_size, and resume."
    advice_when_hung = "Resume the run; if it happens again, choose another device."

    def __init__(self, job: dict, folder: str | Path, command: list[str] | None = None) -> None:
        super().__init__(job, Path(folder).absolute(), command)
        self._job |= {
            "alive": str(self.folder / "alive"),
            "detached": str(self.folder / "detached"),
            "grace_s": TIME_TO_STOP_S,
        }
        self._is_attached = False
        self._started: dict = {}

    @classmethod
    def attach(cls, folder: str | Path) -> LastingJob:
        """The job in this folder, whoever started it; its events are told from the first on.

        Raises
        ------
        InputError
            If there is none.
        """
        job = cls({}, folder)
        if not (job.folder / "job.json").is_file():
            raise InputError(f"There is no job in {folder}.", "Start it again.")
        job._is_attached = True
        job._life = LifeSigns(job.folder / "heartbeat", SILENCE_OF_A_LOST_WORKER_S)
        return job

    def start(self) -> LastingJob:
        """Start the process; returns at once.

        Raises
        ------
        InputError
            If the job of this folder is still going on.
        OutputError, WorkerError
            If the folder cannot be made, or there is no Python to run the worker with.
        """
        if is_going_on(self.folder):
            raise InputError(f"The job in {self.folder} is still going on.", "Attach to it, or stop it first.")
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"The folder {self.folder} cannot be made: {error}.", "Choose another root.") from error
        super().start()
        return self

    def poll(self) -> list[dict]:
        events = super().poll()
        if self.finished:
            self._lock.release()
        return events

    @property
    def is_detached(self) -> bool:
        """Whether the worker goes on when its parent ends."""
        return (self.folder / "detached").exists()

    def detach(self, detached: bool = True) -> None:
        """Let the worker go on when this program ends; or not, after all.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        if self.finished:
            return
        with _telling(self.folder):
            if detached:
                (self.folder / "detached").touch()
            else:
                (self.folder / "detached").unlink(missing_ok=True)

    def cancel(self) -> None:
        """Ask the worker to stop; it is waited for as long as it takes.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        with _telling(self.folder):
            super().cancel()

    def kill(self) -> None:
        """End the process and all that it started, now.

        Raises
        ------
        OutputError
            If it runs on another computer.
        """
        if not self._is_attached:
            super().kill()
        elif not self._has_ended() and self._started:
            if self._started.get("host") != platform.node():
                raise OutputError(f"The job runs on {self._started.get('host')}.", "Stop it, or end it there.")
            kill_group(self._started["group"])

    def close(self) -> None:
        """Let go of the job: a detached one goes on, another stops by itself, a finished one is cleared away."""
        atexit.unregister(self.close)
        if self.finished:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif not (self._is_attached or self.is_detached):
            with suppress(OutputError):
                self.cancel()
        if not self.finished:
            self.finished = True
            self.error = self.error or Cancelled()
        self._lock.release()

    def _take(self, event: dict) -> None:
        super()._take(event)
        if event["event"] == "started":
            self._started = event

    def _has_started(self) -> bool:
        return self._is_attached or super()._has_started()

    def _has_ended(self) -> bool:
        if not self._is_attached:
            return super()._has_ended()
        if _is_held(self.folder / "alive"):
            return False
        if self.result is not None or self.error is not None:
            return True
        return not _is_held(self.folder / "parent") and self._life.have_ceased()

    def _has_waited_enough(self, since: float) -> bool:
        """A step may take minutes, and the checkpoint at its end is worth waiting for."""
        return False

    def _look_for_trouble(self, ended: bool) -> None:
        if ended or not self._is_attached:
            super()._look_for_trouble(ended)

    def _do_not_linger(self) -> None:
        self._told_at = self._told_at or time.monotonic()
        if not self._is_attached and time.monotonic() - self._told_at > GRACE_S:
            self.kill()

    def _sudden_end(self) -> SuperResError:
        if not self._is_attached:
            return super()._sudden_end()
        return WorkerError("The worker process has gone.", self.advice_when_killed, detail=self.log_tail())


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "Wait for its end, or end its process."
        raise OutputError(f"The job cannot be told; {folder} is not writable ({error.strerror}).", advice) from error


def is_going_on(folder: str | Path) -> bool:
    """Whether the worker of the job in this folder lives, or is being started."""
    return any(_is_held(Path(folder) / name) for name in ("alive", "parent"))


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    lock = FileLock(path)
    with suppress(OSError):
        if lock.acquire():
            lock.release()
            return False
    return True


class InProcessWorker:
    """Does the job where it is polled; the counterpart of `WorkerProcess` for plain Python."""

    def __init__(self, job: dict, folder: Path, progress: Callable[[float, str], None] | None = None) -> None:
        self.folder = folder
        self.fraction, self.message, self.remaining_s = 0.0, "", None
        self.warnings: list[str] = []
        self.result: dict | None = None
        self.error: SuperResError | None = None
        self.finished = False
        self._job, self._progress = job, progress

    def start(self) -> InProcessWorker:
        return self

    def poll(self) -> None:
        from ..apply.file import apply_to_file

        job = self._job
        options = Options.from_json(job["options"])
        try:
            self.result = apply_to_file(job["input"], job["output"], job["model"], options, self._progress)
            self.warnings = self.result["warnings"]
        except SuperResError as error:
            self.error = error
        self.fraction, self.finished = 1.0, True

    def cancel(self) -> None:
        self.error, self.finished = Cancelled(), True

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
