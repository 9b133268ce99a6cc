"""Input: which volume, which part of it, and what is noticed about it."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ...apply.plan import spacing_suspicion
from ...core.errors import SuperResError
from ...core.memory import readable
from ...io.volume import Volume
from ...scene.nodes import fitRoi
from ..widgets import Section
from .choices import Choices
from .parameters import ApplyParameters

NOTEWORTHY_BLANK_SHARE = 0.01
SCALAR_VOLUME = "vtkMRMLScalarVolumeNode"


class InputSection(Section):
    """Describes the chosen volume, and makes a ROI around what was measured."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices
        self.ui.fitRoiButton.connect("clicked(bool)", self.onFitRoi)

    def bind(self, parameters: ApplyParameters) -> None:
        super().bind(parameters)
        if parameters.inputVolume is None:
            parameters.inputVolume = firstScalarVolume()

    def refresh(self) -> None:
        self._describe()
        isUsable = self._measured() is not None
        self.ui.fitRoiButton.text = (
            _("Fit to field of view") if self.choices.roiNode else _("Create around field of view")
        )
        self.ui.fitRoiButton.enabled = isUsable and not self.choices.isLocked
        for control in (self.ui.inputSelector, self.ui.roiSelector):
            control.enabled = not self.choices.isLocked

    def onFitRoi(self, checked: bool = False) -> None:
        box = self._measured()
        if box is None:
            return
        volumeNode, roiNode = self.choices.inputNode, self.choices.roiNode
        if roiNode is None:
            name = slicer.mrmlScene.GenerateUniqueName(_("{volume} ROI").format(volume=volumeNode.GetName()))
            roiNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
            roiNode.CreateDefaultDisplayNodes()
        fitRoi(roiNode, volumeNode, box)
        self.parameters.roi = roiNode
        self.whenChanged()

    def _measured(self) -> tuple | None:
        """The box of voxels that the scanner has measured; None without a usable volume."""
        if self.parameters is None:
            return None
        try:
            return self.choices.glance().measured
        except SuperResError:
            return None

    def _describe(self) -> None:
        line, notes = "", []
        if self.choices.inputNode is not None:
            try:
                line = volumeText(self.choices.volume())
                notes = self._notes()
            except SuperResError as error:
                notes = [str(error)]
        elif self.parameters is not None:
            line = _(
                "No scan is chosen. Load one, or try CBCTDentalSurgery from the module Sample Data; without a network, "
                "the procedural jaw there."
            )
        self.ui.inputLabel.text = line
        self.ui.inputNotesLabel.text = "\n".join(notes)
        self.ui.inputNotesLabel.visible = bool(notes)

    def _notes(self) -> list[str]:
        volume, card = self.choices.volume(), self.choices.card()
        blank = self.choices.glance().blanks.share
        notes = [spacing_suspicion(volume.grid)]
        if blank >= NOTEWORTHY_BLANK_SHARE:
            notes.append(_("About {percent:.0f} % is blank: outside the field of view.").format(percent=100 * blank))
        if card is not None:
            notes += self.choices.plan().warnings
        return [note for note in notes if note]


def firstScalarVolume() -> slicer.vtkMRMLScalarVolumeNode | None:
    """The first volume that the selector would list: no label map, nothing hidden."""
    nodes = slicer.util.getNodesByClass(SCALAR_VOLUME)
    return next((n for n in nodes if n.GetClassName() == SCALAR_VOLUME and not n.GetHideFromEditors()), None)


def volumeText(volume: Volume) -> str:
    """ "400 x 400 x 280, 0.3 x 0.3 x 0.3 mm, int16, 90 MB"."""
    size = " x ".join(map(str, volume.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing)
    return f"{size}, {spacing} mm, {volume.voxels.dtype}, {readable(volume.voxels.nbytes)}"
