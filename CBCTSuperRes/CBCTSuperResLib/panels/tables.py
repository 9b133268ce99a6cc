"""Tables of two columns that are readable in a narrow panel."""

from __future__ import annotations

import qt


def fitColumns(table) -> None:
    """Give the second column the rest of the width, and each row the height that its texts need."""
    table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
    table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)


def showCell(table, row: int, column: int, text: str, hint: str, bold: bool = False) -> None:
    """Write a cell; the table is not touched where nothing has changed."""
    item = table.item(row, column)
    if item is None:
        item = qt.QTableWidgetItem()
        item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
        table.setItem(row, column, item)
    if item.text() != text:
        item.setText(text)
    if item.toolTip() != hint:
        item.setToolTip(hint)
    font = item.font()
    if font.bold() != bold:
        font.setBold(bold)
        item.setFont(font)
