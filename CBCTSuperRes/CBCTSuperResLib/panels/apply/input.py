"""Input: which volume, and which part of it."""

from __future__ import annotations

from contextlib import suppress

import slicer
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...scene.nodes import fitRoi
from ..section import Section, say
from .choices import ApplyChoices
from .scan_choices import isScan
from .texts import volumeText


class InputSection(Section):
    """Describes the chosen volume, and makes a ROI around what was measured."""

    def __init__(self, ui, choices: ApplyChoices) -> None:
        super().__init__(ui, choices)
        ui.fitRoiButton.connect("clicked(bool)", self.onFitRoi)

    def bind(self) -> None:
        self.choices.chooseFirstScan()

    def refresh(self) -> None:
        line = ""
        if self.choices.inputNode is not None:
            with suppress(SuperResError):  # beside Apply it is told
                line = volumeText(self.choices.volume())
        elif self.parameters is not None:
            line = _(
                "No scan is chosen. Load one, or try CBCTDentalSurgery from the module Sample Data; without internet, "
                "the procedural jaw there."
            )
        self.ui.inputLabel.text = line
        say(self.ui.notesLabel, "\n".join(self.choices.notes()))
        isFree, roi = not self.choices.isLocked, self.choices.roiNode
        self.ui.inputSelector.enabled = self.ui.roiSelector.enabled = isFree
        self.ui.fitRoiButton.enabled = isFree and self.choices.measuredBox() is not None
        self.ui.fitRoiButton.text = _("Fit to field of view") if roi else _("Create around field of view")
        name = roi.GetName() if roi else _("whole volume")
        self.ui.roiSection.text = _("Region of interest: {name}").format(name=name)

    def onNodeAdded(self, node: slicer.vtkMRMLNode) -> None:
        """The first scan that is loaded is chosen."""
        if self.parameters is not None and self.choices.inputNode is None and isScan(node):
            self.parameters.inputVolume = node

    def onFitRoi(self, checked: bool = False) -> None:
        box = self.choices.measuredBox()
        if box is None:
            return
        volumeNode, roiNode = self.choices.inputNode, self.choices.roiNode
        if roiNode is None:
            name = slicer.mrmlScene.GenerateUniqueName(_("{volume} ROI").format(volume=volumeNode.GetName()))
            roiNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
            roiNode.CreateDefaultDisplayNodes()
            roiNode.GetDisplayNode().SetFillVisibility(False)  # it would tint the gray values that are looked at
        fitRoi(roiNode, volumeNode, box)
        self.parameters.roi = roiNode
        self.changed.emit()
