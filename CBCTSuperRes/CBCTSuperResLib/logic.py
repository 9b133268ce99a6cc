"""Super-resolution of volume nodes; plain classes that show nothing and need no application."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import slicer

from .card import ModelCard, read_card
from .errors import Cancelled, OutputError, ResourceError, SuperResError
from .estimate import estimate, scales
from .files.exchange import read_exchange, write_exchange
from .jobs.in_process import InProcessWorker
from .jobs.worker_process import WorkerProcess, make_job_folder
from .memory import readable
from .models import DEFAULT_MODEL, find_model
from .nodes import createOutputNode, fillNode, outputName, placeBeside, recordProvenance, roiBox, volumeFromNode
from .options import Options
from .volume import Volume

POLL_INTERVAL_S = 0.05
COPY_BUDGET_S = 0.03
WORKER_SHARE = 0.97


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
        worker = partial(InProcessWorker, progress=progress) if inProcess else WorkerProcess
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
        **options,
    ) -> SuperResJob:
        """Start a worker process and return at once.

        Parameters
        ----------
        model : str or path, optional
            Name or file of a model; None takes the shipped light one.
        roi : vtkMRMLMarkupsROINode or ((i0, i1), (j0, j1), (k0, k1)), optional
            Only this part is computed.
        **options
            window, blank, smooth, planes, scale, dtype, device, precision, tile: see `Options`.
        """
        return self._job(WorkerProcess, inputVolume, outputVolume, model=model, roi=roi, **options)

    @staticmethod
    def _job(worker, inputVolume, outputVolume, *, model=None, roi=None, **options) -> SuperResJob:
        volume = volumeFromNode(inputVolume)
        if outputVolume is inputVolume:
            raise OutputError("The output volume is the input volume.", "Choose another one; inputs are never changed.")
        if roi is not None and not isinstance(roi, tuple | list):
            roi = roiBox(roi, inputVolume)
        card = read_card(find_model(DEFAULT_MODEL if model is None else model))
        return SuperResJob(inputVolume, outputVolume, volume, card, Options(roi=roi, **options), worker)


class SuperResJob:
    """One super-resolution on its way. Call `poll` from a timer until `isFinished`, then `close`.

    Attributes
    ----------
    fraction, message, remaining : float, str, float or None
        Progress from 0 to 1, the stage in words, and the seconds to go if they are known.
    error : SuperResError or None
        Why there is no result; `Cancelled` if the user asked for that.
    outputVolume : vtkMRMLScalarVolumeNode or None
        The node; filled when the job has finished without an error.
    report : dict or None
        What was done, see `apply_to_file`.
    """

    def __init__(self, inputVolume, outputVolume, volume: Volume, card: ModelCard, options: Options, worker) -> None:
        need = estimate(volume.grid, volume.voxels.dtype, card, options)
        self.outputVolume = outputVolume
        self.fraction, self.message, self.remaining = 0.0, "Starting", None
        self.error: SuperResError | None = None
        self.report: dict | None = None
        self.isFinished = False
        self._inputVolume, self._scene = inputVolume, inputVolume.GetScene()
        self._copying: Iterator[float] | None = None
        self._isOurNode, self._isCancelling = outputVolume is None, False
        self._name = outputName(inputVolume, scales(card, options)[0])
        folder = _temporaryFolder(volume.voxels.nbytes + need.output_bytes)
        self._resultFile = folder / "result.npy"
        job = {
            "kind": "apply",
            "input": str(folder / "input.npy"),
            "output": str(self._resultFile),
            "model": str(card.path.absolute()),
            "options": options.to_json(),
        }
        self._worker = worker(job, folder)
        try:
            write_exchange(volume, job["input"])
            self._worker.start()
        except BaseException:
            self.close()
            raise

    def poll(self) -> None:
        """Look what the worker did; copy a few slabs of its result. Takes at most about 50 ms."""
        if self.isFinished:
            return
        try:
            self._step()
        except StopIteration:
            self._finish()
        except SuperResError as error:
            self._finish(error)
        except (OSError, MemoryError, RuntimeError) as error:
            self._finish(ResourceError(f"The result could not be taken over: {error!r}.", "Free memory and try again."))

    def cancel(self) -> None:
        """Ask to stop; a later `poll` ends the job with the error `Cancelled`, within some five seconds."""
        if self._copying is not None:
            self._finish(Cancelled())
        else:
            self._isCancelling, self.message = True, "Cancelling"
            self._worker.cancel()

    def close(self) -> None:
        """End the worker and remove its files. Safe at any time, and more than once."""
        if not self.isFinished:
            self._finish(Cancelled())

    @property
    def warnings(self) -> list[str]:
        return self._worker.warnings

    def _step(self) -> None:
        if not self._nodesAreStillThere():
            raise Cancelled("Cancelled because a volume was removed from the scene.")
        if self._copying is not None:
            self._copySlabs()
            return
        self._worker.poll()
        self.fraction, self.remaining = WORKER_SHARE * self._worker.fraction, self._worker.remaining_s
        if self._worker.message and not self._isCancelling:
            self.message = self._worker.message
        if not self._worker.finished:
            return
        if self._worker.error:
            raise self._worker.error
        self._startCopying()

    def _nodesAreStillThere(self) -> bool:
        nodes = [self._inputVolume, *([self.outputVolume] if self.outputVolume else [])]
        return all(self._scene.IsNodePresent(node) for node in nodes)

    def _startCopying(self) -> None:
        self.report = self._worker.result
        result = read_exchange(self._resultFile)
        self.message = "Copying the result"
        if self.outputVolume is None:
            self.outputVolume = createOutputNode(self._inputVolume, self._name)
        # Before the voxels come, because a display that chooses its window itself would look at all of them.
        placeBeside(self._inputVolume, self.outputVolume)
        self._copying = fillNode(self.outputVolume, result)

    def _copySlabs(self) -> None:
        end = time.perf_counter() + COPY_BUDGET_S
        while time.perf_counter() < end:
            self.fraction = WORKER_SHARE + (1 - WORKER_SHARE) * next(self._copying)

    def _finish(self, error: SuperResError | None = None) -> None:
        self.error, self.isFinished, self._copying = error, True, None
        self._worker.close()
        if error is None:
            recordProvenance(self._inputVolume, self.outputVolume, _provenance(self.report))
            self.fraction, self.message, self.remaining = 1.0, "Done", 0.0
        elif self._isOurNode:
            self._removeOutput()

    def _removeOutput(self) -> None:
        """Leave no empty node behind."""
        if self.outputVolume and self._scene.IsNodePresent(self.outputVolume):
            self._scene.RemoveNode(self.outputVolume)
        self.outputVolume = None


def _provenance(report: dict) -> dict[str, str]:
    return {
        "model": report["super_resolution"]["model"],
        "modelSha256": report["super_resolution"]["model_sha256"],
        "version": report["versions"]["CBCTSuperResLib"],
        "report": json.dumps(report, ensure_ascii=False, default=str),
    }


def _temporaryFolder(needed: int) -> Path:
    """A folder with room for so many bytes."""
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
