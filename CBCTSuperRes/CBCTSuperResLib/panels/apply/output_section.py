"""Output: where the result goes, and what it will be."""

from __future__ import annotations

from slicer.i18n import tr as _

from ...errors import SuperResError
from ...estimate import Estimate
from ...memory import readable
from ...progress import duration_text
from ..section import Section
from .choices import Choices


class OutputSection(Section):
    """Tells size, spacing, memory and time of the result beforehand."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices

    def refresh(self) -> None:
        self.ui.outputLabel.text = self._estimateText()
        for control in (self.ui.outputSelector, self.ui.planesSelector):
            control.enabled = not self.choices.isLocked

    def _estimateText(self) -> str:
        if self.parameters is None:
            return ""
        try:
            return estimateText(self.choices.estimate())
        except SuperResError:
            return ""


def estimateText(need: Estimate) -> str:
    """Size, spacing, memory and time of a result that is not there yet."""
    size = " x ".join(map(str, need.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in need.grid.spacing)
    text = _("{size}, {spacing} mm, {bytes}; about {duration} and {memory} of memory")
    return text.format(
        size=size,
        spacing=spacing,
        bytes=readable(need.output_bytes),
        duration=duration_text(need.seconds),
        memory=readable(need.memory_bytes),
    )
