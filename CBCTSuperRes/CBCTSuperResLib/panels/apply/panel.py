"""The panel of CBCTSuperRes: its sections, and what one of them does to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import slicer
import vtk

from ...scene.logic import SuperResLogic
from ..panel import Panel
from .advanced import AdvancedSection, EnginesSection, LogSection
from .batch import BatchSection
from .choices import ApplyChoices
from .evaluation import EvaluationSection
from .export import ExportSection
from .input import InputSection
from .model import ModelSection
from .parameters import ApplyParameters
from .preview import PreviewSection
from .result import ResultSection
from .run import RunSection
from .scanner import ScannerSection
from .window import WindowSection


class ApplyPanel(Panel):
    """Binds the widgets of CBCTSuperRes.ui to the parameters in the scene and to a logic.

    Sections never reach into each other: what they have in common is in the choices, and what one tells another is
    connected here. While a run or a batch goes on, `ApplyChoices.isLocked` disables what would change it.

    Parameters
    ----------
    widget : QWidget
        The loaded .ui file.
    logic : SuperResLogic
        Also offers `getParameterNode`.
    """

    def __init__(self, widget, logic: SuperResLogic) -> None:
        super().__init__(widget, logic, ApplyParameters)
        ui, choices = self.ui, ApplyChoices()
        self.choices = choices
        self.input, self.window = InputSection(ui, choices), WindowSection(ui, choices)
        self.model, self.preview = ModelSection(ui, choices), PreviewSection(ui, choices)
        self.run, self.result = RunSection(ui, choices, logic), ResultSection(ui, choices, logic)
        self.evaluation = EvaluationSection(ui, choices, logic, lambda: self.result.result)
        self.export = ExportSection(ui, choices, logic, lambda: self.result.result)
        self.batch = BatchSection(ui, choices, logic)
        self.advanced, self.log = AdvancedSection(ui, choices), LogSection(ui, choices)
        self.engines, self.scanner = EnginesSection(ui, choices), ScannerSection(ui, choices, logic)
        self.setSections(
            self.scanner,
            self.input,
            self.model,
            self.window,
            self.preview,
            self.run,
            self.result,
            self.export,
            self.evaluation,
            self.advanced,
            self.engines,
            self.batch,
            self.log,
        )
        for section in (self.model, self.run, self.batch):
            section.logged.connect(self.log.add)
        for signal in (self.run.started, self.batch.started, self.result.comparing):
            signal.connect(self.preview.remove)
        self.run.done.connect(lambda job: self.result.show(job.outputVolume))
        self.advanced.modelsMoved.connect(self.model.listModels)
        self.advanced.modelsMoved.connect(self.refresh)
        self._watch = NodeWatch(lambda: self.refresh())
        self.refresh()

    def close(self) -> None:
        super().close()
        self.choices.forget()

    def refresh(self, caller=None, event=None) -> None:
        self._watch.follow([self.choices.inputNode, self.choices.roiNode])
        self.choices.followInput()
        self.choices.followVoxelSize()
        if self.choices.inputNode is None:
            self.choices.forget()
        self.choices.isLocked = self.run.isBusy or self.batch.isBusy or self.engines.isBusy
        super().refresh()


class NodeWatch:
    """Calls a function when one of some nodes changes: voxels, places, points.

    >>> watch = NodeWatch(panel.refresh)
    >>> watch.follow([volumeNode, roiNode])
    >>> watch.follow([])
    """

    EVENTS = (
        vtk.vtkCommand.ModifiedEvent,
        slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
        slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
        slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
    )

    def __init__(self, onChanged: Callable[[], None]) -> None:
        self._onChanged = onChanged
        self._followed: list[tuple[slicer.vtkMRMLNode, list[int]]] = []

    def follow(self, nodes: Iterable[slicer.vtkMRMLNode | None]) -> None:
        """Follow these nodes and no others; None is left out."""
        nodes = [node for node in nodes if node is not None]
        if nodes == [node for node, _ in self._followed]:
            return
        for node, tags in self._followed:
            for tag in tags:
                node.RemoveObserver(tag)
        self._followed = [(node, [node.AddObserver(event, self.onEvent) for event in self.EVENTS]) for node in nodes]

    def onEvent(self, caller=None, event=None) -> None:
        self._onChanged()
