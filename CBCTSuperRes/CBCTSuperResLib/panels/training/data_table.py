"""The table of scans in section Data, and what puts scans into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ...core.errors import InputError, SuperResError
from ...scene.nodes import volumeFromNode
from .. import dialogs
from ..error_text import errorText
from ..section import WARNING, Signal, plainToolTip, say, signalsBlocked
from .choices import TrainingChoices
from .data_checks import problemOf, warningOf
from .data_rows import USES, DataRow, makeRow
from .texts import useText

FINE, COARSE, USE = range(3)
ROW_HEIGHT = 24
VOLUMES, FILES = range(2)


class DataTable:
    """Shows the rows that are kept in the parameters, and what is wrong with them.

    Attributes
    ----------
    chosen : Signal ()
        Another row is chosen.
    volumeRemoved : Signal ()
        A volume was removed from the scene.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        self.ui, self.choices = ui, choices
        self.chosen, self.volumeRemoved = Signal(), Signal()
        self._shown: list | None = None
        self._observer: tuple | None = None
        table = ui.dataTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Fine scan"), _("Coarse scan"), _("Used for")])
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setWordWrap(False)
        table.setTextElideMode(qt.Qt.ElideMiddle)
        table.verticalHeader().setVisible(False)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        for column, mode in ((FINE, "Stretch"), (COARSE, "Stretch"), (USE, "ResizeToContents")):
            table.horizontalHeader().setSectionResizeMode(column, getattr(qt.QHeaderView, mode))
        table.connect("itemSelectionChanged()", self.onChosen)
        ui.useButton.connect("clicked(bool)", self.onOtherUse)
        ui.removeButton.connect("clicked(bool)", self.onRemove)

    def bind(self) -> None:
        """Follow the scene: volumes may be removed from it."""
        scene = slicer.mrmlScene

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def onRemoved(caller, event, node) -> None:
            if node.IsA("vtkMRMLVolumeNode"):
                self.volumeRemoved.emit()

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
        """Put a row at the end and choose it.

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
        rows = self.choices.rows()
        problems = [problemOf(row, self.choices.settings) or warningOf(row) for row in rows]
        shown = [(row.names, row.use, problem) for row, problem in zip(rows, problems, strict=True)]
        if shown != self._shown:
            self._shown = shown
            self._fill(rows, problems)
        say(self.ui.dataLabel, "\n".join(WARNING + text for text in self.choices.dataWarnings()))
        self._showButtons()

    def onChosen(self) -> None:
        self._showButtons()
        self.chosen.emit()

    def onOtherUse(self, checked: bool = False) -> None:
        rows, number = self.choices.rows(), self._number()
        rows[number] = replace(rows[number], use="val" if rows[number].use == "train" else "train")
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
        table, chosen = self.ui.dataTable, self._number()
        with signalsBlocked(table):
            table.setRowCount(len(rows))
            for number, (row, problem) in enumerate(zip(rows, problems, strict=True)):
                coarse, fine = row.names
                texts = (WARNING * bool(problem) + fine, coarse or _("simulated"), useText(row.use))
                for column, text in enumerate(texts):
                    item = qt.QTableWidgetItem(text)
                    item.setToolTip(plainToolTip(problem or row.description))
                    table.setItem(number, column, item)
            if rows:
                table.setCurrentCell(min(max(chosen, 0), len(rows) - 1), FINE)

    def _showButtons(self) -> None:
        row = self.chosenRow()
        other = useText("val" if row is None or row.use == "train" else "train")
        self.ui.useButton.text = _("Use for {use}").format(use=other.lower())
        self.ui.useButton.enabled = self.ui.removeButton.enabled = row is not None


class ScanAdder:
    """Loaded volumes, or files and folders: a fine scan and, if there is one, the coarse scan of the same object.

    Parameters
    ----------
    ui
    add : callable (row)
        Puts a row into the table; may raise SuperResError.
    """

    def __init__(self, ui, add: Callable[[DataRow], None]) -> None:
        self.ui = ui
        self._add = add
        for text in (_("Loaded volumes"), _("Files or folders")):
            ui.sourceSelector.addItem(text)
        for use in USES:
            ui.useSelector.addItem(useText(use))
        ui.sourceSelector.connect("currentIndexChanged(int)", self.onSource)
        ui.addButton.connect("clicked(bool)", self.onAdd)
        ui.fineFileButton.connect("clicked(bool)", partial(self.onFile, ui.finePathEdit))
        ui.fineFolderButton.connect("clicked(bool)", partial(self.onFolder, ui.finePathEdit))
        ui.coarseFileButton.connect("clicked(bool)", partial(self.onFile, ui.coarsePathEdit))
        ui.coarseFolderButton.connect("clicked(bool)", partial(self.onFolder, ui.coarsePathEdit))
        self.onSource()

    def onSource(self, index: int = 0) -> None:
        areFiles = self.ui.sourceSelector.currentIndex == FILES
        for widget in (self.ui.fineSelector, self.ui.coarseSelector):
            widget.visible = not areFiles
        for widget in (self.ui.finePathWidget, self.ui.coarsePathWidget):
            widget.visible = areFiles

    def onAdd(self, checked: bool = False) -> None:
        try:
            self._add(self._row())
        except SuperResError as error:
            say(self.ui.addLabel, errorText(error))
            return
        say(self.ui.addLabel, "")
        for edit in (self.ui.finePathEdit, self.ui.coarsePathEdit):
            edit.text = ""
        for selector in (self.ui.fineSelector, self.ui.coarseSelector):
            selector.setCurrentNode(None)

    def _row(self) -> DataRow:
        if self.ui.sourceSelector.currentIndex == FILES:
            fine, coarse = (_existingPath(edit.text) for edit in (self.ui.finePathEdit, self.ui.coarsePathEdit))
        else:
            fine, coarse = (selector.currentNode() for selector in (self.ui.fineSelector, self.ui.coarseSelector))
            for node in filter(None, (fine, coarse)):
                volumeFromNode(node)
        if fine is None:
            raise InputError(_("No fine scan is chosen."), _("Choose the scan with the smaller voxels."))
        if fine == coarse:
            raise InputError(_("The coarse and the fine scan are the same."), _("Choose two different ones."))
        return makeRow(fine, coarse, USES[self.ui.useSelector.currentIndex])

    def onFile(self, edit, checked: bool = False) -> None:
        filters = _("Scans (*.nrrd *.nhdr *.mha *.mhd *.nii *.nii.gz *.tif *.tiff *.png);;All files (*)")
        edit.text = dialogs.chooseFile(_("Choose a scan"), filters, edit.text) or edit.text

    def onFolder(self, edit, checked: bool = False) -> None:
        edit.text = dialogs.chooseFolder(_("Choose a folder of slices or scans"), edit.text) or edit.text


def _existingPath(text: str) -> str | None:
    """A file or folder that is there; None for an empty text, InputError if there is nothing."""
    text = text.strip()
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise InputError(_("There is no {path}.").format(path=path), _("Choose another file or folder."))
    if path.is_dir() and not any(path.iterdir()):
        raise InputError(_("The folder {path} is empty.").format(path=path), _("Choose another one."))
    return str(path)
