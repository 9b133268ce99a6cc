"""Volume nodes on their way through a worker: handed over, computed, copied, tidied up; a moment at a time.

The jobs whose results are volume nodes: a super-resolution, and what it has added to its input.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..apply.file import DISAGREEMENT, path_beside
from ..apply.plan import scales
from ..core.errors import Cancelled, ResourceError, SuperResError
from ..core.options import Options
from ..io.exchange import read_exchange, remove_pieces, write_slabs
from ..models.card import ModelCard
from .nodes import (
    DISAGREEMENT_ROLE,
    RESULT_ROLE,
    createOutputNode,
    fillNode,
    outputName,
    placeBeside,
    recordProvenance,
    volumeFromNode,
)

if TYPE_CHECKING:
    import slicer


TICK_BUDGET_S = 0.03
HANDED_OVER, COMPUTED = 0.02, 0.97
REST = None  # what a stage yields to end the tick


class VolumeJob:
    """Volumes that a worker makes another volume of. Call `poll` from a timer until `isFinished`, then `close`.

    Nothing that grows with the volumes is done at once, neither writing them nor removing the result's file, so that
    the application stays responsive with volumes of any size. Subclasses say what becomes of the result.

    Parameters
    ----------
    sources : dict of str to vtkMRMLScalarVolumeNode
        What is handed over, by the names that the job of the worker has for them; the first is placed beside.
    outputVolume : vtkMRMLScalarVolumeNode or None
        Without an output node one is made when the result is there.
    task : dict
        What the worker is to do, apart from the files.
    worker : callable (job, folder)
        Makes the worker, such as `WorkerProcess`.
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
        self._isOurNode = outputVolume is None
        self._isComputing = self._isCancelling = self._isTidying = False
        files = {name: folder / f"{name}.npy" for name in [*sources, "output"]}
        self._files = list(files.values())
        self._outputFile = files["output"]
        self._worker = worker({**task, **{name: str(file) for name, file in files.items()}}, folder)
        self._work: Iterator[float | None] = self._stages()
        try:
            self._advance()
        except (OSError, MemoryError, RuntimeError) as error:
            self.close()
            raise _notHandedOver(error) from error
        except BaseException:
            self.close()
            raise

    def newOutput(self) -> slicer.vtkMRMLScalarVolumeNode:
        """A node for the result."""
        raise NotImplementedError

    def complete(self) -> None:
        """Finish the output node, whose voxels are there, with what the report says."""
        raise NotImplementedError

    def poll(self) -> None:
        """Do what there is to do, for at most about 50 ms."""
        if self.isFinished:
            return
        try:
            self._advance()
        except StopIteration:
            self._finish()
        except SuperResError as error:
            self._fail(error)
        except (OSError, MemoryError, RuntimeError) as error:
            self._fail(_notHandedOver(error))

    def cancel(self) -> None:
        """Ask to stop; a later `poll` ends the job with the error `Cancelled`, within some two seconds."""
        if self._isComputing:
            self._isCancelling, self.message = True, "Cancelling"
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
        while next(self._work) is not REST and time.perf_counter() < end:
            pass

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
        while not worker.finished:
            yield REST
            worker.poll()
            self.fraction = HANDED_OVER + (COMPUTED - HANDED_OVER) * worker.fraction
            self.remaining = worker.remaining_s
            if worker.message and not self._isCancelling:
                self.message = worker.message
        self._isComputing = False
        if worker.error or self._isCancelling:
            raise worker.error or Cancelled()
        self.report = worker.result

    def _takeOver(self) -> Iterator[float | None]:
        self.message = "Copying the result"
        yield REST
        if self.outputVolume is None:
            self.outputVolume = self.newOutput()
        yield from self._copied(self._outputFile, self.outputVolume)
        self.complete()

    def _copied(self, file: Path, node: slicer.vtkMRMLScalarVolumeNode) -> Iterator[float | None]:
        """Copy a volume into a node beside the first source."""
        result = read_exchange(file)
        # Before the voxels come, because a display that chooses its window itself would look at all of them.
        placeBeside(self._sources[0], node)
        for part in fillNode(node, result):
            self.fraction = max(self.fraction, COMPUTED + (1 - COMPUTED) * part)
            yield part if part < 1 else REST

    def _tidyUp(self) -> Iterator[None]:
        self._isTidying = True
        for file in self._files:
            for _ in remove_pieces(file):
                yield REST

    def _fail(self, error: SuperResError) -> None:
        """Leave no empty node behind, and tidy up from now on."""
        self.error, self.message, self.remaining = error, "Tidying up", None
        self._work.close()
        if self._isComputing:
            self._worker.close()
        self._isComputing, self._isTidying = False, True
        self._work = self._tidyUp()
        if self._isOurNode and self.outputVolume and self._scene.IsNodePresent(self.outputVolume):
            self._scene.RemoveNode(self.outputVolume)
        if self._isOurNode:
            self.outputVolume = None

    def _finish(self) -> None:
        self.isFinished = True
        self._worker.close()


def _notHandedOver(error: Exception) -> ResourceError:
    return ResourceError(f"The volume could not be handed over: {error!r}.", "Free memory and try again.")


class SuperResJob(VolumeJob):
    """One super-resolution on its way.

    Attributes
    ----------
    report : dict or None
        What was done, see `apply_to_file`.
    disagreementVolume : vtkMRMLScalarVolumeNode or None
        "<output> model disagreement", if it was asked for; referenced by the output. The one that the output already
        has is used again. Its display shows what is above the threshold that was given, or the uppermost twentieth.
    """

    def __init__(
        self,
        inputVolume: slicer.vtkMRMLScalarVolumeNode,
        outputVolume: slicer.vtkMRMLScalarVolumeNode | None,
        card: ModelCard,
        options: Options,
        worker: Callable,
        folder: Path,
    ) -> None:
        self._name = outputName(inputVolume, scales(card, options)[0])
        self.disagreementVolume: slicer.vtkMRMLScalarVolumeNode | None = None
        self._isDisagreementWanted = bool(options.uncertainty)
        self._isDisagreementOurs = False
        task = {"kind": "apply", "model": str(card.path.absolute()), "options": options.to_json()}
        super().__init__({"input": inputVolume}, outputVolume, task, worker, folder)
        if self._isDisagreementWanted:
            self._files.append(path_beside(self._outputFile, DISAGREEMENT))

    def newOutput(self) -> slicer.vtkMRMLScalarVolumeNode:
        return createOutputNode(self._sources[0], self._name)

    def complete(self) -> None:
        facts = {
            "model": self.report["super_resolution"]["model"],
            "modelSha256": self.report["super_resolution"]["model_sha256"],
            "version": self.report["versions"]["CBCTSuperResLib"],
            "report": json.dumps(self.report, ensure_ascii=False, default=str),
        }
        recordProvenance(self._sources[0], self.outputVolume, facts)

    def _takeOver(self) -> Iterator[float | None]:
        yield from super()._takeOver()
        if not self._isDisagreementWanted:
            return
        self.disagreementVolume = self.outputVolume.GetNodeReference(DISAGREEMENT_ROLE)
        if self.disagreementVolume is None:
            self._isDisagreementOurs = True
            self.disagreementVolume = createOutputNode(
                self._sources[0], f"{self.outputVolume.GetName()} {DISAGREEMENT}"
            )
        yield from self._copied(self._files[-1], self.disagreementVolume)
        self._completeDisagreement()

    def _completeDisagreement(self) -> None:
        node, facts = self.disagreementVolume, self.report["super_resolution"]["disagreement"]
        self.outputVolume.SetNodeReferenceID(DISAGREEMENT_ROLE, node.GetID())
        recordProvenance(self._sources[0], node, {"disagreement": json.dumps(facts)})
        node.SetNodeReferenceID(RESULT_ROLE, self.outputVolume.GetID())
        high = facts["percentile_95"]
        display = node.GetScalarVolumeDisplayNode()
        display.SetWindowLevelMinMax(0.0, max(2 * high, 1e-3))
        display.SetLowerThreshold(high if facts["above"] is None else facts["above"])
        display.SetApplyThreshold(True)

    def _fail(self, error: SuperResError) -> None:
        super()._fail(error)
        if self._isDisagreementOurs and self._scene.IsNodePresent(self.disagreementVolume):
            self._scene.RemoveNode(self.disagreementVolume)
        self.disagreementVolume = None


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
        outputVolume: slicer.vtkMRMLScalarVolumeNode | None,
        worker: Callable,
        folder: Path,
    ) -> None:
        sources = {"result": resultVolume, "input": inputVolume}
        super().__init__(sources, outputVolume, {"kind": "difference"}, worker, folder)

    def newOutput(self) -> slicer.vtkMRMLScalarVolumeNode:
        result = self._sources[0]
        return createOutputNode(result, f"{result.GetName()} difference")

    def complete(self) -> None:
        result, scan = self._sources
        recordProvenance(scan, self.outputVolume, {"report": json.dumps(self.report)})
        self.outputVolume.SetNodeReferenceID(RESULT_ROLE, result.GetID())
        display = self.outputVolume.GetScalarVolumeDisplayNode()
        display.SetWindowLevel(2 * self.report["reach"], 0.0)
