"""The table of scans to train on and to validate with, as it is kept in the scene.

The table of scans in the panel.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ...core.errors import InputError, SuperResError
from ...scene.training_volumes import Scan
from .choices import TrainingChoices
from .option_values import Values, valueAt

USES = ("train", "val")
SIDES = ("coarse", "fine")
ROLE = "CBCTSuperRes.data"
DATASETS = "datasets.json"  # what preparing writes beside the scans


@dataclass(frozen=True)
class DataRow:
    """A fine scan, and perhaps the coarse scan of the same object.

    Attributes
    ----------
    fine : node or path
        None if it was a volume that is no longer in the scene.
    coarse : node or path
        None if coarse images are to be simulated, or if the volume is gone.
    use : "train" or "val"
    names : tuple of str
        Of coarse and fine scan; "" where there is none. A name without a scan is of a volume that is gone.
    """

    fine: Scan | None
    coarse: Scan | None = None
    use: str = "train"
    names: tuple[str, str] = ("", "")

    @property
    def isPair(self) -> bool:
        return bool(self.names[0])

    @property
    def isPrepared(self) -> bool:
        """Whether the fine scan was written together with `datasets.json`."""
        if self.fine is None or isNode(self.fine):
            return False
        return any((folder / DATASETS).is_file() for folder in list(Path(self.fine).parents)[1:3])

    @property
    def item(self) -> Scan | tuple[Scan, Scan]:
        """As `TrainingLogic.start` takes it."""
        return (self.coarse, self.fine) if self.isPair else self.fine


def makeRow(fine: Scan, coarse: Scan | None = None, use: str = "train") -> DataRow:
    return DataRow(fine, coarse, use, (nameOf(coarse), nameOf(fine)))


def nameOf(scan: Scan | None) -> str:
    """Of a node, or of a file or folder; "" of nothing."""
    if scan is None:
        return ""
    return scan.GetName() if isNode(scan) else Path(scan).name or str(scan)


def isNode(scan: Scan | None) -> bool:
    return scan is not None and not isinstance(scan, str | Path)


def readRows(parameters) -> list[DataRow]:
    """The rows that are kept in the parameters; none if what is there cannot be read."""
    try:
        told = json.loads(parameters.data or "[]")
        return [_rowOf(parameters.parameterNode, number, one) for number, one in enumerate(told)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def writeRows(parameters, rows: Sequence[DataRow]) -> None:
    """Keep the rows: paths as text, volumes as references, which stay right when the scene is saved and loaded."""
    node = parameters.parameterNode
    with slicer.util.NodeModify(node):
        for role in _roles(node):
            node.RemoveNodeReferenceIDs(role)
        for number, row in enumerate(rows):
            for side in SIDES:
                scan = getattr(row, side)
                if isNode(scan):
                    node.SetNodeReferenceID(f"{ROLE}.{number}.{side}", scan.GetID())
        parameters.data = json.dumps([_told(row) for row in rows], ensure_ascii=False)


def _told(row: DataRow) -> dict:
    sides = zip(SIDES, row.names, strict=True)
    return {"use": row.use, **{side: _toldScan(getattr(row, side), name) for side, name in sides}}


def _toldScan(scan: Scan | None, name: str) -> dict | None:
    if scan is None and not name:
        return None
    return {"path": str(scan)} if scan is not None and not isNode(scan) else {"volume": name}


def _rowOf(node: slicer.vtkMRMLScriptedModuleNode, number: int, told: dict) -> DataRow:
    scans, names = {}, []
    for side in SIDES:
        one = told[side] or {}
        scan = one.get("path") or node.GetNodeReference(f"{ROLE}.{number}.{side}")
        scans[side] = scan
        names.append(nameOf(scan) or one.get("volume", ""))
    return DataRow(use=told["use"] if told["use"] in USES else USES[0], names=tuple(names), **scans)


def _roles(node: slicer.vtkMRMLScriptedModuleNode) -> list[str]:
    names = [node.GetNthNodeReferenceRole(number) for number in range(node.GetNumberOfNodeReferenceRoles())]
    return [name for name in names if name.startswith(ROLE)]


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
