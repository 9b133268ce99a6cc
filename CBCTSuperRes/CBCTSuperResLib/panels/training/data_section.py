"""Section Data: which scans a training learns from, and whether they will do."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from ...errors import SuperResError
from ..packages import askAndEnsurePackages
from ..section import Section
from .add_scans import ScanAdder
from .checkerboard import Checkerboard
from .choices import TrainingChoices
from .data_rows import DataRow
from .data_table import DataTable
from .data_texts import checkText, prepareText
from .option_values import withPrepared
from .parameters import WindowChoice
from .preparing import Preparing
from .task_view import TaskView
from .written_task import WrittenTask


class DataSection(Section):
    """The table of scans; the check of all images; registration of a pair and its checkerboard.

    Attributes
    ----------
    ensurePackages : callable
        Called before another process works; installs what is missing.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices, self.logic = choices, choices.logic
        self.ensurePackages: Callable[[], None] = askAndEnsurePackages
        self._table = DataTable(ui, choices, self.refresh)
        self._adder = ScanAdder(ui, self._table.add)
        self._work = TaskView(ui.dataProgressBar, ui.dataStatusLabel)
        self._board = Checkerboard()
        self._prepared: Preparing | None = None
        self._unseen: dict | None = None
        self.ui.checkButton.connect("clicked(bool)", self.onCheckOrCancel)
        self.ui.prepareButton.connect("clicked(bool)", self.onPrepareOrCancel)
        self.ui.checkerboardButton.connect("clicked(bool)", self.onCheckerboard)
        self.ui.dataReport.visible = False

    @property
    def isBusy(self) -> bool:
        return self._work.isBusy or self._board.isBusy

    def bind(self, parameters) -> None:
        super().bind(parameters)
        self._adder.bind()
        self._table.bind(self.whenChanged)
        if self._unseen is not None:
            self._takeUnseen(self._unseen)

    def unbind(self) -> None:
        self._table.unbind()
        super().unbind()

    def refresh(self) -> None:
        self._table.refresh()
        self._adder.refresh(self.parameters is not None and not self._work.isBusy)
        self._showButtons()

    def poll(self) -> None:
        if self._board.isBusy:
            self._goOnShowing()
        if self._work.isBusy:
            self._work.poll()
        if not self.isBusy:
            self.whenChanged()

    def close(self) -> None:
        self._work.close()
        self._board.remove()
        self._prepared = self._unseen = None
        self._showReport("")

    def onCheckOrCancel(self, checked: bool = False) -> None:
        if self._work.isBusy:
            self._work.cancel()
            return
        self._prepared = None
        self._begin(lambda: WrittenTask(self.choices.completing(), self.logic.checkData), self._showCheck)

    def onPrepareOrCancel(self, checked: bool = False) -> None:
        if self._work.isBusy:
            self._work.cancel()
            return
        row = self._table.chosenRow()
        try:
            preparing = Preparing.ask(row, self.choices)
        except SuperResError as error:
            self._work.showError(error)
            return
        if preparing is None:
            return
        self._prepared = preparing
        self._begin(lambda: preparing.start(self.logic), self._takePrepared)

    def onCheckerboard(self, checked: bool = False) -> None:
        if self._board.isShown:
            self._board.remove()
        else:
            self._showBoard(self._table.chosenRow())
        self.whenChanged()

    def _begin(self, task: Callable, whenDone: Callable[[dict], None]) -> None:
        self._showReport("")
        try:
            self.ensurePackages()
        except SuperResError as error:
            self._work.showError(error)
            return
        self._work.start(task, whenDone)
        self.whenChanged()

    def _showCheck(self, report: dict) -> None:
        self._showReport(checkText(report))

    def _takePrepared(self, report: dict) -> None:
        """Put what was written in place of the row that it was made of; later, if the module is not shown."""
        self._unseen = report if self.parameters is None else None
        if self._unseen is not None:
            return
        preparing, self._prepared = self._prepared, None
        self._showReport(prepareText(report))
        values, rows = withPrepared(self.choices.settings(), preparing.datasets())
        rows = preparing.rows(rows)
        self.parameters.window = WindowChoice.custom
        self.choices.setSettings(values)
        self._table.replace(preparing.row, rows)
        self._showBoard(preparing.worstRow(rows, report))

    def _takeUnseen(self, report: dict) -> None:
        try:
            self._takePrepared(report)
        except SuperResError as error:
            self._work.showError(error)

    def _showBoard(self, row: DataRow) -> None:
        try:
            self._board.show(row.coarse, row.fine)
        except SuperResError as error:
            self._work.showError(error)
        self.whenChanged()

    def _goOnShowing(self) -> None:
        self._board.poll()

    def _showReport(self, text: str) -> None:
        self.ui.dataReport.setPlainText(text)
        self.ui.dataReport.visible = bool(text)

    def _showButtons(self) -> None:
        isBusy = self._work.isBusy
        isChecking, isPreparing = isBusy and self._prepared is None, isBusy and self._prepared is not None
        row = self._table.chosenRow() if self.parameters is not None else None
        self._showCheckButton(isChecking, isPreparing)
        reason = "" if isPreparing else _("Wait for the check.") if isChecking else _whyNotPrepared(row)
        self.ui.prepareButton.text = _("Cancel") if isPreparing else _("Register and prepare...")
        self.ui.prepareButton.enabled = not reason
        self.ui.prepareButton.toolTip = reason or (
            _("Stop; nothing is written.")
            if isPreparing
            else _("Align the coarse scan of the chosen row to its fine scan and write a pair that can be trained on.")
        )
        reason = "" if self._board.isShown else _whyNoBoard(row)
        self.ui.checkerboardButton.text = _("Hide checkerboard") if self._board.isShown else _("Show checkerboard")
        self.ui.checkerboardButton.enabled = not reason
        self.ui.checkerboardButton.toolTip = reason or _(
            "Fine and coarse scan by turns in the slice views: where they are aligned, edges run on from tile to tile."
        )

    def _showCheckButton(self, isChecking: bool, isPreparing: bool) -> None:
        reason = _("Wait for the registration.") if isPreparing else "" if isChecking else self.choices.mistake()
        self.ui.checkButton.text = _("Cancel") if isChecking else _("Check data")
        self.ui.checkButton.enabled = not reason
        self.ui.checkButton.toolTip = reason or (
            _("Stop looking.")
            if isChecking
            else _("Read all images as a training would, and tell counts, sizes, windows, misalignment and patients.")
        )


def _whyNotPrepared(row: DataRow | None) -> str:
    if row is None or not row.isPair:
        return _("Choose a row with a coarse and a fine scan first.")
    if row.coarse is None or row.fine is None:
        return _("A volume of this row is no longer in the scene.")
    return ""


def _whyNoBoard(row: DataRow | None) -> str:
    hasVolumes = row is not None and row.isPair and row.isPrepared and str(row.fine).lower().endswith(".nrrd")
    return "" if hasVolumes else _("Choose a row that was prepared here first.")
