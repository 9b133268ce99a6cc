"""A training as a job: what its run tells while it goes on, wherever it was started. No torch, no Slicer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..core.errors import Cancelled, InputError
from ..core.events import EventReader
from ..train.curves import STEP, Row
from ..train.run_folder import EVENTS, RunRecord, read_run
from .job import Job, WorkerError
from .liveness import is_going_on

STATUS_INTERVAL_S = 1.0


def worker_folder(run: str | Path) -> Path:
    """Where the files of the worker that computes a run are; not in its folder, which a new run of the name moves."""
    run = Path(run)
    return run.parent / ".worker" / run.name


class TrainingJob(Job):
    """One training on its way.

    >>> job = CBCTSuperResTrainingLogic().start("options.json")
    >>> while not job.isFinished:
    ...     job.poll()
    ...     print(job.step, job.niter, job.remaining, job.history[-1:])

    Parameters
    ----------
    task : dict
        See `worker`; empty for `attach`.
    run : Path
        Folder of the run.
    niter : int
        The last iteration of the run, until the run itself tells.
    breathe : callable, optional

    Attributes
    ----------
    name, folder : str, Path
        Of the run.
    step, niter : int
        The last iteration that is known to be done, and the last of the run.
    device : str
        What it computes on; "" until that is known.
    history : list of dict
        Rows of the curves: "step" and the losses that were logged, oldest first.
    validations : list of dict
        Rows with "step" and what was measured ("psnr", "psnr_cubic", ...), oldest first.
    picture : Path or None
        The newest picture of a validation.
    saved : int
        The step of the newest checkpoint of this sitting; 0 before the first.
    isElsewhere : bool
        Whether it was not started in Slicer, so that it cannot be stopped here.
    """

    def __init__(self, task: dict, run: Path, niter: int = 0, breathe: Callable[[], None] | None = None) -> None:
        super().__init__(task, worker_folder(run), lasting=True, breathe=breathe)
        self.name, self.folder = run.name, run
        self.step, self.niter, self.device = 0, niter, ""
        self.history: list[Row] = []
        self.validations: list[Row] = []
        self.picture: Path | None = None
        self.saved = 0
        self.isElsewhere = False
        self._has_begun = self._seems_gone = False
        self._interval = 1
        self._looked = -STATUS_INTERVAL_S

    @classmethod
    def attach(cls, run: Path, niter: int = 0, breathe: Callable[[], None] | None = None) -> TrainingJob:
        """The training in a run's folder, whoever started it: this program, an earlier one, or a terminal.

        Of one that was started in Slicer and has ended meanwhile, the first `poll` tells the result.

        Raises
        ------
        InputError
            If there is nothing to watch.
        """
        job, status = cls({}, run, niter, breathe), read_run(run)
        if status and status.state == "running" and not is_going_on(job.files):
            job.isElsewhere = job._is_attached = job._has_begun = True
            job._readers = [EventReader(run / EVENTS)]
            job.step = status.step
            job._read_curves()
            return job
        try:
            job._attach()
        except InputError as error:
            raise InputError(f"No training of {run.name} is going on.", "Resume it, or start a new one.") from error
        return job

    @property
    def message(self) -> str:
        return f"Stopping after step {self.step + 1}" if self.isStopping else super().message

    @property
    def isDetached(self) -> bool:
        """Whether the training goes on when this program ends."""
        return self.isElsewhere or super().isDetached

    @property
    def isStopping(self) -> bool:
        """Whether it was asked to stop and has not ended yet."""
        return self._cancelled_at is not None and not self.isFinished

    def stop(self) -> None:
        """Ask to stop: the step that is being computed is finished and its checkpoint saved.

        Raises
        ------
        InputError
            If the training was started elsewhere.
        OutputError
            If it cannot be told.
        """
        if self.isElsewhere:
            raise InputError(f"The training of {self.folder.name} was started elsewhere.", "Stop it there.")
        super().cancel()

    cancel = stop

    def kill(self) -> None:
        """End the training now; what was computed since the last checkpoint is lost.

        Raises
        ------
        InputError, OutputError
            If it was started elsewhere, or runs on another computer.
        """
        self.stop()
        super().kill()

    def detach(self, detached: bool = True) -> None:
        """Let the training go on when this program ends; `TrainingLogic.attach` finds it again. Or not, after all."""
        if not self.isElsewhere:
            super().detach(detached)

    def _take(self, event: dict) -> None:
        super()._take(event)
        kind = event["event"]
        if kind == "run":  # it goes on from a step; what was recorded until then is in its curves
            self.name, self.folder = event["name"], Path(event["folder"])
            self.step, self.niter, self.device = event["step"], event["niter"], event["device"]
            self.warnings.extend(event["notes"])
            self._interval = event["options"]["logger"]["print_freq"] if event.get("options") else 1
            self._has_begun = True
            self._read_curves()
        elif kind == "progress":
            self.step = max(self.step, event.get("step", 0))
        elif kind == "scalars":
            self._leave_passing()
            self._append(self.history, {STEP: event["step"], **event["values"]})
        elif kind == "validated":
            self._append(self.validations, {STEP: event["step"], **event["values"]})
            self.picture = Path(event["picture"]) if event["picture"] else self.picture
        elif kind == "saved":
            self.saved = event["step"]

    def _leave_passing(self) -> None:
        """The newest losses are shown whatever their step; once newer ones come, those that the curves keep."""
        if self.history and self.history[-1][STEP] % self._interval and self.history[-1][STEP] > 1:
            self.history.pop()

    @staticmethod
    def _append(rows: list[Row], row: Row) -> None:
        while rows and rows[-1][STEP] >= row[STEP]:
            rows.pop()
        rows.append(row)

    def _read_curves(self) -> None:
        """Take what was recorded until now; events tell what follows."""
        record = RunRecord.of(self.folder, until=self.step)
        self.history, self.validations = record.history, record.validations
        self.picture = record.picture or self.picture

    def _has_ended(self) -> bool:
        if not self.isElsewhere:
            return super()._has_ended()
        self._look_at_status()
        return self.report is not None or self.error is not None

    def _look_at_status(self) -> None:
        """Of a training that was started elsewhere, the run's status tells the end."""
        now = time.monotonic()
        if now - self._looked < STATUS_INTERVAL_S:
            return
        self._looked = now
        status = read_run(self.folder)
        seemed_gone, self._seems_gone = self._seems_gone, status is None or status.state == "interrupted"
        if self._seems_gone and not seemed_gone:  # this look may fall between two writings
            return
        if status is None:
            self.error = InputError(f"{self.folder} is no run.", "Choose the folder of a run.")
        elif status.state == "finished":
            self.report = {"folder": str(self.folder), "step": status.step, "results": {"best": status.best}}
        elif status.state == "stopped":
            self.error = Cancelled(f"The training was stopped after step {status.step}.", "Resume it to go on.")
        elif status.state != "running":
            self.error = WorkerError(status.message or "The process of the training has gone.", "Resume the run.")

    def _finish(self) -> None:
        super()._finish()
        status = read_run(self.folder) if self._has_begun else None
        if status:
            self.step = status.step
            self._read_curves()

    def _clear_away(self) -> None:
        if not self.isElsewhere:
            super()._clear_away()
