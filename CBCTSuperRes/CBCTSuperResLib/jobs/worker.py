"""What a worker does for training, and what it tells meanwhile.

Jobs, beside what `worker` says of all jobs:

- "train": ``options`` (JSON of `TrainingOptions`, or a path), ``resume`` (None, "auto", or a checkpoint),
  ``accept_changes``, ``device``;
- "plan": ``options``, ``device``, ``measure``;
- "check": ``options``;
- "prepare": ``lr``, ``hr`` (scans, or folders of scans), ``out``, ``options`` (see `PrepareOptions`);
- "export": ``run``, ``out``, ``which`` ("best", "latest" or a step), ``texts`` (entries of the card).

The process that computes: `python -m CBCTSuperResLib.jobs.worker job.json`.

A job is a JSON object:

- ``kind``: "apply" with ``input``, ``output``, ``model``, ``options`` (see `Options`) and, optionally, ``compress``,
  ``spacing``, ``series``; "difference" with ``input``, ``result``, ``output`` (see `difference_to_file`);
  "preview" with ``model`` and, optionally, ``idle_s``: see `preview.server`; "import" with ``path`` (weights of another
  program) and ``models`` (a folder): see `importers.job`; "verify" with ``model``: see `Model.verify`; or "train",
  "plan", "check", "prepare", "export": see `worker_training`;
- ``events``: a file to which this process appends one JSON object a line, each with the key ``event``:
  "started" (pid, group, host), "progress" (fraction, message, remaining_s), "warning" (message), "done" (report) or
  "error" (what, advice, exit_code, detail); a training also tells "scalars" (step, values), "validated" (step,
  results, picture) and "saved" (step, path);
- ``cancel``: a file whose appearance means that the user asked to stop;
- ``heartbeat``: a file that is touched every second while this process is alive;
- ``alive``: a file that this process keeps locked while it lives;
- ``parent``: a file that the parent keeps locked; when the lock falls, the parent has died and this process stops,
  within ``grace_s`` seconds, removing the folder ``folder``. If the file ``detached`` is there by then, or there was
  no parent from the beginning, it goes on.

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
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..apply.difference import difference_to_file
from ..apply.file import READ, apply_to_file
from ..core.atomic import FileLock
from ..core.errors import Cancelled, OptionError, ResourceError, SuperResError
from ..core.events import EventWriter
from ..core.options import Options
from ..core.packages import require_packages
from ..core.processes import own_group

Stop = Callable[[], bool]


def train(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Run a training until it is done, or until it was asked to stop and its checkpoint is saved.

    Returns
    -------
    dict
        "folder", "step", "results" as of `RunResult`.

    Raises
    ------
    Cancelled
        If it was asked to stop; the run can be resumed.
    """
    require_packages()
    from ..train.checks import read_options
    from ..train.observer import Observer
    from ..train.run import train as run_training
    from ..train.run_folder import EVENTS

    class Begun(Observer):
        """Tells where the run tells how it goes."""

        def started(self, run) -> None:
            events.send("follow", path=str(run.folder / EVENTS))

    _say(events, "Preparing the data")
    try:
        result = run_training(
            read_options(job["options"]),
            resume=job.get("resume"),
            accept_changes=job.get("accept_changes", False),
            device=job.get("device"),
            observers=[Begun()],
            cancelled=stop,
        )
    except Cancelled as stopped:
        raise Cancelled(stopped.what, "Resume the run to go on from there.") from stopped
    return {"folder": str(result.folder), "step": result.step, "results": dict(result.results)}


def plan(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Tell what a training will take.

    Returns
    -------
    dict
        "text" for people, "seconds" in all, and the facts of `Plan` by their names.
    """
    from ..train.checks import read_options
    from ..train.plan import plan as plan_training

    _say(events, "Planning")
    found = plan_training(read_options(job["options"]), job.get("device"), measure=job.get("measure", False))
    names = ("missing", "problems", "micro_batch", "memory_bytes", "free_bytes", "seconds_per_step", "seconds")
    return {
        "text": found.text(),
        "device": str(found.device),
        **{name: getattr(found, name) for name in (*names, "measured")},
    }


def check(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Look at the data of a training, as its first step would.

    Returns
    -------
    dict
        See `check_data`.
    """
    require_packages()
    from ..train.checks import read_options
    from ..train.data.inspect import check_data

    return check_data(read_options(job["options"]), events.progress, stop)


def prepare(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Register scans and write aligned pairs; the report is that of `training.prepare.prepare`."""
    require_packages()
    from ..prepare import prepare as prepare_pairs
    from ..prepare.options import PrepareOptions

    options = PrepareOptions.from_json(job.get("options", {}))
    return prepare_pairs(job["lr"], job["hr"], job["out"], options, events.progress, stop)


def export(job: dict, events: EventWriter, stop: Stop) -> dict:
    """Write the model file of a run.

    Returns
    -------
    dict
        "model", the file that was written.
    """
    require_packages()
    from ..train.export import export_run

    texts = job.get("texts")
    path = export_run(job["run"], job["out"], job.get("which", "best"), texts=texts, progress=events.progress)
    return {"model": str(path)}


def _say(events: EventWriter, message: str) -> None:
    events.send("progress", fraction=0.0, message=message, remaining_s=None)


WATCH_INTERVAL_S = 1.0
GRACE_S = 5.0


class StopRequest:
    """Whether this process should stop: asked by file, by signal, or because its parent has died."""

    def __init__(self, job: dict) -> None:
        self._cancel_file = job.get("cancel")
        self._stopped = False
        signal.signal(signal.SIGTERM, lambda *_: self.stop())

    def stop(self) -> None:
        self._stopped = True

    def __call__(self) -> bool:
        return self._stopped or bool(self._cancel_file and os.path.exists(self._cancel_file))


class Watch(threading.Thread):
    """Shows that this process lives, and ends it, folder included, when the parent has died."""

    def __init__(self, job: dict, stop: StopRequest) -> None:
        super().__init__(daemon=True)
        self._heartbeat, self._folder, self._stop_request = job.get("heartbeat"), job.get("folder"), stop
        self._parent = FileLock(job["parent"]) if job.get("parent") else None
        self._detached, self._grace_s = job.get("detached"), job.get("grace_s", GRACE_S)
        self._pulse = 0
        self._orphaned = False

    def run(self) -> None:
        while True:
            with suppress(OSError):  # a disk that is away for a moment must not end a training of days
                self._beat()
            with suppress(OSError):
                if self._parent and self._parent.acquire():
                    self._go_on_without_parent()
            time.sleep(WATCH_INTERVAL_S)

    def clean_up(self) -> None:
        """Remove what the parent would have removed, if it has died."""
        if self._orphaned and self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _beat(self) -> None:
        if self._heartbeat:
            self._pulse += 1
            Path(self._heartbeat).write_text(str(self._pulse), encoding="ascii")

    def _go_on_without_parent(self) -> None:
        if self._detached and os.path.exists(self._detached):
            self._parent.release()
            self._parent = None
            return
        self._orphaned = True
        self._stop_request.stop()
        time.sleep(self._grace_s)
        self.clean_up()
        os._exit(Cancelled.exit_code)


def run_job(job: dict, events: EventWriter, stop: Callable[[], bool]) -> int:
    """Do the job and tell its end as an event; the return value is the exit code."""
    events.send("started", pid=os.getpid(), group=own_group(), host=platform.node())
    try:
        report = _kind_of(job)(job, events, stop)
    except SuperResError as error:
        return _fail(events, error, "" if isinstance(error, Cancelled) else traceback.format_exc())
    except MemoryError:
        full = ResourceError("The memory is full.", "Choose a ROI, axial planes or an integer type.")
        return _fail(events, full, traceback.format_exc())
    except Exception as error:
        what = f"The program failed: {type(error).__name__}: {error}."
        return _fail(events, SuperResError(what, "Report it with the details."), traceback.format_exc())
    for warning in report.get("warnings", ()):
        events.send("warning", message=warning)
    events.send("done", report=report)
    return 0


def _kind_of(job: dict) -> Callable[[dict, EventWriter, Callable[[], bool]], dict]:
    if job.get("kind") not in KINDS:
        raise OptionError(f"There is no job of the kind {job.get('kind')!r}.")
    return KINDS[job["kind"]]


def _apply(job: dict, events: EventWriter, stop: Callable[[], bool]) -> dict:
    require_packages()
    return apply_to_file(
        job["input"],
        job["output"],
        job.get("model"),
        Options.from_json(job.get("options", {})),
        events.progress,
        stop,
        compress=job.get("compress", False),
        spacing=job.get("spacing"),
        series=job.get("series"),
    )


def _difference(job: dict, events: EventWriter, stop: Callable[[], bool]) -> dict:
    return difference_to_file(job["input"], job["result"], job["output"], events.progress, stop)


def _preview(job: dict, events: EventWriter, stop: Callable[[], bool]) -> dict:
    require_packages()
    from .preview_server import IDLE_S, PreviewServer

    server = PreviewServer(Path(job["folder"]), events.send, stop, job.get("idle_s", IDLE_S))
    return server.serve(job["model"])


def _import(job: dict, events: EventWriter, stop: Callable[[], bool]) -> dict:
    require_packages()
    from ..apply.calibration import import_model

    return import_model(job["path"], job["models"], events.progress, stop)


def _verify(job: dict, events: EventWriter, stop: Callable[[], bool]) -> dict:
    require_packages()
    from ..models.model import Model

    return {"checks": Model.load(job["model"]).verify()}


KINDS = {
    "apply": _apply,
    "import": _import,
    "verify": _verify,
    "difference": _difference,
    "preview": _preview,
    "train": train,
    "plan": plan,
    "check": check,
    "prepare": prepare,
    "export": export,
}


def _fail(events: EventWriter, error: SuperResError, detail: str) -> int:
    events.send("error", what=error.what, advice=error.advice, exit_code=error.exit_code, detail=detail)
    return error.exit_code


def main(arguments: list[str] | None = None) -> int:
    path = (arguments or sys.argv[1:])[0]
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    stop = StopRequest(job)
    alive = _hold(job.get("alive"))
    if job.get("parent") and hasattr(os, "nice"):
        os.nice(5)  # whoever waits in front of a window comes first
    watch = Watch(job, stop)
    watch.start()
    try:
        return run_job(job, EventWriter(job["events"], paced_from=READ), stop)
    finally:
        watch.clean_up()
        if alive:
            alive.release()


def _hold(path: str | None) -> FileLock | None:
    """Lock a file for as long as this process lives; others may look at the lock, for a moment each."""
    if path is None:
        return None
    lock = FileLock(path)
    for _ in range(100):
        if lock.acquire():
            break
        time.sleep(0.05)
    return lock


if __name__ == "__main__":
    sys.exit(main())
