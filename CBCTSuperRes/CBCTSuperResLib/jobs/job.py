"""A job: one piece of work in a process of its own, seen from the program that waits for it.

The worker appends events to a file and nobody waits for anything, because Python threads hardly run inside Slicer:
whoever started the job calls `poll` from a timer, or `wait`. Needs neither torch nor Qt nor Slicer.

In the folder of a job lie `job.json` (what to do), `events.jsonl` (see `worker`), `log.txt` (what the worker prints),
`heartbeat`, `cancel` (asks to stop), `parent` and `alive` (locks that fall with the process that holds them) and
`detached`.
"""

from __future__ import annotations

import atexit
import json
import platform
import shutil
import subprocess
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..core.atomic import write_json
from ..core.crash_note import is_crash, reader_crash
from ..core.errors import Cancelled, InputError, OutputError, ResourceError, SuperResError
from ..core.events import EventReader
from ..core.memory import less_memory
from ..core.processes import ParentLock, kill_group, process_exists, start_in_own_group, worker_command
from .liveness import FRESH_S, Silence, has_locks, is_going_on, is_held, make_job_folder
from .pool import PoolWorker

PACE_S = 0.05
LOG_LINES = 50
CRASH_NOTE = "decoding"  # the file that a library was decoding
GRACE_S = 5.0
PATIENCE_S = 1.5  # so that a user who cancels waits for two seconds at most
SILENCE_LIMIT_S = 120.0
SILENCE_OF_A_LOST_WORKER_S = 10.0
TIME_TO_STOP_S = 1800.0
UNFORESEEN = (SuperResError.exit_code, ResourceError.exit_code)  # errors after which no process should go on

WHEN_HUNG = {
    "apply": "Try again; if it happens again, choose smaller tiles or another device.",
    "preview": "Switch the preview on again.",
    "train": "Resume the run; if it happens again, choose another device.",
}


class WorkerError(SuperResError):
    """A job failed; as the worker told it, or because the worker fell silent."""

    def __init__(self, what: str, advice: str = "", exit_code: int = 1, detail: str = "") -> None:
        super().__init__(what, advice)
        self.exit_code = exit_code
        self.detail = detail


class Job:
    """One job. When it has finished it has a report or an error, whatever happened.

    >>> job = Job({"kind": "apply", "input": "scan.nrrd", "output": "result.nrrd", "options": {}}).start()
    >>> while not job.isFinished:
    ...     for event in job.poll():                     # from a timer; or job.wait()
    ...         print(event)
    >>> job.report or job.error
    >>> job.close()                                      # at any time; ends what goes on

    A lasting job has a folder that stays. Its worker may outlive the program that started it, and is never killed
    without being asked to:

    >>> job = Job({"kind": "train", "options": options}, folder, lasting=True).start()
    >>> job.detach()                                     # now it goes on when this program ends
    >>> job = Job.attach(folder)                         # later, in this program or another

    Without `detach`, the worker of a program that ends stops as if it had been asked to, and takes its time for it.

    Parameters
    ----------
    task : dict
        What to do, see `worker`; the files for events, cancelling and life signs are added here.
    files : path, optional
        Folder for the job's files, which is removed at the end; without it a temporary one is made.
    lasting : bool
    command : list of str, optional
        What to run instead of the worker; the job's file is appended.
    silence_limit_s : float
        A worker that gives no sign of life for so long is taken for hung and killed.
    keep_files : bool
        Whether the folder stays, once the job has finished, until `close`; because its result lies there.
    breathe : callable, optional
        What `wait` does between two polls.
    worker : PoolWorker, optional
        A process that stays, and has nothing else to do, to do the job in place of one of its own.

    Attributes
    ----------
    fraction, message, remaining : float, str, float or None
        Progress from 0 to 1, the stage in words, and the seconds to go if they are known.
    warnings : list of str
    isFinished : bool
    report : dict or None
        What was done.
    error : SuperResError or None
        Why there is no report; `Cancelled` if the user asked for that.
    """

    def __init__(
        self,
        task: dict,
        files: str | Path | None = None,
        *,
        lasting: bool = False,
        command: list[str] | None = None,
        silence_limit_s: float = SILENCE_LIMIT_S,
        keep_files: bool = False,
        breathe: Callable[[], None] | None = None,
        worker: PoolWorker | None = None,
    ) -> None:
        self.files = Path(files).absolute() if files else make_job_folder()
        self.fraction, self._message, self.remaining = 0.0, "", None
        self.warnings: list[str] = []
        self.isFinished = False
        self.report: dict | None = None
        self.error: SuperResError | None = None
        self._task, self._lasting, self._command = task, lasting, command
        self._keep_files = keep_files
        self._breathe = breathe or (lambda: time.sleep(PACE_S))
        self._readers = [EventReader(self.files / "events.jsonl")]
        self._worker: dict = {}  # what it told of itself: pid, group, host
        self._process: subprocess.Popen | None = None
        self._is_attached, self._has_locks = False, True
        self._parent: ParentLock | None = None
        self._pooled = worker
        self._silence = Silence(self.files / "heartbeat", silence_limit_s)
        self._cancelled_at: float | None = None
        self._told_at: float | None = None

    @classmethod
    def attach(cls, files: str | Path) -> Job:
        """The lasting job in this folder, whoever started it; its events are told from the first on.

        Raises
        ------
        InputError
            If there is none.
        """
        job = cls({}, files, lasting=True)
        job._attach()
        return job

    def _attach(self) -> None:
        if not (self.files / "job.json").is_file():
            raise InputError(f"There is no job in {self.files}.", "Start it again.")
        with suppress(OSError, ValueError, RecursionError):
            self._task = json.loads((self.files / "job.json").read_text(encoding="utf-8"))
        self._is_attached, self._has_locks = True, has_locks(self.files)
        limit_s = SILENCE_OF_A_LOST_WORKER_S if self._has_locks else FRESH_S
        self._silence = Silence(self.files / "heartbeat", limit_s)

    @property
    def message(self) -> str:
        return self._message

    def start(self) -> Job:
        """Start the process; returns at once. Where that fails nothing of the job is left.

        Raises
        ------
        InputError
            If a lasting job of this folder is still going on.
        OutputError, WorkerError
            If the folder cannot be written, or there is no Python to run the worker with.
        """
        if self._lasting:
            self._make_room()
        task = {**self._task, "folder": str(self.files)}
        task |= {name: str(self.files / name) for name in ("cancel", "heartbeat")}
        task["events"] = str(self._readers[0].path)
        if self._lasting:
            task |= {name: str(self.files / name) for name in ("alive", "detached")}
            task["grace_s"] = TIME_TO_STOP_S
        worker = self._pooled
        self._parent = None if worker else ParentLock(self.files / "parent")
        atexit.register(self.close)
        try:
            if worker:
                worker.give(write_json(self.files / "job.json", task))
                self._process = worker.process
            else:
                file = write_json(self.files / "job.json", {**task, "parent": self._parent.facts})
                command = self._command or worker_command()
                self._process = start_in_own_group([*command, str(file)], self.files / "log.txt")
        except BaseException as error:
            atexit.unregister(self.close)
            if self._parent:
                self._parent.release()
            if not self._lasting:
                self._clear_away()
            if not isinstance(error, OSError):
                raise
            raise WorkerError(f"The worker process did not start: {error}.", "Install the program again.") from error
        return self

    def poll(self) -> list[dict]:
        """Events since the last call; never waits. Sets `isFinished`, and then `report` or `error`."""
        if self.isFinished or not (self._process or self._is_attached):
            return []
        events: list[dict] = []
        try:
            ended = self._has_ended()  # first, so that nothing that was told before the end is missed
            self._read(events)
            ended = ended or (self._pooled is not None and bool(self.report or self.error))
            if self.report is None and self.error is None:
                self._look_for_trouble(ended)
            elif not ended:
                self._end_a_lingering_worker()
            if ended:
                self._finish()
        except Exception as error:
            what = f"The job cannot be followed: {type(error).__name__}: {error}."
            self.error = WorkerError(what, "Report it with the details.", detail=traceback.format_exc())
            self.report = None
            with suppress(SuperResError):
                if not self._lasting:
                    self.kill()
            self._finish()
        if self.isFinished and not self._keep_files:
            self._clear_away()
        return events

    def wait(self, progress: Callable[[float, str], None] | None = None) -> dict:
        """Poll until the work is done; the application stays alive meanwhile.

        Parameters
        ----------
        progress : callable (fraction, message), optional

        Returns
        -------
        dict
            The report.

        Raises
        ------
        SuperResError
            Why there is none.
        """
        while not self.isFinished:
            self.poll()
            if progress:
                progress(self.fraction, self.message)
            self._breathe()
        if self.error:
            raise self.error
        return self.report

    def cancel(self) -> None:
        """Ask the worker to stop; a later `poll` ends the job with the error `Cancelled`.

        A worker that has not stopped after 1.5 seconds is killed; that of a lasting job is waited for as long as it
        takes.

        Raises
        ------
        OutputError
            If the folder of a lasting job cannot be written.
        """
        if self._cancelled_at is not None or self.isFinished:
            return
        try:
            with self._telling():
                (self.files / "cancel").touch()
        except OutputError:
            if self._lasting:
                raise
            self.kill()
        self._cancelled_at, self.remaining = time.monotonic(), None

    def kill(self) -> None:
        """End the process and all that it started, now.

        Raises
        ------
        OutputError
            If it runs on another computer.
        """
        if self._pooled:
            if not self.isFinished:
                self._pooled.kill()
        elif self._process is not None:
            if self._process.poll() is None:
                kill_group(self._process.pid)
                self._process.wait()
        elif self._worker and not self._has_ended():
            if self._worker.get("host") != platform.node():
                raise OutputError(f"The job runs on {self._worker.get('host')}.", "Stop it, or end it there.")
            kill_group(self._worker["group"])

    @property
    def isDetached(self) -> bool:
        """Whether the worker goes on when its parent ends."""
        return (self.files / "detached").exists()

    def detach(self, detached: bool = True) -> None:
        """Let the worker of a lasting job go on when this program ends; or not, after all.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        if self.isFinished:
            return
        with self._telling():
            if detached:
                (self.files / "detached").touch()
            else:
                (self.files / "detached").unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the job. Safe at any time, and more than once.

        Its worker is killed and its folder removed; of a lasting job, a detached worker goes on, another is asked to
        stop, and only the folder of one that has ended is cleared away.
        """
        if self._lasting and not (self.isFinished or self._is_attached or self.isDetached):
            with suppress(OutputError):
                self.cancel()
        if not self._lasting:
            self.kill()
        has_ended = self.isFinished
        if not has_ended:
            self.error = self.error or Cancelled()
            self._finish()
        if has_ended or not self._lasting:
            self._clear_away()

    @property
    def _kind(self) -> str | None:
        return self._task.get("kind")

    def _make_room(self) -> None:
        """An empty folder for a lasting job."""
        if is_going_on(self.files):
            raise InputError(f"The job in {self.files} is still going on.", "Attach to it, or stop it first.")
        try:
            shutil.rmtree(self.files, ignore_errors=True)
            self.files.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"The folder {self.files} cannot be made: {error}.", "Choose another root.") from error

    def _read(self, events: list[dict]) -> None:
        """Take in what was told since the last call, here and in the files that the worker named to follow."""
        for reader in self._readers:
            for event in reader.read():
                try:
                    self._take(event)
                except (KeyError, TypeError, ValueError, AttributeError):  # a line that lacks something
                    reader.damaged += 1
                else:
                    events.append(event)

    def _take(self, event: dict) -> None:
        kind = event["event"]
        if kind == "started":
            self._worker = event
        elif kind == "follow":
            if Path(event["path"]) not in [reader.path for reader in self._readers]:
                self._readers.append(EventReader(event["path"]))
        elif kind == "progress":
            fraction, remaining = float(event["fraction"]), event["remaining_s"]
            self.fraction, self._message = fraction, str(event["message"])
            self.remaining = None if self._cancelled_at else remaining  # of what will not be done
        elif kind == "warning":
            self.warnings.append(str(event["message"]))
        elif kind == "done":
            self.report = dict(event["report"])
            self.fraction, self.remaining = 1.0, 0.0
        elif kind == "error":
            what, advice, exit_code = event["what"], event["advice"], int(event["exit_code"])
            if exit_code == Cancelled.exit_code and (self._cancelled_at or self._lasting):
                self.error = Cancelled(what, advice)
            elif exit_code == Cancelled.exit_code:
                self.error = Cancelled("Another program asked the worker process to stop.", "Try again.")
            else:
                detail = "\n".join(text for text in (event["detail"], self._log_tail()) if text)
                self.error = WorkerError(what, advice, exit_code, detail)

    def _has_ended(self) -> bool:
        if self._process is not None:
            return self._process.poll() is not None
        if self._has_locks:
            lives, is_starting = is_held(self.files / "alive"), is_held(self.files / "parent")
        elif self._worker.get("host") == platform.node():
            lives = is_starting = process_exists(int(self._worker["pid"]))
        else:
            lives = is_starting = not self._silence.is_too_long()
        if lives:
            return False
        return self.report is not None or self.error is not None or (not is_starting and self._silence.is_too_long())

    def _look_for_trouble(self, ended: bool) -> None:
        """The worker has not told its end."""
        if ended:
            self.error = Cancelled() if self._cancelled_at else self._sudden_end()
        elif self._is_attached:
            return
        elif self._cancelled_at and not self._lasting and time.monotonic() - self._cancelled_at > PATIENCE_S:
            self.kill()
        elif self._silence.is_too_long():
            what = "The worker process stopped responding and was ended."
            self.error = WorkerError(what, WHEN_HUNG.get(self._kind, "Try again."), detail=self._log_tail())
            self.kill()

    def _end_a_lingering_worker(self) -> None:
        """A worker that has told its end has five seconds to go."""
        self._told_at = self._told_at or time.monotonic()
        if self._process is not None and time.monotonic() - self._told_at > GRACE_S:
            self.kill()

    def _sudden_end(self) -> SuperResError:
        code = None if self._process is None else self._process.returncode
        crash = reader_crash(code or 0, self.files / CRASH_NOTE)
        if crash:
            return WorkerError(crash.what, crash.advice, crash.exit_code, self._log_tail())
        if code is None:
            how = "The worker process has gone."
        elif code < 0:
            how = f"The worker process was killed (signal {-code})."
        else:
            how = f"The worker process ended unexpectedly (code {code})."
        damaged = sum(reader.damaged for reader in self._readers)
        if damaged:
            how += f" {damaged} of the lines that it told could not be read."
        advice = f"Usually the memory was full: {less_memory(self._kind)}."
        if code and is_crash(code):
            advice = "It crashed. Report it with the details."
        return WorkerError(how, advice, detail=self._log_tail())

    def _finish(self) -> None:
        atexit.unregister(self.close)
        self.isFinished = True
        if self.report is None and self.error is None:
            self.error = self._sudden_end()
        if self._parent:
            self._parent.release()
        if self._pooled and self.error and self.error.exit_code in UNFORESEEN:
            self._pooled.kill()

    def _clear_away(self) -> None:
        if not (self._lasting and is_going_on(self.files)):
            shutil.rmtree(self.files, ignore_errors=True)

    def _log_tail(self) -> str:
        """The last lines that the worker printed."""
        folder = self.files if self._pooled is None else self._pooled.files
        with suppress(OSError, TypeError), open(folder / "log.txt", encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, LOG_LINES))
        return ""

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"The job cannot be told; {self.files} is not writable ({error.strerror})."
            raise OutputError(what, "Wait for its end, or end its process.") from error
