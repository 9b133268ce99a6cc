"""Section Runs, the button for TensorBoard."""

from __future__ import annotations

from html import escape

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...core.packages import TRAINING_EXTRAS, missing_packages
from ...jobs.tensorboard import Board
from .. import dialogs
from ..error_text import errorText
from ..section import Section, logError, offer, say
from .choices import TrainingChoices


class TensorBoardSection(Section):
    """Starts TensorBoard for the runs of the results folder, shows it in the web browser, and ends it at the end."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices)
        self._board: Board | None = None
        self._isOpening = False
        self._showAddress("")
        say(ui.boardLabel, "")
        ui.boardButton.connect("clicked(bool)", self.onOpen)

    @property
    def isBusy(self) -> bool:
        return self._isOpening

    def refresh(self) -> None:
        reason = _("Wait until it has started.") if self._isOpening else self.choices.whyNoBoard()
        hint = _(
            "Show curves and pictures of all runs of the results folder in the web browser. TensorBoard runs on this "
            "computer only."
        )
        offer(self.ui.boardButton, reason, hint)

    def poll(self) -> None:
        try:
            address = self._board.poll()
        except SuperResError as error:
            self._fail(error)
            return
        if address:
            self._isOpening = False
            say(self.ui.boardLabel, "")
            self._showAddress(address)
            dialogs.openAddress(address)
            self.changed.emit()

    def close(self) -> None:
        """End TensorBoard."""
        if self._board is not None:
            self._board.close()
        self._board, self._isOpening = None, False
        self._showAddress("")
        say(self.ui.boardLabel, "")

    def onOpen(self, checked: bool = False) -> None:
        folder = self.choices.boardFolder
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

    def _showAddress(self, address: str) -> None:
        """As a link that can be clicked, and as a text that can be copied."""
        self.ui.boardLink.text = linkTo(address)
        self.ui.boardLink.visible = bool(address)

    def _fail(self, error: SuperResError) -> None:
        self.close()
        say(self.ui.boardLabel, errorText(error))
        logError(error)
        self.changed.emit()


def linkTo(address: str) -> str:
    """HTML of an address that can be clicked."""
    return '<a href="{address}">{address}</a>'.format(address=escape(address))


def isMissing() -> bool:
    """Whether TensorBoard is not installed."""
    return bool(missing_packages(TRAINING_EXTRAS[:1]))
