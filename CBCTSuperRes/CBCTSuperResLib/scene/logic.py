"""Super-resolution of volume nodes; plain classes that show nothing and need no application."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import slicer

from ..apply.plan import make_plan
from ..core.errors import Cancelled, InputError, OutputError, ResourceError, SuperResError
from ..core.memory import readable
from ..core.options import Options
from ..jobs.job import Job
from ..jobs.liveness import make_job_folder
from ..jobs.pool import PoolWorker
from ..models.card import ModelCard, read_card
from ..models.folder import default_model, find_model
from .export import ExportJob
from .jobs import DifferenceJob, EvaluationJob, LookJob, SuperResJob
from .nodes import inputOf, reportOf, roiBox, volumeFromNode

POLL_INTERVAL_S = 0.05


class SuperResLogic:
    """What module panel, Python console and scripts use.

    >>> logic = SuperResLogic()
    >>> outputVolume = logic.process(inputVolume)                     # waits
    >>> job = logic.start(inputVolume, model="light")                 # does not wait
    >>> while not job.isFinished:
    ...     job.poll()
    """

    def process(
        self,
        inputVolume: slicer.vtkMRMLScalarVolumeNode,
        outputVolume: slicer.vtkMRMLScalarVolumeNode | None = None,
        *,
        progress: Callable[[float, str], None] | None = None,
        inProcess: bool = False,
        **options,
    ) -> slicer.vtkMRMLScalarVolumeNode:
        """Super-resolve a volume and wait for the result.

        Parameters
        ----------
        inputVolume : vtkMRMLScalarVolumeNode
            Never modified.
        outputVolume : vtkMRMLScalarVolumeNode, optional
            Node to fill; without it one is created beside the input.
        progress : callable (fraction, message), optional
        inProcess : bool
            Compute in this process instead of a worker of its own. Not for the Slicer application, where torch may
            crash it; for plain Python.
        **options
            As of `start`.

        Returns
        -------
        vtkMRMLScalarVolumeNode
            The filled output node.

        Raises
        ------
        SuperResError
            What happened and what to do about it; the nodes are as they were.
        """
        worker = partial(InProcessJob, progress=progress) if inProcess else partial(Job, keep_files=True)
        job = self._job(worker, inputVolume, outputVolume, **options)
        try:
            while not job.isFinished:
                job.poll()
                if progress:
                    progress(job.fraction, job.message)
                letTheApplicationBreathe()
        finally:
            job.close()
        if job.error:
            raise job.error
        return job.outputVolume

    def start(
        self,
        inputVolume: slicer.vtkMRMLScalarVolumeNode,
        outputVolume: slicer.vtkMRMLScalarVolumeNode | None = None,
        *,
        model: str | Path | None = None,
        roi: slicer.vtkMRMLMarkupsROINode | tuple | None = None,
        worker: PoolWorker | None = None,
        **options,
    ) -> SuperResJob:
        """Start a worker process and return at once.

        Parameters
        ----------
        model : str or path, optional
            Name or file of a model; None is *Automatic* in the panel: light, or what voxel size or blur of the scan ask
            for. The report of the result says which it was, and why.
        roi : vtkMRMLMarkupsROINode or ((i0, i1), (j0, j1), (k0, k1)), optional
            Only this part is computed.
        worker : PoolWorker, optional
            A process that stays from one job to the next; without, one is started for this job.
        **options
            window, blank, smooth, planes, scale, output_spacing, dtype, device, precision, engine, tile, ensemble,
            uncertainty, disagreement_above, warning_above, scanner_blur, sharpness, back_projection: see `Options`.
            With `uncertainty` come further volumes: "<output> predictive deviation" and its parts of a model with
            error bars, "<output> model disagreement" of any other.
        """
        job = partial(Job, keep_files=True, worker=worker)
        return self._job(job, inputVolume, outputVolume, model=model, roi=roi, **options)

    def startLook(self, inputVolume: slicer.vtkMRMLScalarVolumeNode, card: ModelCard, options: Options) -> LookJob:
        """Start to find out, in a worker process, what a scan tells of its scanner; see `look_at`."""
        folder = temporaryFolder(volumeFromNode(inputVolume).voxels.nbytes)
        return LookJob(inputVolume, card, options, partial(Job, keep_files=True), folder)

    def startDifference(self, resultVolume: slicer.vtkMRMLScalarVolumeNode) -> DifferenceJob:
        """Start to compute, in a worker process, what a result has that its interpolated input has not.

        Raises
        ------
        InputError
            If the volume is no result, or its input is gone.
        """
        inputVolume = _neededInput(resultVolume)
        needed = volumeFromNode(inputVolume).voxels.nbytes + 3 * volumeFromNode(resultVolume).voxels.nbytes
        worker = partial(Job, keep_files=True)
        return DifferenceJob(inputVolume, resultVolume, worker, temporaryFolder(needed))

    def startEvaluation(
        self,
        resultVolume: slicer.vtkMRMLScalarVolumeNode,
        referenceVolume: slicer.vtkMRMLScalarVolumeNode,
        reportFolder: str | Path,
    ) -> EvaluationJob:
        """Start to measure, in a worker process, how near a result and its interpolated input come to a finer scan.

        Parameters
        ----------
        referenceVolume : vtkMRMLScalarVolumeNode
            Of the same object, at the same place.
        reportFolder : path
            For report.html, values.csv and report.json.

        Raises
        ------
        InputError
            If the first volume is no result, its input is gone, or the reference lies under another transform.
        """
        inputVolume = _neededInput(resultVolume)
        volumes = {"input": inputVolume, "result": resultVolume, "reference": referenceVolume}
        if len({volume.GetTransformNodeID() for volume in volumes.values()}) > 1:
            raise InputError(
                f"{referenceVolume.GetName()} and {resultVolume.GetName()} lie under different transforms.",
                "Put both under the same, or harden the transforms in the module Transforms.",
            )
        needed = 2 * sum(volumeFromNode(volume).voxels.nbytes for volume in volumes.values())
        worker = partial(Job, keep_files=True)
        folder = temporaryFolder(needed)
        return EvaluationJob(inputVolume, resultVolume, referenceVolume, Path(reportFolder), worker, folder)

    def startExport(
        self,
        resultVolume: slicer.vtkMRMLScalarVolumeNode,
        path: str | Path,
        *,
        patient: dict[str, str] | None = None,
    ) -> ExportJob:
        """Start to write a result, in a worker process: into a file with its report beside it, or as a DICOM series.

        Parameters
        ----------
        path : path
            Ends in .nrrd, .mha, .nii or .nii.gz; for DICOM a folder to be made.
        patient : dict, optional
            With it a DICOM series is written: "patient_name" and "patient_id", or {} where the scan tells them.

        Raises
        ------
        InputError
            If the volume is no result.
        """
        if reportOf(resultVolume) is None:
            raise InputError(f"{resultVolume.GetName()} is no result of this module.", "Choose a result.")
        folder = temporaryFolder(volumeFromNode(resultVolume).voxels.nbytes)
        return ExportJob(resultVolume, Path(path), patient, partial(Job, keep_files=True), folder)

    @staticmethod
    def _job(worker, inputVolume, outputVolume, *, model=None, roi=None, **options) -> SuperResJob:
        volume = volumeFromNode(inputVolume)
        if outputVolume is inputVolume:
            raise OutputError("The output volume is the input volume.", "Choose another one; inputs are never changed.")
        if roi is not None and not isinstance(roi, tuple | list):
            roi = roiBox(roi, inputVolume)
        chosen = Options(roi=roi, **options)
        card = default_model(chosen, volume.spacing) if model is None else read_card(find_model(model))
        plan = make_plan(volume.grid, volume.voxels.dtype, card, chosen)
        folder = temporaryFolder(volume.voxels.nbytes + plan.output_bytes + plan.map_bytes)
        return SuperResJob(inputVolume, outputVolume, card, chosen, worker, folder, isNamed=model is not None)


def _neededInput(resultVolume: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLScalarVolumeNode:
    inputVolume = inputOf(resultVolume)
    if inputVolume is None:
        raise InputError("The input of this result is no longer in the scene.", "Load it again, and apply anew.")
    return inputVolume


class InProcessJob:
    """Applies a model where it is polled, with the face of a `Job`; for plain Python. In Slicer torch may crash it."""

    def __init__(self, task: dict, files: Path, progress: Callable[[float, str], None] | None = None) -> None:
        self.files = files
        self.fraction, self.message, self.remaining = 0.0, "", None
        self.warnings: list[str] = []
        self.report: dict | None = None
        self.error: SuperResError | None = None
        self.isFinished = False
        self._task, self._progress = task, progress

    def start(self) -> InProcessJob:
        return self

    def poll(self) -> None:
        from ..apply.file import apply_to_file

        task = self._task
        try:
            options = Options.from_json(task["options"])
            self.report = apply_to_file(task["input"], task["output"], task["model"], options, self._progress)
            self.warnings = self.report["warnings"]
        except SuperResError as error:
            self.error = error
        self.fraction, self.isFinished = 1.0, True

    def cancel(self) -> None:
        self.error, self.isFinished = Cancelled(), True

    def close(self) -> None:
        shutil.rmtree(self.files, ignore_errors=True)


def temporaryFolder(needed: int = 0) -> Path:
    """A new folder among the application's temporary files, with room for so many bytes.

    Raises
    ------
    ResourceError, OutputError
    """
    app = getattr(slicer, "app", None)
    folder = make_job_folder(app.temporaryPath if app else None)
    free = shutil.disk_usage(folder).free
    if needed > free:
        shutil.rmtree(folder, ignore_errors=True)
        raise ResourceError(
            f"Input and result take {readable(needed)}; {folder.parent}, for temporary files, has {readable(free)}.",
            "Free some space, choose a ROI, or another temporary folder in the application settings.",
        )
    return folder


def letTheApplicationBreathe() -> None:
    """Between two looks at a job that is waited for."""
    app = getattr(slicer, "app", None)
    if app:
        app.processEvents()
    time.sleep(POLL_INTERVAL_S)
