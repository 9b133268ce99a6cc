"""Section Data: which images a training learns from."""

from __future__ import annotations

from ..section import Section
from .choices import TrainingChoices


class DataSection(Section):
    """The images of a training, and what is wrong with them."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices = choices
