"""Preview: the result in the slice views, before it is applied."""

from __future__ import annotations

from ..section import Section
from .choices import Choices


class PreviewSection(Section):
    """Shows what Apply would give, in a slice view."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices

    def remove(self) -> None:
        """Take the preview off the views, because the run itself begins."""
