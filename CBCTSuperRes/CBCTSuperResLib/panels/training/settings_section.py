"""Section Settings: how a training learns."""

from __future__ import annotations

from ..section import Section
from .choices import TrainingChoices


class SettingsSection(Section):
    """The options of a training."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices = choices
