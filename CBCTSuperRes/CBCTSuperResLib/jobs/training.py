"""Jobs of training, seen from a timer or a loop: polled, waited for, stopped. No torch, no Slicer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, SuperResError
from ..training.runs import read_run
from ..training.watch.table import STEP, Row
from .elsewhere import RunElsewhere
from .lasting import LastingJob, is_going_on
from .record import RunRecord
from .worker_process import WorkerProcess

POLL_INTERVAL_S = 0.05

Progress = Callable[[float, str], None]


def jobFolder(run: str | Path) -> Path:
    """Where the files of the worker that computes a run are; not in its folder, which a new run of the name moves."""
    run = Path(run)
    return run.parent / ".worker" / run.name


def workerOf(run: Path) -> LastingJob | RunElsewhere:
    """What tells how the training in a run's folder goes, whoever started it.

    Raises
    ------
    InputError
        If there is nothing to tell.
    """
    files = jobFolder(run)
    status = read_run(run)
    if not is_going_on(files) and status and status.state == "running":
        return RunElsewhere(run)
    try:
        return LastingJob.attach(files)
    except InputError as error:
        raise InputError(f"No training of {run.name} is going on.", "Resume it, or start a new one.") from error


class Task:
    """A piece of work in a process of its own. Call `poll` from a timer until `isFinished`, or `wait`.

    Attributes
    ----------
    isFinished : bool
    error : SuperResError or None
        Why there is no report; `Cancelled` if the user asked for that.
    report : dict or None
        What was done.
    """

    def __init__(self, worker: WorkerProcess, breathe: Callable[[], None] | None = None) -> None:
        self.isFinished = False
        self.error: SuperResError | None = None
        self.report: dict | None = None
        self._worker = worker
        self._breathe = breathe or (lambda: time.sleep(POLL_INTERVAL_S))

    @property
    def fraction(self) -> float:
        """Progress from 0 to 1."""
        return self._worker.fraction

    @property
    def message(self) -> str:
        """The stage in words."""
        return self._worker.message

    @property
    def remaining(self) -> float | None:
        """Seconds to go, if they are known."""
        return self._worker.remaining_s

    @property
    def warnings(self) -> list[str]:
        return self._worker.warnings

    def poll(self) -> None:
        """Look what the worker did; takes a moment at most."""
        if self.isFinished:
            return
        for event in self._worker.poll():
            self._take(event)
        if self._worker.finished:
            self._finish()

    def wait(self, progress: Progress | None = None) -> dict:
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
        """Ask to stop; a later `poll` ends the work with the error `Cancelled`."""
        self._worker.cancel()

    def close(self) -> None:
        """End the work if it goes on. Safe at any time, and more than once."""
        if not self.isFinished:
            self._finish()

    def _take(self, event: dict) -> None:
        """What a kind of work tells besides progress."""

    def _finish(self) -> None:
        self._worker.close()
        self.isFinished = True
        self.error, self.report = self._worker.error, self._worker.result


class TrainingJob(Task):
    """One training on its way.

    >>> job = CBCTSuperResTrainingLogic().start("options.json")
    >>> while not job.isFinished:
    ...     job.poll()
    ...     print(job.step, job.niter, job.remaining, job.history[-1:])

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
    """

    def __init__(self, worker: LastingJob, folder: Path, niter: int, breathe: Callable[[], None] | None = None) -> None:
        super().__init__(worker, breathe)
        self.name, self.folder = folder.name, folder
        self.step, self.niter, self.device = 0, niter, ""
        self.history: list[Row] = []
        self.validations: list[Row] = []
        self.picture: Path | None = None
        self.saved = 0
        self._isStopping = self._hasBegun = False

    @property
    def message(self) -> str:
        if self.isStopping:
            return f"Stopping after step {self.step + 1}"
        return super().message

    @property
    def isDetached(self) -> bool:
        """Whether the training goes on when this program ends."""
        return self._worker.is_detached

    @property
    def isElsewhere(self) -> bool:
        """Whether it was not started in Slicer, so that it cannot be stopped here."""
        return isinstance(self._worker, RunElsewhere)

    @property
    def isStopping(self) -> bool:
        """Whether it was asked to stop and has not ended yet."""
        return self._isStopping and not self.isFinished

    def stop(self) -> None:
        """Ask to stop: the step that is being computed is finished and its checkpoint saved.

        Raises
        ------
        InputError
            If the training was started elsewhere.
        """
        self._worker.cancel()
        self._isStopping = True

    cancel = stop

    def kill(self) -> None:
        """End the training now; what was computed since the last checkpoint is lost.

        Raises
        ------
        InputError, OutputError
            If it was started elsewhere, or runs on another computer.
        """
        self._worker.cancel()
        self._worker.kill()

    def detach(self, detached: bool = True) -> None:
        """Let the training go on when this program ends; `TrainingLogic.attach` finds it again. Or not, after all."""
        self._worker.detach(detached)

    def close(self) -> None:
        """Let go of the training: a detached one goes on, another saves its checkpoint and stops by itself."""
        super().close()

    def _take(self, event: dict) -> None:
        kind = event["event"]
        if kind == "run":
            self._begin(event)
        elif kind == "progress":
            self.step = max(self.step, round(event["fraction"] * self.niter))
        elif kind == "scalars":
            self._append(self.history, {STEP: event["step"], **event["values"]})
        elif kind == "validated":
            self._append(self.validations, {STEP: event["step"], **event["values"]})
            self.picture = Path(event["picture"]) if event["picture"] else self.picture
        elif kind == "saved":
            self.saved = event["step"]

    def _begin(self, event: dict) -> None:
        """The run goes on from a step; what was recorded until then is in its curves."""
        self.name, self.folder = event["name"], Path(event["folder"])
        self.step, self.niter, self.device = event["step"], event["niter"], event["device"]
        self._hasBegun = True
        self.warnings.extend(event["notes"])
        self._readCurves()

    def _readCurves(self) -> None:
        """Take what was recorded until now; events tell a part of it."""
        record = RunRecord.of(self.folder, until=self.step)
        self.history, self.validations = record.history, record.validations
        self.picture = record.picture or self.picture

    @staticmethod
    def _append(rows: list[Row], row: Row) -> None:
        while rows and rows[-1][STEP] >= row[STEP]:
            rows.pop()
        rows.append(row)

    def _finish(self) -> None:
        super()._finish()
        status = read_run(self.folder) if self._hasBegun else None
        if status:
            self.step = status.step
            self._readCurves()
