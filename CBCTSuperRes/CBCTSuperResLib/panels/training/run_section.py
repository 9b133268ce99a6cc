"""Section Run: start, stop, resume, watch, use the model."""

from __future__ import annotations

from collections.abc import Callable

from ..section import Section
from .choices import TrainingChoices


class RunSection(Section):
    """Trainings: started, watched and found again.

    Attributes
    ----------
    whenModelMade : callable (path)
        Set by the panel; called when a run has become a model.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices = choices
        self.whenModelMade: Callable[[str], None] = lambda path: None

    def forgetScene(self) -> None:
        """Let go of what is shown in the scene, which closes; a training goes on."""
