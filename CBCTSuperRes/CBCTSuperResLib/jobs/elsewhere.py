"""A training that was started elsewhere, for instance in a terminal: watched through its run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import Cancelled, InputError
from ..progress import ProgressMeter
from ..training.runs import RunInfo, newest_picture, read_run
from ..training.watch.table import STEP, Row, read_curves
from .record import CURVES, PICTURES, parts_of
from .state import JobState, WorkerError

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
