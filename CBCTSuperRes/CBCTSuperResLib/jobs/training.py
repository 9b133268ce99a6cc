"""A training that was started elsewhere, for instance in a terminal: watched through its run's folder.

Jobs of training, seen from a timer or a loop: polled, waited for, stopped. No torch, no Slicer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.errors import Cancelled, InputError, SuperResError
from ..core.progress import ProgressMeter
from ..train.curves import STEP, Row, read_curves
from ..train.run_folder import CURVES, PICTURES, RunInfo, RunRecord, newest_picture, parts_of, read_run
from .job import JobState, LastingJob, WorkerError, WorkerProcess, is_going_on

INTERVAL_S = 1.0


class RunElsewhere(JobState):
    """Tells the same events as the worker of a `LastingJob`, from what the run writes for everybody.

    >>> run = RunElsewhere(folder)
    >>> while not run.finished:
    ...     for event in run.poll():
    ...         print(event)

    Parameters
    ----------
    folder : Path
        Of the run.
    clock : callable, optional
        Seconds.

    Raises
    ------
    InputError
        If nobody trains there.
    """

    is_detached = True

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(folder)
        self.finished = False
        self._clock, self._meter = clock, ProgressMeter(clock=clock)
        self._looked = -INTERVAL_S
        self._told = -1
        self._last: Row = {}
        self._size = 0
        self._seems_gone = False
        if self._status().state != "running":
            raise InputError(f"Nobody trains in {folder}.", "Resume the run, or begin anew.")

    def poll(self) -> list[dict]:
        """What happened since the last call, looked up once a second at most."""
        if self.finished or self._clock() - self._looked < INTERVAL_S:
            return []
        self._looked = self._clock()
        try:
            status = self._status()
        except InputError as error:
            return self._miss(error)
        events = [self._beginning(status)] if self._told < 0 else list(self._new_rows())
        events.append(self._progress(status))
        for event in events:
            self._take(event)
        self._end(status)
        return events

    def cancel(self) -> None:
        raise InputError(f"The training of {self.folder.name} was started elsewhere.", "Stop it there.")

    def kill(self) -> None:
        self.cancel()

    def detach(self, detached: bool = True) -> None:
        """It goes on anyway."""

    def close(self) -> None:
        """Look no longer; the training goes on."""
        if not self.finished:
            self.finished, self.error = True, Cancelled("No longer watched.")

    def _status(self) -> RunInfo:
        status = read_run(self.folder)
        if status is None:
            raise InputError(f"{self.folder} is no run.", "Choose the folder of a run.")
        return status

    def _beginning(self, status: RunInfo) -> dict:
        self._told = status.step
        known = [row for row in read_curves(self.folder / CURVES) if row[STEP] <= status.step]
        self._last = known[-1] if known else {}
        facts = {"name": status.name, "folder": str(status.folder), "step": status.step, "niter": status.niter}
        return {"event": "run", **facts, "device": "", "notes": []}

    def _new_rows(self) -> Iterator[dict]:
        """What was recorded since the last look; a validation joins the row of its step late."""
        size = (self.folder / CURVES).stat().st_size if (self.folder / CURVES).exists() else 0
        if size == self._size:
            return
        self._size = size
        for row in read_curves(self.folder / CURVES):
            if row[STEP] < self._told or row == self._last:
                continue
            known = self._last if row[STEP] == self._last.get(STEP) else {}
            self._told, self._last = row[STEP], row
            losses, measures = parts_of({name: row[name] for name in row if name not in known})
            if losses:
                yield {"event": "scalars", "step": row[STEP], "values": losses}
            if measures:
                picture = newest_picture(self.folder / PICTURES)
                yield {"event": "validated", "step": row[STEP], "values": measures, "picture": picture and str(picture)}

    def _progress(self, status: RunInfo) -> dict:
        self._meter.update(status.step / max(1, status.niter))
        message = f"Iteration {status.step:,d} of {status.niter:,d}"
        told = {"fraction": self._meter.fraction, "message": message, "remaining_s": self._meter.remaining_s}
        return {"event": "progress", **told}

    def _end(self, status: RunInfo) -> None:
        if status.state == "running" or self._may_be_mistaken(status):
            return
        self.finished = True
        if status.state == "finished":
            results = {"best": status.best}
            self.result = {"folder": str(status.folder), "step": status.step, "results": results}
        elif status.state == "stopped":
            self.error = Cancelled(f"The training was stopped after step {status.step}.", "Resume it to go on.")
        else:
            self.error = WorkerError(status.message or "The process of the training has gone.", "Resume the run.")

    def _miss(self, error: InputError) -> list[dict]:
        """A run that is missing at two looks has gone."""
        self.finished, self._seems_gone = self._seems_gone, True
        self.error = error if self.finished else None
        return []

    def _may_be_mistaken(self, status: RunInfo) -> bool:
        """One look may fall between two writings; a process that vanished is missing at the next look, too."""
        seemed_gone, self._seems_gone = self._seems_gone, status.state == "interrupted"
        return self._seems_gone and not seemed_gone


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
