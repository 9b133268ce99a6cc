"""Advanced: how it is computed."""

from __future__ import annotations

from ..section import Section
from .choices import Choices


class AdvancedSection(Section):
    """Device, precision, tiles and the like."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices
