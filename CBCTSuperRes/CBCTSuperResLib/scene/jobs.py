"""Jobs on volume nodes: handed over, computed, taken over as nodes, tidied up; a moment at a time.

There are four here: a super-resolution, a look at a scan before it, what it has added to its input, and how near it
comes to a finer scan.
"""

from __future__ import annotations

import abc
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..apply.factors import result_name
from ..apply.file import path_beside
from ..apply.plan import DISAGREEMENT, MISCLASSIFIED, planned_maps
from ..apply.scanner_facts import scanner_from
from ..core.errors import Cancelled, ResourceError, SuperResError, explained
from ..core.options import Options
from ..io.exchange import read_exchange, remove_pieces, write_slabs
from ..jobs.job import WorkerError
from ..models.card import ModelCard
from .nodes import (
    MAP_ROLES,
    RESULT_ROLE,
    copySlabs,
    createOutputNode,
    newImage,
    placeBeside,
    recordProvenance,
    takeImage,
    volumeFromNode,
)

if TYPE_CHECKING:
    import slicer
    import vtk

    from ..acquisition.estimate import EstimatedAcquisition
    from ..core.volume import Grid


TICK_BUDGET_S = 0.03
LIKELIEST = 50.0  # per cent: a result is at least as likely on its own side of a threshold as on the other
HANDED_OVER, COMPUTED = 0.02, 0.97
REST, ENDED = None, object()  # what a stage yields to end the tick, and what comes after the last stage


class VolumeJob(abc.ABC):
    """Volumes that a worker makes another volume of. Call `poll` from a timer until `isFinished`, then `close`.

    Nothing that grows with the volumes is done at once, neither writing them nor removing the result's file, so that
    the application stays responsive with volumes of any size. The nodes change at the end, all at one moment: until
    then, and if there is an error, they are as they were. Subclasses say what becomes of the result.

    Parameters
    ----------
    sources : dict of str to vtkMRMLScalarVolumeNode
        What is handed over, by the names that the job of the worker has for them; the first is placed beside.
    outputVolume : vtkMRMLScalarVolumeNode or None
        Without an output node one is made when the result is there.
    task : dict
        What the worker is to do, apart from the files.
    worker : callable (task, folder)
        Makes the `Job` that computes; its files stay until it is closed.
    folder : Path
        For the files of the job; removed at its end.

    Attributes
    ----------
    fraction, message, remaining : float, str, float or None
        Progress from 0 to 1, the stage in words, and the seconds to go if they are known.
    error : SuperResError or None
        Why there is no result; `Cancelled` if the user asked for that.
    outputVolume : vtkMRMLScalarVolumeNode or None
        The node; filled when the job has finished without an error.
    report : dict or None
        What the worker told at its end.
    """

    def __init__(
        self,
        sources: dict[str, slicer.vtkMRMLScalarVolumeNode],
        outputVolume: slicer.vtkMRMLScalarVolumeNode | None,
        task: dict,
        worker: Callable,
        folder: Path,
    ) -> None:
        self.outputVolume = outputVolume
        self.fraction, self.message, self.remaining = 0.0, "Handing over the volume", None
        self.error: SuperResError | None = None
        self.report: dict | None = None
        self.isFinished = False
        self._sources = list(sources.values())
        self._scene = self._sources[0].GetScene()
        self._created: list[slicer.vtkMRMLScalarVolumeNode] = []
        self._isComputing = self._isCancelling = self._isTidying = False
        files = {name: folder / f"{name}.npy" for name in [*sources, "output"]}
        self._files = list(files.values())
        self._results = [files["output"]]
        self._worker = worker({**task, **{name: str(file) for name, file in files.items()}}, folder)
        self._work: Iterator[float | None] = self._stages()
        try:
            self._advance()
        except (OSError, MemoryError, RuntimeError) as error:
            self.close()
            raise _asError(error) from error
        except BaseException:
            self.close()
            raise

    @abc.abstractmethod
    def publish(self, images: list[tuple[vtk.vtkImageData, Grid]]) -> None:
        """Make nodes of the results, by `_taken`; what can fail comes first."""

    def poll(self) -> None:
        """Do what there is to do, for at most about 50 ms. Whatever fails becomes the job's error."""
        if self.isFinished:
            return
        try:
            self._advance()
        except Exception as error:
            if self._isTidying:
                self._finish()
            else:
                self._fail(_asError(error))

    def cancel(self) -> None:
        """Ask to stop; a later `poll` ends the job with the error `Cancelled`, within some two seconds."""
        if self._isComputing:
            self._isCancelling, self.message, self.remaining = True, "Cancelling", None
            self._worker.cancel()
        elif not self._isTidying:
            self._fail(Cancelled())

    def close(self) -> None:
        """End the worker and remove its files, at once. Safe at any time, and more than once."""
        if self.isFinished:
            return
        if not self._isTidying:
            self._fail(Cancelled())
        self._work.close()
        self._finish()

    @property
    def warnings(self) -> list[str]:
        return self._worker.warnings

    def _advance(self) -> None:
        end = time.perf_counter() + TICK_BUDGET_S
        if not (self._isTidying or self._nodesAreStillThere()):
            raise Cancelled("Cancelled because a volume was removed from the scene.")
        while (step := next(self._work, ENDED)) is not ENDED:
            if step is REST or time.perf_counter() >= end:
                return
        self._finish()

    def _nodesAreStillThere(self) -> bool:
        nodes = [*self._sources, *([self.outputVolume] if self.outputVolume else [])]
        return all(self._scene.IsNodePresent(node) for node in nodes)

    def _stages(self) -> Iterator[float | None]:
        yield from self._handOver()
        yield from self._compute()
        yield from self._takeOver()
        self.fraction, self.message, self.remaining = 1.0, "Done", 0.0
        yield from self._tidyUp()

    def _handOver(self) -> Iterator[float]:
        for number, (node, file) in enumerate(zip(self._sources, self._files, strict=False)):
            for part in write_slabs(volumeFromNode(node), file):
                self.fraction = HANDED_OVER * (number + part) / len(self._sources)
                yield part

    def _compute(self) -> Iterator[None]:
        worker = self._worker
        worker.start()
        self._isComputing = True
        while not worker.isFinished:
            yield REST
            worker.poll()
            self.fraction = HANDED_OVER + (COMPUTED - HANDED_OVER) * worker.fraction
            if not self._isCancelling:
                self.message, self.remaining = worker.message or self.message, worker.remaining
        self._isComputing = False
        if worker.error or self._isCancelling:
            raise worker.error or Cancelled()
        self.report = worker.report

    def _takeOver(self) -> Iterator[float | None]:
        if self._results:
            self.message = "Copying the result"
        yield REST
        images = []
        for number, file in enumerate(self._results):
            volume = read_exchange(file)
            image, voxels = newImage(volume.voxels)
            for part in copySlabs(volume.voxels, voxels):
                self.fraction = COMPUTED + (1 - COMPUTED) * (number + part) / len(self._results)
                yield part
            images.append((image, volume.grid))
        earlier = self.outputVolume and self.outputVolume.GetImageData()
        self.publish(images)
        yield REST
        del earlier  # its memory is given back by a step of its own

    def _taken(
        self, node: slicer.vtkMRMLScalarVolumeNode | None, name: str, image: vtk.vtkImageData, grid: Grid
    ) -> slicer.vtkMRMLScalarVolumeNode:
        """A node, new unless there is one, that has the voxels and lies beside the first source."""
        if node is None:
            node = createOutputNode(self._sources[0], name)
            self._created.append(node)
        # Before the voxels come, because a display that chooses its window itself would look at all of them.
        placeBeside(self._sources[0], node)
        takeImage(node, image, grid)
        return node

    def _tidyUp(self) -> Iterator[None]:
        self._isTidying = True
        for file in self._files:
            for _ in remove_pieces(file):
                yield REST

    def _fail(self, error: SuperResError) -> None:
        """Leave no node behind, and tidy up from now on."""
        self.error, self.message, self.remaining = error, "Tidying up", None
        self._work.close()
        if self._isComputing:
            self._worker.close()
        self._isComputing, self._isTidying = False, True
        self._work = self._tidyUp()
        if self.outputVolume in self._created:
            self.outputVolume = None
        for node in self._created:
            if self._scene.IsNodePresent(node):
                self._scene.RemoveNode(node)

    def _finish(self) -> None:
        if self.report is None and self.error is None:
            self.error = WorkerError("The job ended without a result.", "Report it with the details.")
        self.isFinished = True
        self._worker.close()


def _asError(error: Exception) -> SuperResError:
    if isinstance(error, OSError | MemoryError | RuntimeError):
        return ResourceError(f"The volume could not be handed over: {error!r}.", "Free memory and try again.")
    return explained(error)


class SuperResJob(VolumeJob):
    """One super-resolution on its way.

    Attributes
    ----------
    report : dict or None
        What was done, see `apply_to_file`.
    mapVolumes : dict of str to vtkMRMLScalarVolumeNode
        What was measured beside the result, by its name, if it was asked for: "<output> model disagreement", or the
        model's error bars, "<output> predictive deviation" and its parts; referenced by the output. Those that the
        output already has are used again. Their display shows what is above the threshold that was given, or the
        uppermost twentieth.
    """

    def __init__(
        self,
        inputVolume: slicer.vtkMRMLScalarVolumeNode,
        outputVolume: slicer.vtkMRMLScalarVolumeNode | None,
        card: ModelCard,
        options: Options,
        worker: Callable,
        folder: Path,
        isNamed: bool = True,
    ) -> None:
        self._name = result_name(inputVolume.GetName(), card, options)
        self.mapVolumes: dict[str, slicer.vtkMRMLScalarVolumeNode] = {}
        self._maps = planned_maps(card, options)
        task = {"kind": "apply", "model": str(card.path.absolute()) if isNamed else None, "options": options.to_json()}
        super().__init__({"input": inputVolume}, outputVolume, task, worker, folder)
        beside = [path_beside(self._results[0], name) for name in self._maps]
        self._results += beside
        self._files += beside

    @property
    def disagreementVolume(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """ "<output> model disagreement", if it was measured."""
        return self.mapVolumes.get(DISAGREEMENT)

    def publish(self, images: list[tuple[vtk.vtkImageData, Grid]]) -> None:
        (scan,), run = self._sources, self.report["super_resolution"]
        facts = {
            "model": run["model"],
            "modelSha256": run["model_sha256"],
            "version": self.report["versions"]["CBCTSuperResLib"],
        }
        output = self.outputVolume = self._taken(self.outputVolume, self._name, *images[0])
        for side, node in (("input", scan), ("output", output)):
            self.report[side] = _ofNode(self.report.get(side, {}), node)
        self.report.pop("beside", None)
        found = {}
        for name, image in zip(self._maps, images[1:], strict=True):
            found[name] = self._taken(output.GetNodeReference(MAP_ROLES[name]), f"{output.GetName()} {name}", *image)
        if found:
            self.report["beside"] = {name: node.GetName() for name, node in found.items()}
        recordProvenance(scan, output, {**facts, "report": json.dumps(self.report, ensure_ascii=False, default=str)})
        for name, role in MAP_ROLES.items() if found else ():
            if name in found:
                output.SetNodeReferenceID(role, found[name].GetID())
            else:  # of an earlier run; what it says is not of this result
                output.RemoveNodeReferenceIDs(role)
        for name, node in found.items():
            self._showAsMarks(name, node, run)
        self.mapVolumes = found

    def _showAsMarks(self, name: str, node: slicer.vtkMRMLScalarVolumeNode, run: dict) -> None:
        """Let a map show, laid over the result, what is above its threshold."""
        output, display = self.outputVolume, node.GetScalarVolumeDisplayNode()
        if name == DISAGREEMENT:
            recordProvenance(self._sources[0], node, {"disagreement": json.dumps(run["disagreement"])})
            high, above = run["disagreement"]["percentile_95"], run["disagreement"]["above"]
        else:
            recordProvenance(self._sources[0], node, {"errorBars": json.dumps(run["error_bars"])})
            bars = run["error_bars"]
            high = bars["widest_above"]  # shown where no bar is as wide as was asked for
            above = bars["warning_above"] if bars["share_above"] and bars["marked"] == name else high
            if name == MISCLASSIFIED:
                high, above = LIKELIEST / 2, bars["warning_above"]
        node.SetNodeReferenceID(RESULT_ROLE, output.GetID())
        display.SetWindowLevelMinMax(0.0, max(2 * high, above or 0.0, 1e-3))
        display.SetLowerThreshold(high if above is None else above)
        display.SetApplyThreshold(True)


def _ofNode(facts: dict, node: slicer.vtkMRMLScalarVolumeNode) -> dict:
    """What a report says of a volume: its node, and the file that this was loaded from, if there is one.

    The file in which it was handed over is not there any more when somebody reads the report.
    """
    storage = node.GetStorageNode()
    file = storage.GetFullNameFromFileName() if storage and storage.GetFileName() else None
    kept = {key: facts[key] for key in ("size", "spacing_mm", "type") if key in facts}
    return {"volume": node.GetName(), "path": file, **kept}


class LookJob(VolumeJob):
    """What a scan tells of its scanner, on its way; the scene stays as it is. `scanner` is there at the end.

    Parameters
    ----------
    card : ModelCard
    options : Options
        See `look_at`.
    """

    def __init__(
        self,
        inputVolume: slicer.vtkMRMLScalarVolumeNode,
        card: ModelCard,
        options: Options,
        worker: Callable,
        folder: Path,
    ) -> None:
        task = {"kind": "look", "model": str(card.path.absolute()), "options": options.to_json()}
        super().__init__({"input": inputVolume}, None, task, worker, folder)
        self._results = []

    @property
    def scanner(self) -> EstimatedAcquisition:
        return scanner_from(self.report["scanner"])

    def publish(self, images: list[tuple[vtk.vtkImageData, Grid]]) -> None:
        """There is nothing to be made of it in the scene."""


class DifferenceJob(VolumeJob):
    """What a result has that its interpolated input has not, as a volume beside both; on its way.

    Parameters
    ----------
    inputVolume, resultVolume : vtkMRMLScalarVolumeNode
        See `difference_to_file`.
    """

    def __init__(
        self,
        inputVolume: slicer.vtkMRMLScalarVolumeNode,
        resultVolume: slicer.vtkMRMLScalarVolumeNode,
        worker: Callable,
        folder: Path,
    ) -> None:
        sources = {"result": resultVolume, "input": inputVolume}
        super().__init__(sources, None, {"kind": "difference"}, worker, folder)

    def publish(self, images: list[tuple[vtk.vtkImageData, Grid]]) -> None:
        (result, scan), reach = self._sources, self.report["reach"]
        self.outputVolume = self._taken(None, f"{result.GetName()} difference", *images[0])
        recordProvenance(scan, self.outputVolume, {"report": json.dumps(self.report)})
        self.outputVolume.SetNodeReferenceID(RESULT_ROLE, result.GetID())
        self.outputVolume.GetScalarVolumeDisplayNode().SetWindowLevel(2 * reach, 0.0)


class EvaluationJob(VolumeJob):
    """How near a result comes to a finer scan of the same object, and where it is off, as a volume; on its way.

    The figures are in `report`, see `evaluate_result`.
    """

    def __init__(
        self,
        inputVolume: slicer.vtkMRMLScalarVolumeNode,
        resultVolume: slicer.vtkMRMLScalarVolumeNode,
        referenceVolume: slicer.vtkMRMLScalarVolumeNode,
        reportFolder: Path,
        worker: Callable,
        folder: Path,
    ) -> None:
        sources = {"result": resultVolume, "input": inputVolume, "reference": referenceVolume}
        names = {"result": resultVolume.GetName(), "reference": referenceVolume.GetName()}
        task = {"kind": "evaluate", "report": str(reportFolder), "names": names}
        super().__init__(sources, None, task, worker, folder)

    def publish(self, images: list[tuple[vtk.vtkImageData, Grid]]) -> None:
        (result, scan, reference), reach = self._sources, self.report["reach"]
        self.outputVolume = self._taken(None, f"{result.GetName()} minus {reference.GetName()}", *images[0])
        recordProvenance(scan, self.outputVolume, {"report": json.dumps(self.report)})
        self.outputVolume.SetNodeReferenceID(RESULT_ROLE, result.GetID())
        self.outputVolume.GetScalarVolumeDisplayNode().SetWindowLevel(2 * reach, 0.0)
