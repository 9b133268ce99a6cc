"""Batch: several volumes or files, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from ...logic import SuperResLogic
from ..section import Section
from .choices import Choices


class BatchSection(Section):
    """Runs a queue of volumes."""

    def __init__(self, ui, choices: Choices, logic: SuperResLogic, ensurePackages: Callable[[], None]) -> None:
        super().__init__(ui)
        self.choices, self.logic, self.ensurePackages = choices, logic, ensurePackages
