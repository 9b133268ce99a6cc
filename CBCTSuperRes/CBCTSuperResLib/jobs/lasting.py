"""Jobs that may go on after the program that started them has ended, and are found again by their folder."""

from __future__ import annotations

import atexit
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import Cancelled, InputError, OutputError, SuperResError
from ..locks import FileLock
from ..processes import kill_group
from .state import LifeSigns, WorkerError
from .worker_process import GRACE_S, WorkerProcess

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
