"""Loaded volumes and files, super-resolved one after the other; polled from a timer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import (
    Cancelled,
    InputError,
    OptionError,
    OutputError,
    SuperResError,
)
from ..core.options import Options
from ..jobs.job import WorkerProcess
from ..jobs.queue import FileTask, target_in
from ..models.card import ModelCard

if TYPE_CHECKING:
    import slicer

    from .jobs import SuperResJob
    from .logic import SuperResLogic


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = (State.DONE, State.SKIPPED)


@dataclass(frozen=True)
class Recipe:
    """What is done to every item of a batch.

    Attributes
    ----------
    options : Options
        Without a ROI, which is a place in one volume.
    folder : Path or None
        Where the results of files go; results of volumes become volumes.
    skip : bool
        Whether files whose result is there and up to date are left out.
    """

    card: ModelCard
    options: Options
    folder: Path | None = None
    skip: bool = True


class BatchItem:
    """One volume node or file, and what became of it.

    Attributes
    ----------
    source : vtkMRMLScalarVolumeNode or Path
    fraction : float
        From 0 to 1.
    seconds : float
        That it took.
    result : vtkMRMLScalarVolumeNode, Path or None
    error : SuperResError or None
    """

    def __init__(self, source: slicer.vtkMRMLScalarVolumeNode | Path) -> None:
        self.source = source
        self.reset()

    def reset(self) -> None:
        self.state, self.fraction, self.seconds, self.message = State.WAITING, 0.0, 0.0, ""
        self.result: slicer.vtkMRMLScalarVolumeNode | Path | None = None
        self.error: SuperResError | None = None
        self.warnings: list[str] = []

    def forgetWhatIsGone(self) -> None:
        """Let go of a result that was removed from the scene, whose voxels would stay in memory."""
        if self.result is not None and not self.isFile and self.result.GetScene() is None:
            self.result = None

    @property
    def isFile(self) -> bool:
        return isinstance(self.source, Path)

    @property
    def name(self) -> str:
        return self.source.name if self.isFile else self.source.GetName()


class BatchQueue:
    """Works through items; one that fails does not hinder the next.

    >>> queue = BatchQueue(logic)
    >>> queue.setSources([node, Path("scan.nrrd")])
    >>> queue.start(Recipe(card, Options(), folder=Path("results")), queue.unfinished)
    >>> while queue.isBusy:
    ...     queue.poll()

    Parameters
    ----------
    logic : SuperResLogic
        Computes the volumes.
    worker : callable (job), optional
        Makes the worker that computes a file.

    Attributes
    ----------
    items : list of BatchItem
    started : list of BatchItem
        Those that the last start was about.
    isCancelling : bool
    """

    def __init__(self, logic: SuperResLogic, worker: Callable[[dict], WorkerProcess] = WorkerProcess) -> None:
        self.items: list[BatchItem] = []
        self._logic, self._worker = logic, worker
        self._recipe: Recipe | None = None
        self.started: list[BatchItem] = []
        self.isCancelling = False
        self._waiting: list[BatchItem] = []
        self._current: BatchItem | None = None
        self._job: SuperResJob | FileJob | None = None
        self._since = 0.0

    def setSources(self, sources: Sequence[slicer.vtkMRMLScalarVolumeNode | Path]) -> None:
        """What is in the queue; items of sources that were in it already stay as they are."""
        known = {item.source: item for item in self.items}
        self.items = [known.get(source) or BatchItem(source) for source in dict.fromkeys(sources)]
        self.started = [item for item in self.started if item in self.items]
        for item in self.items:
            item.forgetWhatIsGone()

    @property
    def unfinished(self) -> list[BatchItem]:
        """What has no result."""
        return [item for item in self.items if item.state not in FINISHED]

    @property
    def failed(self) -> list[BatchItem]:
        return [item for item in self.items if item.state is State.FAILED]

    @property
    def fraction(self) -> float:
        """Progress of what was started, from 0 to 1."""
        return sum(item.fraction for item in self.started) / max(1, len(self.started))

    def start(self, recipe: Recipe, items: Sequence[BatchItem]) -> None:
        """Begin with some of the items; `poll` does the rest.

        Raises
        ------
        OutputError
            If there are files among them and the folder for their results cannot be made.
        """
        if any(item.isFile for item in items):
            _make(recipe.folder)
        self._recipe = replace(recipe, options=replace(recipe.options, roi=None))
        self.started, self._waiting, self.isCancelling = list(items), list(items), False
        for item in items:
            item.reset()

    def poll(self) -> None:
        """Go on; takes at most about 50 ms."""
        try:
            if self._job is not None:
                self._follow()
            elif self._waiting:
                self._begin(self._waiting.pop(0))
        except SuperResError as error:
            self._end(error)

    def cancel(self) -> None:
        """Stop what is running and begin with nothing else; `poll` until it is no longer busy."""
        self.isCancelling = True
        for item in self._waiting:
            item.state = State.CANCELLED
        self._waiting = []
        if self._job is not None:
            self._job.cancel()

    def close(self) -> None:
        """End everything at once."""
        self.cancel()
        if self._job is not None:
            self._job.close()
            self._end(Cancelled())

    @property
    def isBusy(self) -> bool:
        return self._job is not None or bool(self._waiting)

    def _begin(self, item: BatchItem) -> None:
        self._current, self._since = item, time.monotonic()
        item.state = State.RUNNING
        if not item.isFile:
            if item.source.GetScene() is None:
                raise InputError(f"The volume {item.name} was removed from the scene.", "Take it out of the list.")
            chosen = {field.name: getattr(self._recipe.options, field.name) for field in fields(Options)}
            self._job = self._logic.start(item.source, model=self._recipe.card.path, **chosen)
            return
        task = self._task(item)
        if self._recipe.skip and task.is_up_to_date():
            item.state, item.fraction, item.result = State.SKIPPED, 1.0, task.target
        else:
            self._job = FileJob(task, self._worker)

    def _task(self, item: BatchItem) -> FileTask:
        """
        Raises
        ------
        OptionError
            If another item would become the same file.
        """
        card, options, folder = self._recipe.card, self._recipe.options, self._recipe.folder.absolute()
        target = target_in(folder, item.source, card, options)
        before = self.items[: self.items.index(item)]
        if any(other.isFile and target_in(folder, other.source, card, options) == target for other in before):
            raise OptionError(f"Another scan becomes {target.name}, too.", "Rename one of them.")
        return FileTask(item.source.absolute(), target, card, options)

    def _follow(self) -> None:
        job, item = self._job, self._current
        job.poll()
        item.fraction, item.message = job.fraction, job.message
        if job.isFinished:
            self._end(job.error)

    def _end(self, error: SuperResError | None) -> None:
        job, item = self._job, self._current
        self._job = self._current = None
        item.seconds = time.monotonic() - self._since
        item.fraction, item.error = 1.0, error
        if job is not None:
            job.close()
            item.warnings = list(job.warnings)
            item.result = None if error else job.outputVolume
        if isinstance(error, Cancelled):
            item.state = State.CANCELLED
        else:
            item.state = State.FAILED if error else State.DONE


class FileJob:
    """A file that a worker computes, with the face of a `SuperResJob`.

    Attributes
    ----------
    outputVolume : Path
        The result.
    """

    def __init__(self, task: FileTask, worker: Callable[[dict], WorkerProcess]) -> None:
        self.outputVolume = task.target
        self._worker = worker(task.to_job())
        try:
            self._worker.start()
        except BaseException:
            self._worker.close()
            raise

    def poll(self) -> None:
        self._worker.poll()

    def cancel(self) -> None:
        self._worker.cancel()

    def close(self) -> None:
        self._worker.close()

    @property
    def fraction(self) -> float:
        return self._worker.fraction

    @property
    def message(self) -> str:
        return self._worker.message

    @property
    def isFinished(self) -> bool:
        return self._worker.finished

    @property
    def error(self) -> SuperResError | None:
        return self._worker.error

    @property
    def warnings(self) -> list[str]:
        return self._worker.warnings


def _make(folder: Path | None) -> None:
    if folder is None:
        raise OutputError("No folder is chosen for the results of the files.", "Choose one.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.", "Choose another one.") from error
