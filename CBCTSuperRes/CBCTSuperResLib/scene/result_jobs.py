"""The jobs whose results are volume nodes: a super-resolution, and what it has added to its input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..beside import DISAGREEMENT, beside_path
from ..errors import SuperResError
from ..estimate import scales
from ..models.card import ModelCard
from ..options import Options
from .nodes import DISAGREEMENT_ROLE, RESULT_ROLE, createOutputNode, outputName, recordProvenance
from .volume_job import VolumeJob

if TYPE_CHECKING:
    import slicer


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
            self._files.append(beside_path(self._outputFile, DISAGREEMENT))

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
