"""Files of options: opened, and saved complete."""

from __future__ import annotations

from slicer.i18n import tr as _

from ...errors import SuperResError
from .. import dialogs
from .choices import TrainingChoices
from .option_values import openValues, saveValues
from .task_view import tell


class OptionsFile:
    """The buttons that open and save the JSON of a training.

    Parameters
    ----------
    ui
        With openOptionsButton, saveOptionsButton and fileLabel.
    choices : TrainingChoices
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        self.ui, self.choices = ui, choices
        tell(ui.fileLabel, "")
        ui.openOptionsButton.connect("clicked(bool)", self.onOpen)
        ui.saveOptionsButton.connect("clicked(bool)", self.onSave)

    def refresh(self, isBound: bool) -> None:
        self.ui.openOptionsButton.enabled = self.ui.saveOptionsButton.enabled = isBound

    def onOpen(self, checked: bool = False) -> None:
        path = dialogs.chooseFile(_("Open options"), _filters(), str(self.choices.resultsFolder))
        if path:
            self._tell(self._open, path)

    def onSave(self, checked: bool = False) -> None:
        folder = self.choices.resultsFolder / f"{self.choices.parameters.runName}.json"
        path = dialogs.chooseNewFile(_("Save options"), _filters(), str(folder))
        if path:
            self._tell(self._save, path)

    def _open(self, path: str) -> str:
        self.choices.takeFile(*openValues(path))
        return _("Opened {path}.").format(path=path)

    def _save(self, path: str) -> str:
        saveValues(self.choices.completeOptions(), path)
        return _("Saved {path}.").format(path=path)

    def _tell(self, work, path: str) -> None:
        try:
            tell(self.ui.fileLabel, work(path))
        except SuperResError as error:
            tell(self.ui.fileLabel, str(error))


def _filters() -> str:
    return _("Options of a training (*.json);;All files (*)")
