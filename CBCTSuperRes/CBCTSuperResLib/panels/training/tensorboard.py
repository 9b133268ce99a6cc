"""Section Run, the button for TensorBoard."""

from __future__ import annotations

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...core.packages import TRAINING_EXTRAS, missing_packages
from ...jobs.tensorboard import Board
from .. import dialogs
from ..section import Section, logError, say
from .choices import TrainingChoices

FOLDER = "tb_logger"


class TensorBoardSection(Section):
    """Starts TensorBoard for the runs of the results folder, shows it in the web browser, and ends it at the end."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices)
        self._board: Board | None = None
        self._isOpening = False
        ui.boardButton.connect("clicked(bool)", self.onOpen)

    @property
    def isBusy(self) -> bool:
        return self._isOpening

    def refresh(self) -> None:
        self.ui.boardButton.enabled = self.parameters is not None and not self._isOpening

    def poll(self) -> None:
        try:
            address = self._board.poll()
        except SuperResError as error:
            self._fail(error)
            return
        if address:
            self._isOpening = False
            text = _("TensorBoard is at {address} until this module is closed.")
            self.ui.boardLabel.text = text.format(address=address)
            dialogs.openAddress(address)
            self.changed.emit()

    def close(self) -> None:
        """End TensorBoard."""
        if self._board is not None:
            self._board.close()
        self._board, self._isOpening = None, False
        say(self.ui.boardLabel, "")

    def onOpen(self, checked: bool = False) -> None:
        folder = self.choices.resultsFolder / FOLDER
        if not folder.is_dir():
            text = _("No run here has written anything for TensorBoard. Turn on use_tb_logger in the settings.")
            say(self.ui.boardLabel, text)
            return
        if isMissing():
            dialogs.offerTrainingExtras()
        if isMissing():
            text = _("TensorBoard is not installed. The curves can be seen in Slicer all the same.")
            say(self.ui.boardLabel, text)
            return
        try:
            if self._board is None or self._board.folder != folder or not self._board.isRunning:
                self.close()
                self._board = Board(folder)
        except SuperResError as error:
            self._fail(error)
            return
        self._isOpening = True
        say(self.ui.boardLabel, _("Starting TensorBoard"))
        self.changed.emit()

    def _fail(self, error: SuperResError) -> None:
        self.close()
        say(self.ui.boardLabel, str(error))
        logError(error)
        self.changed.emit()


def isMissing() -> bool:
    """Whether TensorBoard is not installed."""
    return bool(missing_packages(TRAINING_EXTRAS[:1]))
