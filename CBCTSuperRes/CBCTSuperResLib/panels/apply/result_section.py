"""Result: compare it with its input."""

from __future__ import annotations

import slicer

from ..section import Section
from .choices import Choices


class ResultSection(Section):
    """Shows the result beside its input."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices

    def show(self, outputNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        """A run has filled this node."""
        slicer.util.setSliceViewerLayers(background=outputNode)
