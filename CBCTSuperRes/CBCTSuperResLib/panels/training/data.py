"""Section Data: which scans a training learns from, and whether they will do."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...scene.checkerboard import Checkerboard
from ...scene.training_volumes import Steps
from .. import dialogs
from ..section import offer, say
from .choices import TrainingChoices
from .data_rows import DataRow
from .data_table import DataTable, ScanAdder
from .option_values import withPrepared
from .parameters import WindowChoice
from .prepare import Preparation, freeFolder, prepareOptions
from .tasks import TaskSection
from .texts import checkText, prepareText


class DataSection(TaskSection):
    """The table of scans; the check of all images; registration of a pair and its checkerboard."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices, ui.dataStatusLabel, ui.dataProgressBar)
        self._table = DataTable(ui, choices)
        self._table.chosen.connect(self.refresh)
        self._table.volumeRemoved.connect(self.changed.emit)
        self._adder = ScanAdder(ui, self._table.add)
        self._board = Checkerboard(self.changed.emit)
        self._preparation: Preparation | None = None
        self._waitingReport: dict | None = None  # of a preparation that has ended while the module was not shown
        ui.checkButton.connect("clicked(bool)", self.onCheckOrCancel)
        ui.prepareButton.connect("clicked(bool)", self.onPrepareOrCancel)
        ui.checkerboardButton.connect("clicked(bool)", self.onCheckerboard)
        ui.dataReport.visible = False

    @property
    def isBusy(self) -> bool:
        return self._task.isBusy or self._board.isBusy

    def bind(self) -> None:
        say(self.ui.addLabel, "")
        self._table.bind()
        if self._waitingReport is not None:
            try:
                self._takePrepared(self._waitingReport)
            except SuperResError as error:
                self._task.showError(error)

    def unbind(self) -> None:
        self._table.unbind()

    def refresh(self) -> None:
        self._table.refresh()
        isBusy, row = self._task.isBusy, self._table.chosenRow()
        isPreparing = isBusy and self._preparation is not None
        isChecking = isBusy and not isPreparing
        self.ui.addButton.enabled = self.parameters is not None and not isBusy
        self.ui.checkButton.text = _("Cancel") if isChecking else _("Check data")
        reason = _("Wait for the registration.") if isPreparing else self.choices.mistake()
        hint = _("Read all images as a training would, and tell counts, sizes, windows, misalignment and patients.")
        offer(self.ui.checkButton, "" if isChecking else reason, _("Stop looking.") if isChecking else hint)
        self.ui.prepareButton.text = _("Cancel") if isPreparing else _("Register and prepare...")
        reason = _("Wait for the check.") if isChecking else _whyNotPrepared(row)
        hint = _("Align the coarse scan of the chosen row to its fine scan and write a pair that can be trained on.")
        stop = _("Stop; nothing is written.")
        offer(self.ui.prepareButton, "" if isPreparing else reason, stop if isPreparing else hint)
        self.ui.checkerboardButton.text = _("Hide checkerboard") if self._board.isShown else _("Show checkerboard")
        canShow = self._board.isShown or (row is not None and row.isPreparedPair)
        reason = "" if canShow else _("Choose a row that was prepared here first.")
        hint = _(
            "Fine and coarse scan by turns in the slice views: where they are aligned, edges run on from tile to tile."
        )
        offer(self.ui.checkerboardButton, reason, hint)

    def poll(self) -> None:
        if self._board.isBusy:
            self._board.poll()
        if self._task.isBusy:
            self._task.poll()
        if not self.isBusy:
            self.changed.emit()

    def close(self) -> None:
        super().close()
        self._board.remove()
        self._preparation = self._waitingReport = None
        self._showReport("")
        say(self.ui.addLabel, "")

    def onCheckOrCancel(self, checked: bool = False) -> None:
        if self._task.isBusy:
            self._task.cancel()
            return
        self._preparation = None
        self._start(self.logic.checkData, lambda report: self._showReport(checkText(report)), self.choices.completing)

    def onPrepareOrCancel(self, checked: bool = False) -> None:
        if self._task.isBusy:
            self._task.cancel()
            return
        row = self._table.chosenRow()
        try:
            options = prepareOptions(self.choices)
        except SuperResError as error:
            self._task.showError(error)
            return
        parent = dialogs.chooseFolder(_("Choose where to write the pair"), str(self.choices.resultsFolder))
        if parent:
            prepared = self._preparation = Preparation(row, freeFolder(parent, row), options)
            self._start(lambda job: job, self._takePrepared, lambda: prepared.steps(self.logic))

    def onCheckerboard(self, checked: bool = False) -> None:
        if self._board.isShown:
            self._board.remove()
            self.changed.emit()
        else:
            self._showBoard(self._table.chosenRow())

    def _start(self, begin: Callable, onDone: Callable[[dict], None], steps: Callable[[], Steps]) -> None:
        self._showReport("")
        try:
            self._task.start(begin, onDone, steps())
        except SuperResError as error:
            self._task.showError(error)
        self.changed.emit()

    def _takePrepared(self, report: dict) -> None:
        """Put what was written in place of the row that it was made of; later, if the module is not shown."""
        self._waitingReport = report if self.parameters is None else None
        if self._waitingReport is not None:
            return
        prepared, self._preparation = self._preparation, None
        self._showReport(prepareText(report))
        values, rows = withPrepared(self.choices.settings(), prepared.datasets())
        rows = prepared.rows(rows)
        self.parameters.window = WindowChoice.custom
        self.choices.setSettings(values)
        self._table.replace(prepared.row, rows)
        self._showBoard(prepared.worstRow(rows, report))

    def _showBoard(self, row: DataRow) -> None:
        try:
            self._board.show(row.coarse, row.fine)
        except SuperResError as error:
            self._task.showError(error)
        self.changed.emit()

    def _showReport(self, text: str) -> None:
        self.ui.dataReport.setPlainText(text)
        self.ui.dataReport.visible = bool(text)


def _whyNotPrepared(row: DataRow | None) -> str:
    if row is None or not row.isPair:
        return _("Choose a row with a fine and a coarse scan first.")
    if row.coarse is None or row.fine is None:
        return _("A volume of this row is no longer in the scene.")
    return ""
