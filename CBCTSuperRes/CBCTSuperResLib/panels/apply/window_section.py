"""Window: which grey values the model sees."""

from __future__ import annotations

from ..section import Section
from .choices import Choices


class WindowSection(Section):
    """Chooses the range of grey values."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices
