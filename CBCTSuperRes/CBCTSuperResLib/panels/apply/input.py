"""Input: which volume, which part of it, and what is noticed about it."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...scene.nodes import fitRoi
from ..section import Section, say
from .choices import ApplyChoices
from .texts import volumeText

SCALAR_VOLUME = "vtkMRMLScalarVolumeNode"


class InputSection(Section):
    """Describes the chosen volume, and makes a ROI around what was measured."""

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices)
        ui.fitRoiButton.connect("clicked(bool)", self.onFitRoi)

    def bind(self) -> None:
        """Without a choice, the first volume that the selector would list is chosen: no label map, nothing hidden."""
        if self.parameters.inputVolume is None:
            nodes = slicer.util.getNodesByClass(SCALAR_VOLUME)
            nodes = (node for node in nodes if node.GetClassName() == SCALAR_VOLUME and not node.GetHideFromEditors())
            self.parameters.inputVolume = next(nodes, None)

    def refresh(self) -> None:
        line, notes = "", []
        if self.choices.inputNode is not None:
            try:
                line = volumeText(self.choices.volume())
                notes = self.choices.inputNotes()
            except SuperResError as error:
                notes = [str(error)]
        elif self.parameters is not None:
            line = _(
                "No scan is chosen. Load one, or try CBCTDentalSurgery from the module Sample Data; without a network, "
                "the procedural jaw there."
            )
        self.ui.inputLabel.text = line
        say(self.ui.inputNotesLabel, "\n".join(notes))
        isFree = not self.choices.isLocked
        self.ui.inputSelector.enabled = self.ui.roiSelector.enabled = isFree
        self.ui.fitRoiButton.enabled = isFree and self.choices.measuredBox() is not None
        self.ui.fitRoiButton.text = (
            _("Fit to field of view") if self.choices.roiNode else _("Create around field of view")
        )

    def onFitRoi(self, checked: bool = False) -> None:
        box = self.choices.measuredBox()
        if box is None:
            return
        volumeNode, roiNode = self.choices.inputNode, self.choices.roiNode
        if roiNode is None:
            name = slicer.mrmlScene.GenerateUniqueName(_("{volume} ROI").format(volume=volumeNode.GetName()))
            roiNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
            roiNode.CreateDefaultDisplayNodes()
        fitRoi(roiNode, volumeNode, box)
        self.parameters.roi = roiNode
        self.changed.emit()
