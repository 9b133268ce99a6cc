"""Section Run, the button for TensorBoard."""

from __future__ import annotations

import logging

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...core.packages import TRAINING_EXTRAS, missing_packages
from ...jobs.tensorboard import Board
from .. import dialogs
from ..dialogs import askAndOfferExtras
from ..widgets import Section
from .choices import TrainingChoices

FOLDER = "tb_logger"


class BoardSection(Section):
    """Starts TensorBoard for the runs of the results folder, shows it in the web browser, and ends it at the end.

    Attributes
    ----------
    offerExtras, missingExtras : callable
        What installs TensorBoard, and what tells whether it is missing.
    makeBoard : callable (folder)
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices = choices
        self.offerExtras, self.makeBoard = askAndOfferExtras, Board
        self.missingExtras = lambda: missing_packages(TRAINING_EXTRAS[:1])
        self._board: Board | None = None
        self._isOpening = False
        self.ui.boardButton.connect("clicked(bool)", self.onOpen)

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
            self.ui.boardLabel.text = _("TensorBoard is at {address} until this module is closed.").format(
                address=address
            )
            dialogs.openAddress(address)
            self.whenChanged()

    def close(self) -> None:
        """End TensorBoard."""
        if self._board is not None:
            self._board.close()
        self._board, self._isOpening = None, False
        self._say("")

    def onOpen(self, checked: bool = False) -> None:
        folder = self.choices.resultsFolder / FOLDER
        if not folder.is_dir():
            self._say(_("No run here has written anything for TensorBoard. Turn on use_tb_logger in the settings."))
            return
        if self.missingExtras():
            self.offerExtras()
        if self.missingExtras():
            self._say(_("TensorBoard is not installed. The curves can be seen in Slicer all the same."))
            return
        try:
            self._open(folder)
        except SuperResError as error:
            self._fail(error)

    def _open(self, folder) -> None:
        if self._board is None or self._board.folder != folder or not self._board.isRunning:
            self.close()
            self._board = self.makeBoard(folder)
        self._isOpening = True
        self._say(_("Starting TensorBoard"))
        self.whenChanged()

    def _fail(self, error: SuperResError) -> None:
        self.close()
        self._say(str(error))
        logging.error("%s\n%s", error, getattr(error, "detail", ""))
        self.whenChanged()

    def _say(self, text: str) -> None:
        self.ui.boardLabel.text = text
        self.ui.boardLabel.visible = bool(text)
