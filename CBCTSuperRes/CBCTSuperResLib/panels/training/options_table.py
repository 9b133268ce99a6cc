"""The table in section Settings of all keys that have no widget of their own; what the chosen one means is below it."""

from __future__ import annotations

from collections.abc import Iterable

import qt
from slicer.i18n import tr as _

from ...train.option_values import text_of_value
from ...train.options_file import value_at, value_of_text
from ...train.options_schema import catalogue
from ..section import WARNING, plainToolTip, signalsBlocked
from .choices import RANGE, ROOT_KEYS, TrainingChoices
from .data_table import ROW_HEIGHT
from .option_values import Values

KEY, VALUE = range(2)
OF_OTHER_SECTIONS = {"name", "path.root", "path.resume_state", RANGE}
OF_OTHER_SECTIONS |= {f"datasets.{phase}.{key}" for phase in ("train", "val") for key in (*ROOT_KEYS, "mode")}


class OptionsTable:
    """One row a key; a value is typed as in JSON, texts without quotes, nothing for null.

    Parameters
    ----------
    ui
        With optionsTable, searchEdit and meaningLabel.
    choices : TrainingChoices
    hidden : iterable of str
        Keys that have widgets of their own.
    """

    def __init__(self, ui, choices: TrainingChoices, hidden: Iterable[str]) -> None:
        self.ui, self.choices = ui, choices
        self._entries = [entry for entry in catalogue() if entry.name not in OF_OTHER_SECTIONS | set(hidden)]
        self._shown: dict[str, tuple[str, str]] = {}  # value and problem of each key
        table = ui.optionsTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Key"), _("Value")])
        table.setRowCount(len(self._entries))
        table.verticalHeader().setVisible(False)
        table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        table.setWordWrap(False)
        table.setTextElideMode(qt.Qt.ElideMiddle)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        table.horizontalHeader().setSectionResizeMode(KEY, qt.QHeaderView.Stretch)
        for row, entry in enumerate(self._entries):
            for column, text in ((KEY, entry.name), (VALUE, "")):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(plainToolTip(entry.text))
                if column != VALUE:
                    item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                table.setItem(row, column, item)
        table.connect("cellChanged(int,int)", self.onChanged)
        table.connect("itemSelectionChanged()", self.onChosen)
        ui.searchEdit.connect("textChanged(QString)", self.onSearch)

    def refresh(self, values: Values, problems: Iterable[tuple[tuple[str, ...], str]]) -> None:
        """Show the values, and at the first key that a problem is about the problem."""
        wrong, table = {keys[0]: text for keys, text in problems if keys}, self.ui.optionsTable
        with signalsBlocked(table):
            for row, entry in enumerate(self._entries):
                text, problem = text_of_value(value_at(values, entry.name)), wrong.get(entry.name, "")
                if self._shown.get(entry.name) == (text, problem):
                    continue
                self._shown[entry.name] = (text, problem)
                table.item(row, KEY).setText(WARNING * bool(problem) + entry.name)
                table.item(row, VALUE).setText(text)
                for column in (KEY, VALUE):
                    table.item(row, column).setToolTip(plainToolTip(problem or entry.text))
        self.onChosen()

    def onChanged(self, row: int, column: int) -> None:
        if column != VALUE or self.choices.parameters is None:
            return
        name = self._entries[row].name
        self._shown.pop(name, None)
        self.choices.change({name: value_of_text(name, self.ui.optionsTable.item(row, VALUE).text())})

    def onChosen(self) -> None:
        """Tell all of the chosen key: what is wrong with it, what it means, what it accepts."""
        chosen = [index.row() for index in self.ui.optionsTable.selectionModel().selectedRows()]
        if not chosen:
            self.ui.meaningLabel.text = _("Choose a setting to read what it means.")
            return
        entry = self._entries[chosen[0]]
        problem = self._shown.get(entry.name, ("", ""))[1]
        self.ui.meaningLabel.text = "\n".join(filter(None, [problem and WARNING + problem, entry.text]))

    def onSearch(self, text: str) -> None:
        """Show only the keys whose name or meaning has these words."""
        words = text.lower().split()
        for row, entry in enumerate(self._entries):
            searched = f"{entry.name} {entry.key.meaning}".lower()
            self.ui.optionsTable.setRowHidden(row, not all(word in searched for word in words))
