"""Batch: several volumes or files, one after the other."""

from __future__ import annotations

from ..section import Section
from .choices import Choices


class BatchSection(Section):
    """Runs a queue of volumes."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices
