"""The table of scans in the panel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ...core.errors import InputError, SuperResError
from ...train.options_file import value_at as valueAt
from .choices import TrainingChoices
from .data_rows import DataRow
from .option_values import Values

COARSE, FINE, USE = range(3)
ROW_HEIGHT = 24
WARNING = "\u26a0 "


class DataTable:
    """Shows the rows that are kept in the parameters, and what is wrong with them.

    Parameters
    ----------
    ui
        With dataTable, dataLabel, useButton and removeButton.
    choices : TrainingChoices
    whenChosen : callable ()
        Called when another row is chosen.
    """

    def __init__(self, ui, choices: TrainingChoices, whenChosen: Callable[[], None]) -> None:
        self.ui, self.choices = ui, choices
        self._whenChosen = whenChosen
        self._shown: list | None = None
        self._observer: tuple | None = None
        table = ui.dataTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Coarse scan"), _("Fine scan"), _("Used for")])
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setWordWrap(False)
        table.setTextElideMode(qt.Qt.ElideMiddle)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        for column, mode in ((COARSE, "Stretch"), (FINE, "Stretch"), (USE, "ResizeToContents")):
            table.horizontalHeader().setSectionResizeMode(column, getattr(qt.QHeaderView, mode))
        table.connect("itemSelectionChanged()", self.onChosen)
        ui.useButton.connect("clicked(bool)", self.onOtherUse)
        ui.removeButton.connect("clicked(bool)", self.onRemove)

    def bind(self, whenChanged: Callable[[], None]) -> None:
        """Follow the scene: volumes may be removed from it."""
        scene = slicer.mrmlScene

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def onRemoved(caller, event, node) -> None:
            if node.IsA("vtkMRMLVolumeNode"):
                whenChanged()

        self._observer = (scene, scene.AddObserver(scene.NodeRemovedEvent, onRemoved))

    def unbind(self) -> None:
        if self._observer:
            scene, tag = self._observer
            scene.RemoveObserver(tag)
            self._observer = None

    def chosenRow(self) -> DataRow | None:
        rows, number = self.choices.rows(), self._number()
        return rows[number] if 0 <= number < len(rows) else None

    def add(self, row: DataRow) -> None:
        """
        Raises
        ------
        InputError
            If it is there already.
        """
        rows = self.choices.rows()
        if any(other.fine == row.fine and other.coarse == row.coarse for other in rows):
            raise InputError(_("This scan is in the table already."), _("Choose another one."))
        self.choices.setRows([*rows, row])
        self.ui.dataTable.setCurrentCell(len(rows), FINE)

    def replace(self, row: DataRow, others: Sequence[DataRow]) -> None:
        """Put other rows in place of one; at the end if it is gone."""
        rows = self.choices.rows()
        place = rows.index(row) if row in rows else len(rows)
        self.choices.setRows([*rows[:place], *others, *rows[place + 1 :]])
        self.ui.dataTable.setCurrentCell(place, FINE)

    def refresh(self) -> None:
        isBound = self.choices.parameters is not None
        rows = self.choices.rows() if isBound else []
        problems = [self.choices.rowProblem(row) for row in rows]
        told = [(row.names, row.use, problem) for row, problem in zip(rows, problems, strict=True)]
        if told != self._shown:
            self._shown = told
            self._fill(rows, problems)
        self.ui.dataLabel.text = self._summary(rows) if isBound else ""
        self._showButtons()

    def onChosen(self) -> None:
        self._showButtons()
        self._whenChosen()

    def onOtherUse(self, checked: bool = False) -> None:
        rows, number = self.choices.rows(), self._number()
        row = rows[number]
        rows[number] = DataRow(row.fine, row.coarse, "val" if row.use == "train" else "train", row.names)
        self.choices.setRows(rows)

    def onRemove(self, checked: bool = False) -> None:
        rows = self.choices.rows()
        del rows[self._number()]
        self.choices.setRows(rows)

    def _number(self) -> int:
        """Of the chosen row; -1 if there is none."""
        chosen = [index.row() for index in self.ui.dataTable.selectionModel().selectedRows()]
        return chosen[0] if chosen else -1

    def _fill(self, rows: Sequence[DataRow], problems: Sequence[str]) -> None:
        table = self.ui.dataTable
        wasBlocked = table.blockSignals(True)
        chosen = self._number()
        table.setRowCount(len(rows))
        for number, (row, problem) in enumerate(zip(rows, problems, strict=True)):
            coarse, fine = row.names
            texts = (coarse or _("simulated"), (WARNING if problem else "") + fine, useText(row.use))
            for column, text in enumerate(texts):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(problem or _tip(row))
                table.setItem(number, column, item)
        if rows:
            table.setCurrentCell(min(max(chosen, 0), len(rows) - 1), FINE)
        table.blockSignals(wasBlocked)

    def _showButtons(self) -> None:
        row = self.chosenRow() if self.choices.parameters is not None else None
        other = useText("val" if row is None or row.use == "train" else "train")
        self.ui.useButton.text = _("Use for {use}").format(use=other.lower())
        self.ui.useButton.enabled = self.ui.removeButton.enabled = row is not None

    def _summary(self, rows: Sequence[DataRow]) -> str:
        """What is trained on, what is validated with, and the first thing that is wrong."""
        problem = self.choices.dataProblem()
        try:
            values = self.choices.values()
        except SuperResError as error:
            return str(error)
        lines = [WARNING + text for text in (problem, _mixtureText(rows)) if text]
        return "\n".join([*lines, *(_phaseText(values, rows, phase) for phase in ("train", "val"))])


def useText(use: str) -> str:
    return _("Training") if use == "train" else _("Validation")


def _phaseText(values: Values, rows: Sequence[DataRow], phase: str) -> str:
    chosen = [row for row in rows if row.use == phase]
    return f"{useText(phase)}: {_chosenText(chosen) if chosen else _otherText(values, phase)}"


def _chosenText(rows: Sequence[DataRow]) -> str:
    pairs = sum(row.isPair for row in rows)
    single = len(rows) - pairs
    parts = [_("1 pair") if pairs == 1 else _("{count} pairs").format(count=pairs)] if pairs else []
    parts += [_("1 fine scan") if single == 1 else _("{count} fine scans").format(count=single)] if single else []
    return ", ".join(parts)


def _otherText(values: Values, phase: str) -> str:
    """What the settings say of a set that has no rows."""
    drawn = valueAt(values, f"datasets.{phase}.procedural") or 0
    public = valueAt(values, f"datasets.{phase}.public") or []
    parts = [_("{count} computer-drawn slices").format(count=drawn)] if drawn else []
    parts += [_("public scans ({names})").format(names=", ".join(map(str, public)))] if public else []
    return ", ".join(parts) or (_("no scans yet") if phase == "train" else _("none; the best model is the latest"))


def _mixtureText(rows: Sequence[DataRow]) -> str:
    if len({row.isPrepared for row in rows}) < 2:
        return ""
    return _("Prepared scans have gray values from 0 to 65535, the others have their own: prepare all scans, or none.")


def _tip(row: DataRow) -> str:
    coarse, fine = (str(scan) if isinstance(scan, str) else name for scan, name in _sides(row))
    if not row.isPair:
        return _("{fine}; its coarse images are simulated.").format(fine=fine)
    return _("Coarse: {coarse}. Fine: {fine}.").format(coarse=coarse, fine=fine)


def _sides(row: DataRow) -> list[tuple]:
    return list(zip((row.coarse, row.fine), row.names, strict=True))
