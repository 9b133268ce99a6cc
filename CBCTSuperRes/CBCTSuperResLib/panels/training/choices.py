"""What is chosen in the panel, as the logic takes it."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import OptionError, SuperResError
from ...training.options import TrainingOptions
from ...training_logic import TrainingLogic
from .parameters import TrainingParameters


class TrainingChoices:
    """Reads the parameters of the scene; sections share it and change parameters only.

    Attributes
    ----------
    parameters : TrainingParameters or None
        None while no scene is followed.
    """

    def __init__(self, logic: TrainingLogic) -> None:
        self.logic = logic
        self.parameters: TrainingParameters | None = None

    @property
    def resultsFolder(self) -> Path:
        """Where runs are and where new ones go: `path.root` of the options."""
        return Path(self.parameters.resultsFolder).expanduser()

    def values(self) -> dict:
        """The JSON of the options, complete with name and root.

        Raises
        ------
        OptionError
            If the settings are no JSON object.
        """
        try:
            values = dict(json.loads(self.parameters.settings or "{}"))
        except (TypeError, ValueError) as error:
            raise OptionError(f"The settings in this scene cannot be read: {error}.", "Choose a preset.") from error
        values["name"] = self.parameters.runName.strip()
        values["path"] = {**values.get("path", {}), "root": str(self.resultsFolder)}
        return values

    def options(self) -> TrainingOptions:
        """The options, checked; volumes of the scene are not in them yet.

        Raises
        ------
        OptionError
            With all that is wrong.
        """
        return self.logic.readOptions(self.values())

    def volumes(self) -> list:
        """Nodes, or pairs of nodes, to train on; none if the options name folders."""
        return []

    def validation(self) -> list:
        """Nodes, or pairs of nodes, to validate on."""
        return []

    def problem(self) -> str:
        """Why a training cannot start, or nothing."""
        if self.parameters is None:
            return "No scene is open."
        try:
            self.options()
        except SuperResError as error:
            return str(error)
        return ""
