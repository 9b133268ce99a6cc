"""Output: where the result goes, and what it will be."""

from __future__ import annotations

from slicer.i18n import tr as _

from ...errors import SuperResError
from ...estimate import Estimate
from ...memory import readable
from ...progress import duration_text
from ..section import Section
from .choices import Choices
from .parameters import Planes


class OutputSection(Section):
    """Tells size, spacing, memory and time of the result beforehand."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices

    def refresh(self) -> None:
        isSlicewise = self._isSlicewise()
        self.ui.outputLabel.text = self._estimateText()
        self.ui.planesLabel.text = self._planesText(isSlicewise)
        self.ui.planesSelector.enabled = isSlicewise and not self.choices.isLocked
        self.ui.outputSelector.enabled = not self.choices.isLocked

    def _isSlicewise(self) -> bool:
        card = self.choices.card()
        return card is None or card.spec.dimensions == 2

    def _planesText(self, isSlicewise: bool) -> str:
        if self.parameters is None:
            return ""
        if not isSlicewise:
            return _("This model makes voxels finer along all three axes.")
        if self.parameters.planes is Planes.axial:
            return _("More rows and columns; the number of slices stays.")
        return _("More rows, columns and slices: axial, coronal and sagittal planes are computed and joined.")

    def _estimateText(self) -> str:
        if self.choices.inputNode is None:
            return ""
        try:
            return estimateText(self.choices.estimate())
        except SuperResError as error:
            return str(error)


def estimateText(need: Estimate) -> str:
    """Size, spacing, memory and time of a result that is not there yet."""
    size = " x ".join(map(str, need.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in need.grid.spacing)
    text = _("{size}, {spacing} mm, {bytes}; about {duration} and {memory} of memory")
    if not need.measured:
        text += _(" (the time is a guess until the model has run here)")
    return text.format(
        size=size,
        spacing=spacing,
        bytes=readable(need.output_bytes),
        duration=duration_text(need.seconds),
        memory=readable(need.memory_bytes),
    )
