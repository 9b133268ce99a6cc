"""Training of models from Slicer: plain classes that show nothing, need no application and, up to the start, no torch.

From Slicer's Python console, a training in three lines::

    from CBCTSuperResTraining import CBCTSuperResTrainingLogic as Training
    job = Training().start("options.json", ["train.niter=20000"], detached=True)   # goes on when Slicer is closed
    job.wait(lambda fraction, message: print(f"{fraction:.0%} {message}"))         # or look now and then: job.poll()

The run in a later session, and its model, which CBCTSuperRes lists from then on::

    job = Training().attach(Training().runs("/home/me/training")[0])
    Training().useModel(job.folder, "My scanner").wait()
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.errors import InputError, ModelError, OutputError
from ..io.raw_nrrd import write_raw_nrrd
from ..jobs.job import Job
from ..jobs.liveness import is_going_on
from ..jobs.training import TrainingJob, worker_folder
from ..models.folder import SUFFIX, list_models, user_models_folder
from ..prepare.options import PrepareOptions
from ..train.checks import missing
from ..train.options import TrainingOptions
from ..train.options_file import read_options, with_absolute_paths
from ..train.run_folder import RunInfo, RunRecord, list_runs, read_run
from .logic import letTheApplicationBreathe as breathe
from .logic import temporaryFolder
from .training_volumes import (
    Data,
    Scan,
    Steps,
    fileName,
    finished,
    suggestWindow,
    volumeInWorld,
    withVolumes,
    writingVolumes,
)

OPTIONS_FILE = "options.json"


class TrainingLogic:
    """What module panel, Python console and scripts use to train models.

    >>> logic = CBCTSuperResTrainingLogic()
    >>> job = logic.start("options.json")                             # a process of its own; does not wait
    >>> while not job.isFinished:
    ...     job.poll()                                                # from a timer, or `job.wait()`
    >>> logic.useModel(job.folder, "My scanner").wait()               # CBCTSuperRes lists it

    Volumes of the scene can be the training data, alone or in pairs (low resolution, high resolution):

    >>> job = logic.start(options, volumes=[(coarseNode, fineNode)], validation=[(otherCoarseNode, otherFineNode)])
    """

    def readOptions(self, source: str | Path | Mapping, overrides: Sequence[str] = ()) -> TrainingOptions:
        """Read the JSON of a training; nothing of torch is needed.

        Raises
        ------
        OptionError
            With all that is wrong.
        """
        return read_options(source, overrides)

    def missing(self, options: TrainingOptions) -> list[str]:
        """Sentences about files and folders that are named or needed and not there."""
        return missing(options)

    def plan(self, options: TrainingOptions, device: str | None = None, measure: bool = False) -> Job:
        """What a training will take, found in a process of its own, because the answer may need torch.

        The task's report has "text", for people, and what `Plan` says: "device", "missing", "problems", "micro_batch",
        "memory_bytes", "free_bytes", "seconds_per_step", "seconds", "measured".

        Parameters
        ----------
        measure : bool
            Make a few iterations to see how long they take.
        """
        values = with_absolute_paths(options.to_json())
        return self._task({"kind": "plan", "options": values, "device": device, "measure": measure})

    def measurePace(self, trainings: Sequence[TrainingOptions]) -> Job:
        """Measure and remember what a step of each of these takes on this computer, see `train.pace`."""
        return self._task({"kind": "pace", "options": [options.to_json() for options in trainings]})

    def suggestWindow(self, scan: Scan) -> list[float]:
        """A normalisation range for a volume (node or file), [lo, hi] in grey values, that holds all its tissues."""
        return suggestWindow(scan)

    def checkData(self, options: TrainingOptions, *, volumes: Data = (), validation: Data = ()) -> Job:
        """Look at all images of a training in a process of its own; the task's report tells what was found.

        Parameters
        ----------
        options : TrainingOptions
        volumes, validation
            As of `start`.
        """
        if volumes or validation:
            options = withVolumes(options, train=volumes, validation=validation)
        return self._task({"kind": "check", "options": with_absolute_paths(options.to_json())})

    def readyOptions(
        self,
        options: TrainingOptions | str | Path | Mapping,
        overrides: Sequence[str] = (),
        *,
        volumes: Data = (),
        validation: Data = (),
    ) -> TrainingOptions:
        """The options with which `start` would start: overrides applied, volumes written, all paths absolute.

        Raises
        ------
        SuperResError
            What is wrong with options or volumes.
        """
        return finished(self.completing(options, overrides, volumes=volumes, validation=validation))

    def completing(
        self,
        options: TrainingOptions | str | Path | Mapping,
        overrides: Sequence[str] = (),
        *,
        volumes: Data = (),
        validation: Data = (),
    ) -> Steps:
        """`readyOptions` in small steps, for a timer; the generator returns the options."""
        if volumes or validation:
            options = yield from writingVolumes(options, overrides, train=volumes, validation=validation)
        elif overrides or not isinstance(options, TrainingOptions):
            options = read_options(getattr(options, "to_json", lambda: options)(), overrides)
        return read_options(with_absolute_paths(options.to_json()))

    def start(
        self,
        options: TrainingOptions | str | Path | Mapping,
        overrides: Sequence[str] = (),
        *,
        volumes: Data = (),
        validation: Data = (),
        resume: str | Path | None = None,
        acceptChanges: bool = False,
        device: str | None = None,
        detached: bool = False,
    ) -> TrainingJob:
        """Start a training in a process of its own and return at once.

        Parameters
        ----------
        options : TrainingOptions, path of a JSON file, or its content
        overrides : sequence of str
            "train.niter=1000" and the like.
        volumes, validation : sequence of nodes or paths, or of pairs of them (low resolution, high resolution)
            Images instead of those that the options name, see `withVolumes`. The nodes are never modified.
        resume : None, "auto" or a checkpoint
            None begins anew and moves an older run of the name aside; "auto" goes on from the last checkpoint.
        acceptChanges : bool
            Resume although the options have changed, see `changes`.
        device : str, optional
            Instead of the one in the options.
        detached : bool
            Go on when this program ends; see also `TrainingJob.detach`.

        Raises
        ------
        SuperResError
            What is wrong and what to do about it; nothing has been started.
        """
        options = self.readyOptions(options, overrides, volumes=volumes, validation=validation)
        run = options.run_folder
        _refuseIfGoingOn(run)
        task = {
            "kind": "train",
            "options": options.to_json(),
            "resume": resume if resume in (None, "auto") else str(Path(resume).absolute()),
            "accept_changes": acceptChanges,
            "device": device,
        }
        job = TrainingJob(task, run, int(options.train.niter), breathe)
        job.start()
        if detached:
            job.detach()
        return job

    def resume(self, run: RunInfo | str | Path, *, acceptChanges: bool = False, detached: bool = False) -> TrainingJob:
        """Go on with a run from its last checkpoint, with the options it has."""
        return self.start(self.optionsOf(run), resume="auto", acceptChanges=acceptChanges, detached=detached)

    def optionsOf(self, run: RunInfo | str | Path) -> TrainingOptions:
        """The options that a run was started with; name and root are those that its folder has now.

        Raises
        ------
        InputError
            If the folder is no run.
        """
        folder = _folder(run)
        if not (folder / OPTIONS_FILE).is_file():
            raise InputError(f"{folder} is no run: it has no {OPTIONS_FILE}.", "Choose the folder of a run.")
        where = {"name": folder.name, "path.root": str(folder.parents[1])}
        return read_options(folder / OPTIONS_FILE, [f"{key}={json.dumps(value)}" for key, value in where.items()])

    def changes(self, options: TrainingOptions) -> list[str]:
        """How these options differ from those of the run of their name, in sentences; empty if there is no such run.

        A run whose options have changed is resumed only with `acceptChanges`.
        """
        if not (Path(options.run_folder) / OPTIONS_FILE).is_file():
            return []
        return self.optionsOf(options.run_folder).differences(options)

    def runs(self, root: str | Path) -> list[RunInfo]:
        """The runs below a root folder (`path.root`), with their states."""
        return list_runs(root)

    def record(self, run: RunInfo | str | Path) -> RunRecord:
        """The curves of a run and its newest picture, also of one that does not go on."""
        return RunRecord.of(_folder(run))

    def hasNews(self, run: RunInfo | str | Path) -> bool:
        """Whether a training that was started in Slicer has ended without anybody watching; `attach` tells how."""
        folder = worker_folder(_folder(run))
        return (folder / "job.json").is_file() and not is_going_on(folder)

    def attach(self, run: RunInfo | str | Path) -> TrainingJob:
        """Watch a training that goes on, whoever started it: this session, an earlier one, or a terminal.

        One from a terminal cannot be stopped from here. Of one that was started in Slicer and has ended meanwhile,
        the first `poll` tells the result.

        Raises
        ------
        InputError
            If there is nothing to watch.
        """
        folder = _folder(run)
        job = TrainingJob.attach(folder, int(self.optionsOf(folder).train.niter), breathe)
        job.poll()
        return job

    def export(self, run: RunInfo | str | Path, out: str | Path, which: str | int = "best") -> Job:
        """Write the model file of a run: "best", "latest", or of a step whose weights were kept."""
        return self._task(_exportJob(run, out, which))

    def useModel(
        self, run: RunInfo | str | Path, name: str | None = None, which: str | int = "best", replace: bool = False
    ) -> Job:
        """Put the model of a run into the folder of the user's models, so that CBCTSuperRes lists it.

        Parameters
        ----------
        run : RunInfo or path
        name : str, optional
            Of the model's file; that of the run if it is not given.
        which : "best", "latest" or a step
        replace : bool
            Whether a model of the user's with that name may be replaced.

        Raises
        ------
        ModelError
            If there is a model of that name.
        OutputError
            If the folder cannot be made.
        """
        name = fileName(name or _folder(run).name)
        target = user_models_folder() / f"{name}{SUFFIX}"
        alike = name.casefold()
        taken = [e.path for e in list_models() if alike in (e.name.casefold(), e.path.stem.casefold())]
        if any(path.absolute() != target.absolute() for path in taken) or (taken and not replace):
            raise ModelError(f"There is a model called {name}: {taken[0]}.", "Choose another name.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {target.parent} cannot be made: {error}.") from error
        return self._task({**_exportJob(run, target, which), "texts": {"name": name}})

    def verifyModel(self, model: str | Path) -> Job:
        """Check the file of a model, and that its network still computes the same.

        The task's report has "checks": what was checked, whether it is right, and details, for each.
        """
        return self._task({"kind": "verify", "model": str(Path(model).absolute())})

    def prepare(self, low: Scan, high: Scan, out: str | Path, **options) -> Job:
        """Register low-resolution to high-resolution scans and write aligned pairs for training.

        Parameters
        ----------
        low, high : vtkMRMLScalarVolumeNode, or path
            Two scans of one object; or two folders of scans with the same names. Where transforms put nodes in the
            scene is where registration starts.
        out : path
            Folder to be made, for the pairs and the report.
        **options
            See `PrepareOptions`.
        """
        return finished(self.preparing(low, high, out, **options))

    def preparing(self, low: Scan, high: Scan, out: str | Path, **options) -> Steps:
        """`prepare`, whose volumes are handed over in small steps, for a timer; the generator returns the task."""
        chosen = PrepareOptions(**options)
        folder = temporaryFolder()
        try:
            job = {"kind": "prepare", "out": str(Path(out).absolute()), "options": chosen.to_json()}
            job["lr"] = yield from _handingOver(low, folder / "lr")
            job["hr"] = yield from _handingOver(high, folder / "hr")
            return self._task(job, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _task(self, task: dict, folder: Path | None = None) -> Job:
        return Job(task, folder or temporaryFolder(), breathe=breathe).start()


def _folder(run: RunInfo | str | Path) -> Path:
    return Path(getattr(run, "folder", run)).absolute()


def _refuseIfGoingOn(run: Path) -> None:
    status = read_run(run)
    if is_going_on(worker_folder(run)) or (status and status.state == "running"):
        raise InputError(f"The run {run.name} is going on.", "Stop it first, or give the new one another name.")


def _exportJob(run: RunInfo | str | Path, out: str | Path, which: str | int) -> dict:
    return {"kind": "export", "run": str(_folder(run)), "out": str(Path(out).absolute()), "which": which}


def _handingOver(scan: Scan, folder: Path) -> Steps:
    """The file of a scan; that of a node is written."""
    if isinstance(scan, str | Path):
        return str(Path(scan).absolute())
    folder.mkdir()
    path = folder / f"{fileName(scan.GetName())}.nrrd"
    yield from write_raw_nrrd(volumeInWorld(scan), path)
    return str(path)
