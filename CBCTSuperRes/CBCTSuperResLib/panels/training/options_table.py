"""The table of all other settings: key, value, meaning."""

from __future__ import annotations

from collections.abc import Iterable

import qt
from slicer.i18n import tr as _

from ...errors import SuperResError
from ...training.options.catalogue import catalogue
from .choices import RANGE, ROOT_KEYS, TrainingChoices
from .data_table import ROW_HEIGHT, WARNING
from .option_values import textOfValue, valueAt, valueOfText, withValue

KEY, VALUE, MEANING = range(3)
WIDTHS = {KEY: 170, VALUE: 80}
OURS = " \u2020"
ELSEWHERE = {"name", "path.root", "path.resume_state", RANGE}
ELSEWHERE |= {f"datasets.{phase}.{key}" for phase in ("train", "val") for key in (*ROOT_KEYS, "mode")}


class OptionsTable:
    """One row a key; a value is typed as in JSON, texts without quotes, nothing for null.

    Parameters
    ----------
    ui
        With optionsTable, searchEdit and meaningLabel.
    choices : TrainingChoices
    shownElsewhere : iterable of str
        Keys that have widgets of their own.
    """

    def __init__(self, ui, choices: TrainingChoices, shownElsewhere: Iterable[str]) -> None:
        self.ui, self.choices = ui, choices
        hidden = ELSEWHERE | set(shownElsewhere)
        self._entries = [entry for entry in catalogue() if entry.name not in hidden]
        self._shown: dict[str, tuple[str, str]] = {}
        table = ui.optionsTable
        table.setColumnCount(3)
        table.setHorizontalHeaderLabels([_("Key"), _("Value"), _("Meaning")])
        table.setRowCount(len(self._entries))
        table.verticalHeader().setVisible(False)
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setWordWrap(False)
        table.setTextElideMode(qt.Qt.ElideRight)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        table.horizontalHeader().setStretchLastSection(True)
        self._fill()
        table.connect("cellChanged(int,int)", self.onChanged)
        table.connect("itemSelectionChanged()", self.onChosen)
        ui.searchEdit.connect("textChanged(QString)", self.onSearch)

    def refresh(self, problems: Iterable[tuple[tuple[str, ...], str]]) -> None:
        try:
            values = self.choices.values()
        except SuperResError:
            return
        wrong = {key: text for keys, text in problems for key in keys[:1]}
        table = self.ui.optionsTable
        wasBlocked = table.blockSignals(True)
        for number, entry in enumerate(self._entries):
            told = textOfValue(valueAt(values, entry.name)), wrong.get(entry.name, "")
            if self._shown.get(entry.name) != told:
                self._shown[entry.name] = told
                self._showRow(number, *told)
        table.blockSignals(wasBlocked)
        self.onChosen()

    def onChanged(self, row: int, column: int) -> None:
        if column != VALUE or self.choices.parameters is None:
            return
        name = self._entries[row].name
        self._shown.pop(name, None)
        try:
            values = self.choices.settings()
        except SuperResError:
            return
        text = self.ui.optionsTable.item(row, VALUE).text()
        self.choices.setSettings(withValue(values, name, valueOfText(name, text)))

    def onChosen(self) -> None:
        """Tell all of the chosen key: what is wrong with it, what it means, what it accepts."""
        chosen = [index.row() for index in self.ui.optionsTable.selectionModel().selectedRows()]
        if not chosen:
            self.ui.meaningLabel.text = _("A \u2020 marks keys that UNetSPSR's own options do not have.")
            return
        entry = self._entries[chosen[0]]
        problem = self._shown.get(entry.name, ("", ""))[1]
        self.ui.meaningLabel.text = "\n".join(filter(None, [problem and WARNING + problem, entry.text]))

    def onSearch(self, text: str) -> None:
        """Show only the keys whose name or meaning has these words."""
        words = text.lower().split()
        for number, entry in enumerate(self._entries):
            told = f"{entry.name} {entry.key.meaning}".lower()
            self.ui.optionsTable.setRowHidden(number, not all(word in told for word in words))

    def _fill(self) -> None:
        readOnly = qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled
        for number, entry in enumerate(self._entries):
            for column, text in ((KEY, keyText(entry)), (VALUE, ""), (MEANING, entry.key.meaning)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(entry.text)
                if column != VALUE:
                    item.setFlags(readOnly)
                self.ui.optionsTable.setItem(number, column, item)
        for column, width in WIDTHS.items():
            self.ui.optionsTable.setColumnWidth(column, width)

    def _showRow(self, number: int, text: str, problem: str) -> None:
        table, entry = self.ui.optionsTable, self._entries[number]
        table.item(number, KEY).setText((WARNING if problem else "") + keyText(entry))
        table.item(number, VALUE).setText(text)
        for column in (KEY, VALUE):
            table.item(number, column).setToolTip(problem or entry.text)


def keyText(entry) -> str:
    """The key's name, marked if it is one of our own."""
    return entry.name + (OURS if entry.key.ours else "")
