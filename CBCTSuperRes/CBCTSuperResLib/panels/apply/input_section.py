"""Input: which volume, and which model."""

from __future__ import annotations

import slicer

from ...errors import SuperResError
from ...memory import readable
from ...volume import Volume
from ..section import Section
from .choices import Choices
from .parameters import ApplyParameters


class InputSection(Section):
    """Describes the chosen volume and model."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)

    def bind(self, parameters: ApplyParameters) -> None:
        super().bind(parameters)
        if parameters.inputVolume is None:
            parameters.inputVolume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self.listModels()

    def listModels(self) -> None:
        """Look for models again."""
        self.choices.listModels()
        selector = self.ui.modelSelector
        wasBlocked = selector.blockSignals(True)
        selector.clear()
        for card in self.choices.cards:
            selector.addItem(card.title or card.name)
        selector.blockSignals(wasBlocked)

    def refresh(self) -> None:
        self.ui.inputLabel.text = self._volumeText()
        self._showModel()
        for control in (self.ui.inputSelector, self.ui.modelSelector):
            control.enabled = not self.choices.isLocked

    def onModelChosen(self, index: int) -> None:
        if self.parameters is not None and 0 <= index < len(self.choices.cards):
            self.parameters.model = self.choices.cards[index].name

    def _volumeText(self) -> str:
        if self.parameters is None:
            return ""
        try:
            return volumeText(self.choices.volume())
        except SuperResError:
            return ""

    def _showModel(self) -> None:
        card = self.choices.card()
        wasBlocked = self.ui.modelSelector.blockSignals(True)
        self.ui.modelSelector.currentIndex = self.choices.cards.index(card) if card else -1
        self.ui.modelSelector.blockSignals(wasBlocked)
        self.ui.modelLabel.text = card.line if card else ""


def volumeText(volume: Volume) -> str:
    """ "400 x 400 x 280, 0.3 x 0.3 x 0.3 mm, int16, 90 MB"."""
    size = " x ".join(map(str, volume.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in volume.spacing)
    return f"{size}, {spacing} mm, {volume.voxels.dtype}, {readable(volume.voxels.nbytes)}"
