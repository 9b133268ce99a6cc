"""Many scans: which scan becomes which file, and the queue of command and panel, one or several at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..apply.factors import result_name
from ..apply.report import identity, reading_facts
from ..core.errors import Cancelled, OutputError, SuperResError, explained
from ..core.options import Options
from ..io.folders import report_path
from ..io.formats import stem_of
from ..models.card import ModelCard
from ..models.folder import default_model, told_model
from .job import UNFORESEEN, Job
from .pool import PoolWorker


@dataclass(frozen=True)
class FileTask:
    """One scan, one result, and how it is made.

    Attributes
    ----------
    source, target : Path
        Absolute; the source may be a folder of slices.
    card : ModelCard or None
        None takes the default for the voxel size that is asked for, which the scan's own decides.
    compress, spacing, series, override, as_dicom, patient_name, patient_id
        See `apply_to_file`.
    picture : Path or None
        Where a picture of scan and result goes.
    """

    source: Path
    target: Path
    card: ModelCard | None
    options: Options
    compress: bool = False
    spacing: Sequence[float] | None = None
    series: str | None = None
    override: bool = False
    as_dicom: bool = False
    patient_name: str | None = None
    patient_id: str | None = None
    picture: Path | None = None

    def start(self, worker: PoolWorker) -> Job:
        """Start the job that computes it, in a process that stays.

        Raises
        ------
        SuperResError
            If no worker can be started.
        """
        task = {
            "kind": "apply",
            "input": str(self.source),
            "output": str(self.target),
            "model": None if self.card is None else str(self.card.path.absolute()),
            "options": self.options.to_json(),
            "compress": self.compress,
            "spacing": self.spacing,
            "series": self.series,
            "override": self.override,
            "as_dicom": self.as_dicom,
            "patient_name": self.patient_name,
            "patient_id": self.patient_id,
            "threads": worker.threads,
            "picture": None if self.picture is None else str(self.picture),
        }
        return Job(task, worker=worker).start()

    def result_of(self, job: Job) -> Path:
        return self.target

    def is_up_to_date(self) -> bool:
        """Whether the result is there, and was made of the same scan, with the same model and options."""
        try:
            report = json.loads(report_path(self.target).read_text(encoding="utf-8"))
            now = {"input": identity(self.source), "output": identity(self.target)}
            unchanged = all(report[side][key] == value for side, facts in now.items() for key, value in facts.items())
            asked = {
                "options": self.options.to_json(),
                "reading": reading_facts(self.spacing, self.series, self.override),
            }
            # A report of an older version lacks the options that are newer, which then were as they are by default.
            told = {**report, "options": {**Options().to_json(), **report["options"]}}
            same = all(json.loads(json.dumps(told[key])) == json.loads(json.dumps(asked[key])) for key in asked)
            cards = [self.card] if self.card else self._possible_models(report["input"]["spacing_mm"])
            made_by = report["super_resolution"]["model_sha256"]
            return unchanged and same and made_by in [card.weights_sha256 for card in cards]
        except (
            SuperResError,
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
        ):  # whoever wrote it
            return False

    def _possible_models(self, spacing: Sequence[float]) -> list[ModelCard]:
        """The default for what is asked, and what is taken instead where the scanner asks for it."""
        usual = default_model(self.options, spacing)
        return [card for card in (usual, told_model(usual, self.options, spacing)) if card]


def target_in(folder: Path, source: Path, card: ModelCard | None, options: Options, as_dicom: bool = False) -> Path:
    """What a scan becomes in a folder: the file "<scan> SR x2.nrrd", or the DICOM folder "<scan> SR x2"."""
    name = result_name(_stem(source), card, options)
    return folder / (name if as_dicom else f"{name}.nrrd")


def _stem(path: Path) -> str:
    return path.resolve().name if path.is_dir() else stem_of(path)


def make_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    OutputError
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.", "Choose another one.") from error


class State(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINISHED = (State.DONE, State.SKIPPED)


class Item:
    """Something in a queue, and what became of it.

    Attributes
    ----------
    source
        What is computed: a file, or a volume node of Slicer.
    task
        How: `FileTask`, or what has its methods `is_up_to_date`, `start`, `result_of`, and its `target`.
    fraction : float
        From 0 to 1.
    seconds : float
        That it took.
    tries : int
        How often it was begun.
    worker
        Who has it, or had it last: a `PoolWorker`, or the address of one of Dask's.
    result
        A file or a volume node.
    error : SuperResError or None
    """

    def __init__(self, source, task: FileTask | None = None) -> None:
        self.source, self.task = source, task
        self.tries, self.worker = 0, None
        self.reset()

    def reset(self) -> None:
        """Let it wait again."""
        self.state, self.fraction, self.seconds, self.message = State.WAITING, 0.0, 0.0, ""
        self.remaining: float | None = None
        self.result = None
        self.error: SuperResError | None = None
        self.warnings: list[str] = []

    @property
    def isFile(self) -> bool:
        return isinstance(self.source, Path)

    @property
    def name(self) -> str:
        return self.source.name if self.isFile else self.source.GetName()


@dataclass
class _Running:
    """An item that is being computed."""

    item: Item
    worker: PoolWorker
    since: float
    job: Job | None = None


class Queue:
    """Works through items, so many at a time; one that fails does not hinder the others.

    >>> queue = Queue([Item(task.source, task) for task in tasks])
    >>> queue.begin(queue.items, skip=True)
    >>> while queue.isBusy:
    ...     queue.poll()                      # from a timer or a loop

    The processes that compute stay until the queue has ended, and keep the model.

    Attributes
    ----------
    items : list of Item
    started : list of Item
        Those that the last start was about.
    isCancelling : bool
    """

    def __init__(self, items: Sequence[Item] = ()) -> None:
        self.items = list(items)
        self.started: list[Item] = []
        self.isCancelling = False
        self._skip, self._tries = False, 1
        self._waiting: list[Item] = []
        self._running: list[_Running] = []
        self._idle: list[PoolWorker] = []

    @property
    def unfinished(self) -> list[Item]:
        """What has no result."""
        return [item for item in self.items if item.state not in FINISHED]

    @property
    def failed(self) -> list[Item]:
        """What was to be computed and has no result, whatever kept it from one: an error, or a cancel."""
        return [item for item in self.items if item.state in (State.FAILED, State.CANCELLED)]

    @property
    def fraction(self) -> float:
        """Progress of what was started, from 0 to 1."""
        return sum(item.fraction for item in self.started) / max(1, len(self.started))

    @property
    def isBusy(self) -> bool:
        return bool(self._running or self._waiting)

    def begin(self, items: Sequence[Item], skip: bool, workers: Sequence[PoolWorker] = (), tries: int = 1) -> None:
        """Begin with some of the items; `poll` does the rest.

        Parameters
        ----------
        skip : bool
            Whether items whose result is there and up to date are left out.
        workers : sequence of PoolWorker
            Each computes one item at a time; without, there is one. They are closed at the end.
        tries : int
            Of an item whose process dies, or that fails in a way that nobody foresaw.
        """
        self.started, self._waiting, self.isCancelling, self._skip = list(items), list(items), False, skip
        self._tries = tries
        self._idle = list(workers) or [PoolWorker()]
        for item in items:
            item.tries = 0
            item.reset()

    def task_of(self, item: Item) -> FileTask:
        """How an item is computed.

        Raises
        ------
        SuperResError
            If it cannot be.
        """
        return item.task

    def poll(self) -> None:
        """Go on; takes at most about 50 ms, and as much for every item that is being computed."""
        count = len(self._running)
        for running in list(self._running):
            try:
                job, item = running.job, running.item
                job.poll()
                item.fraction, item.message, item.remaining = job.fraction, job.message, job.remaining
                if job.isFinished:
                    self._end(running, job.error)
            except Exception as error:  # one that fails does not hinder the others
                self._end(running, explained(error))
        if self._waiting and self._idle and len(self._running) == count:  # after an end others may want to cancel
            self._begin(_Running(self._waiting.pop(0), self._idle.pop(0), time.monotonic()))
        if not self.isBusy:
            self._let_workers_go()

    def cancel(self) -> None:
        """Stop what is running and begin with nothing else; `poll` until it is no longer busy."""
        self.isCancelling = True
        for item in self._waiting:
            item.state = State.CANCELLED
        self._waiting = []
        for running in self._running:
            running.job.cancel()

    def close(self) -> None:
        """End everything at once."""
        self.cancel()
        for running in list(self._running):
            running.job.close()
            self._end(running, Cancelled())
        self._let_workers_go()

    def _begin(self, running: _Running) -> None:
        item = running.item
        self._running.append(running)
        item.state, item.worker = State.RUNNING, running.worker
        item.tries += 1
        try:
            item.task = self.task_of(item)
            if self._skip and item.task.is_up_to_date():
                item.state, item.fraction, item.result = State.SKIPPED, 1.0, item.task.target
                self._leave(running)
            else:
                running.job = item.task.start(running.worker)
        except Exception as error:
            self._end(running, explained(error))

    def _end(self, running: _Running, error: SuperResError | None) -> None:
        job, item = running.job, running.item
        self._leave(running)
        if error and error.exit_code in UNFORESEEN and item.tries < self._tries and not self.isCancelling:
            if job is not None:
                job.close()
            item.reset()
            self._waiting.insert(0, item)
            return
        item.seconds = time.monotonic() - running.since
        item.fraction, item.error = 1.0, error
        if job is not None:
            job.close()
            item.warnings = list(job.warnings)
            try:
                item.result = None if error else item.task.result_of(job)
            except Exception as failure:
                error = item.error = explained(failure)
        if self.isCancelling and isinstance(error, Cancelled):
            item.state = State.CANCELLED
        else:  # what somebody else cancelled, who removed the volume or stopped the process, can be tried again
            item.state = State.FAILED if error else State.DONE

    def _leave(self, running: _Running) -> None:
        self._running.remove(running)
        self._idle.append(running.worker)

    def _let_workers_go(self) -> None:
        for worker in self._idle:
            worker.close()
        self._idle = []
