"""The process that computes: `python -m CBCTSuperResLib.jobs.worker job.json`.

A job is a JSON object with

- ``kind`` and what belongs to it, see `job_kinds`, or "serve" with nothing more: a process that stays and does the
  jobs that it is given, see `PoolWorker`;
- ``events``: a file to which this process appends one JSON object a line (see `EventWriter`), each with the key
  ``event``: "started" (pid, group, host), "progress" (fraction, message, remaining_s), "warning" (message), "follow"
  (path of a file in which more is told, as a training does in its run's folder) and, at the end, "done" (report) or
  "error" (what, advice, exit_code, detail);
- ``cancel``: a file whose appearance means that the user asked to stop;
- ``heartbeat``: a file that is touched every second while this process is alive;
- ``alive``: a file that this process keeps locked while it lives;
- ``parent``: see `ParentLock`; when the parent has died, this process stops within ``grace_s`` seconds, removing the
  folder ``folder``. If the file ``detached`` is there by then, or there was no parent from the beginning, it goes on.

Whatever else is printed, by torch for instance, goes to the standard output: the job's log.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..apply.file import READ
from ..core.atomic import FileLock, no_locks_warning
from ..core.crash_note import keep_note
from ..core.errors import Cancelled, OptionError, SuperResError, explained
from ..core.events import EventWriter
from ..core.memory import forget_peak_memory, less_memory
from ..core.packages import require_packages
from ..core.processes import ParentWatch, own_group
from .job import CRASH_NOTE, GRACE_S
from .job_kinds import BARE, KINDS, WITHOUT_TORCH, Stop
from .pool import given_file

if TYPE_CHECKING:
    from ..models.model import Model

WATCH_INTERVAL_S = 1.0
LOOK_INTERVAL_S = 0.02


def run_job(job: dict, events: EventWriter, stop: Stop) -> int:
    """Do the job and tell its end as an event; the return value is the exit code."""
    events.send("started", pid=os.getpid(), group=own_group(), host=platform.node())
    if job.get("parent") and not job["parent"]["lock"]:
        events.send("warning", message=no_locks_warning(Path(job["events"]).parent))
    try:
        if job.get("kind") not in KINDS:
            raise OptionError(f"There is no job of the kind {job.get('kind')!r}.")
        if job["kind"] not in BARE:
            require_packages(needs_torch=job["kind"] not in WITHOUT_TORCH)
        report = KINDS[job["kind"]](job, events, stop)
        for warning in report.get("warnings", ()):
            events.send("warning", message=warning)
        events.send("done", report=report)
        return 0
    except Exception as error:
        told = explained(error, less_memory(job.get("kind")))
    events.send("error", what=told.what, advice=told.advice, exit_code=told.exit_code, detail=told.detail)
    return told.exit_code


def serve(folder: Path, watch: Watch, stop: Stop) -> None:
    """Do one job after another, see `PoolWorker`, and keep the model from one to the next, until it is stopped."""
    number, kept = 1, {}
    while not stop():
        if not given_file(folder, number).exists():
            time.sleep(LOOK_INTERVAL_S)
            continue
        given = json.loads(given_file(folder, number).read_text(encoding="utf-8"))
        job = json.loads(Path(given["job"]).read_text(encoding="utf-8"))
        number += 1
        forget_peak_memory()
        keep_note(Path(job["folder"]) / CRASH_NOTE)
        watch.also_shows(job["heartbeat"])
        run_job(
            {**job, "model": _kept_model(job.get("model"), kept)} if job.get("kind") in ("apply", "part") else job,
            EventWriter(job["events"], paced_from=READ),
            lambda cancel=job["cancel"]: stop() or os.path.exists(cancel),
        )


def _kept_model(path: str | None, kept: dict) -> Model | str | None:
    """The model of a file, loaded once; the path, if it is no model, so that the job tells why."""
    from ..models.model import Model

    try:
        status = Path(path).stat()
        key = (path, status.st_mtime_ns, status.st_size)
        if key not in kept:
            kept.clear()
            kept[key] = Model.load(path)
        return kept[key]
    except (OSError, TypeError, SuperResError):
        return path


class StopRequest:
    """Whether this process should stop: asked by file, by signal, or because its parent has died."""

    def __init__(self, job: dict) -> None:
        self._file = job.get("cancel")
        self._stopped = False
        signal.signal(signal.SIGTERM, lambda *_: self.stop())

    def stop(self) -> None:
        self._stopped = True

    def __call__(self) -> bool:
        return self._stopped or bool(self._file and os.path.exists(self._file))


class Watch(threading.Thread):
    """Shows that this process lives, and ends it, folder included, when the parent has died."""

    def __init__(self, job: dict, stop: StopRequest) -> None:
        super().__init__(daemon=True)
        self._job, self._stop_request = job, stop
        self._parent = ParentWatch(job["parent"]) if job.get("parent") else None
        self._is_orphan = False
        self._heartbeats = [job["heartbeat"]] if "heartbeat" in job else []

    def also_shows(self, heartbeat: str) -> None:
        """Show in this file, too, that the process lives: of the job that it does at present."""
        self._heartbeats[1:] = [heartbeat]

    def run(self) -> None:
        pulse, end = 0, float("inf")
        while time.monotonic() < end:
            pulse += 1
            for heartbeat in list(self._heartbeats):
                with suppress(OSError):  # a disk that is away for a moment must not end a training of days
                    Path(heartbeat).write_text(str(pulse), encoding="ascii")
            if self._parent and self._parent.has_died():
                self._parent = None
                if not os.path.exists(self._job.get("detached", "")):
                    self._is_orphan, end = True, time.monotonic() + self._job.get("grace_s", GRACE_S)
                    self._stop_request.stop()
            time.sleep(WATCH_INTERVAL_S)
        self.clean_up()
        os._exit(Cancelled.exit_code)

    def clean_up(self) -> None:
        """Remove what the parent would have removed, if it has died."""
        if self._is_orphan and self._job.get("folder"):
            for folder in (self._job["folder"], *(Path(heartbeat).parent for heartbeat in self._heartbeats[1:])):
                shutil.rmtree(folder, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    path = (arguments or sys.argv[1:])[0]
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    stop = StopRequest(job)
    if job.get("folder"):
        keep_note(Path(job["folder"]) / CRASH_NOTE)
    alive = FileLock(job["alive"]) if job.get("alive") else None
    for _ in range(100 if alive else 0):  # others look at the lock, for a moment each
        if alive.acquire():
            break
        time.sleep(0.05)
    if job.get("parent") and hasattr(os, "nice"):
        os.nice(5)  # whoever waits in front of a window comes first
    watch = Watch(job, stop)
    watch.start()
    try:
        if job.get("kind") == "serve":
            serve(Path(job["folder"]), watch, stop)
            return 0
        return run_job(job, EventWriter(job["events"], paced_from=READ), stop)
    finally:
        watch.clean_up()
        if alive:
            alive.release()


if __name__ == "__main__":
    sys.exit(main())
