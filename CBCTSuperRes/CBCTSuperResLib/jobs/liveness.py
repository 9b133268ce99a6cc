"""The folder of a job, and whether its worker lives: by its lock, its process number and its heartbeat."""

from __future__ import annotations

import platform
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ..core.atomic import FileLock, fresh_file, locks_work
from ..core.errors import OutputError
from ..core.events import EventReader
from ..core.processes import process_exists

FRESH_S = 60.0


class Silence:
    """How long a heartbeat has stood still.

    It is counted in steps of at most a second between two looks, so that a computer that slept, or a timer that was
    late, does not count as silence of the worker.
    """

    def __init__(self, heartbeat: Path, limit_s: float) -> None:
        self._heartbeat, self.limit_s = heartbeat, limit_s
        self._last, self._silence_s = b"", 0.0
        self._looked = time.monotonic()

    def is_too_long(self) -> bool:
        now = time.monotonic()
        step, self._looked = min(1.0, now - self._looked), now
        beat = self._last
        with suppress(OSError):
            beat = self._heartbeat.read_bytes()
        self._silence_s = self._silence_s + step if beat == self._last else 0.0
        self._last = beat
        return self._silence_s > self.limit_s


def has_locks(folder: Path) -> bool:
    """`locks_work`; where that cannot be found out, they are believed."""
    with suppress(OSError):
        return locks_work(folder)
    return True


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock of this file; it is not taken from anybody."""
    if not path.exists():
        return False
    lock = FileLock(path)
    with suppress(OSError):
        if lock.acquire():
            lock.release()
            return False
    return True


def is_going_on(files: str | Path) -> bool:
    """Whether the worker of the job in this folder lives, or is being started.

    Where there are no locks, the worker's process on this computer tells, or a sign of life within the last minute.
    """
    files = Path(files)
    if has_locks(files):
        return is_held(files / "alive") or is_held(files / "parent")
    worker = next((event for event in EventReader(files / "events.jsonl").read() if event["event"] == "started"), {})
    if worker.get("host") == platform.node():
        return process_exists(int(worker["pid"]))
    return min(_age_s(files / "heartbeat"), _age_s(files / "job.json")) < FRESH_S


def _age_s(path: Path) -> float:
    """Seconds since a file was written, by the clock of its disk; infinite if there is none."""
    if not path.exists():
        return float("inf")
    now = fresh_file(path)
    try:
        return now.stat().st_mtime - path.stat().st_mtime
    finally:
        now.unlink()


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
