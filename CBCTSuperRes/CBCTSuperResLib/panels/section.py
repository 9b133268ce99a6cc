"""What the sections of both panels have in common: their life, signals, and how they show texts and reasons."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape

import qt
from slicer.i18n import tr as _

from ..core.errors import Cancelled, SuperResError
from .error_text import errorText

WARNING = "\u26a0 "


class Signal:
    """Tells whoever wants to know; plain Python, as signals of Qt in Python classes have ended Slicer unexpectedly.

    >>> done = Signal()
    >>> done.connect(print)
    >>> done.emit("finished")
    finished
    """

    def __init__(self) -> None:
        self._slots: list[Callable] = []

    def connect(self, slot: Callable) -> None:
        self._slots.append(slot)

    def emit(self, *values) -> None:
        for slot in self._slots:
            slot(*values)


class Section:
    """One collapsible part of a panel; a subclass overrides what it needs.

    Parameters
    ----------
    ui
        The widgets of the panel's .ui file, by name.
    choices
        What is chosen in the panel; shared by all its sections.

    Attributes
    ----------
    isBusy : bool
        Whether `poll` is to be called every tenth of a second.
    changed : Signal ()
        Something that another section shows has changed outside of the parameters, or `isBusy` has.
    """

    isBusy = False

    def __init__(self, ui, choices) -> None:
        self.ui, self.choices = ui, choices
        self.changed = Signal()

    @property
    def parameters(self):
        """The parameter node wrapper that is shown and changed; None while no scene is followed."""
        return self.choices.parameters

    def bind(self) -> None:
        """The parameters are there; widgets with SlicerParameterName are connected by the panel."""

    def unbind(self) -> None:
        """The parameters have gone: the module is left, or the scene closes. Work that was asked for goes on."""

    def refresh(self) -> None:
        """Show everything as it is now. Called after every change, so it must be cheap and must not cause another."""

    def poll(self) -> None:
        """Go on with what is running, for at most 50 ms."""

    def close(self) -> None:
        """End everything, now: processes, timers, observers, nodes that were only shown. The panel may go on after."""


class JobSection(Section):
    """A section that has one job done at a time; a label beside the button that starts and cancels it tells of it.

    A subclass says in `done` what becomes of the job, and in `failed` what else an error means.

    Parameters
    ----------
    label : QLabel
        For how far the job is, what came of it and what went wrong; takes no room while it says nothing.

    Attributes
    ----------
    job : Job, VolumeJob or None
        What goes on.
    """

    def __init__(self, ui, choices, label) -> None:
        super().__init__(ui, choices)
        self.job = None
        self._label = label
        self.tell("")

    @property
    def isBusy(self) -> bool:
        return self.job is not None

    def poll(self) -> None:
        self.job.poll()
        self._showProgress()
        if self.job.isFinished:
            self._end()

    def close(self) -> None:
        if self.job:
            self.job.close()
            self._end()

    def startOrCancel(self, begin: Callable) -> None:
        """Cancel the job that goes on, or begin one; `begin` returns it, or None where there is nothing to do."""
        if self.job:
            self.job.cancel()
            self._showProgress()
            return
        self.tell("")
        try:
            self.job = begin()
        except SuperResError as error:
            self.failed(error)
        if self.job:
            self._showProgress()
        self.changed.emit()

    def tell(self, text: str) -> None:
        say(self._label, text)

    def done(self, job) -> None:
        """The job has ended well."""

    def failed(self, error: SuperResError) -> None:
        """The job could not begin, or has ended without a result."""
        self.tell(errorText(error))

    def _showProgress(self) -> None:
        text = _("{stage}, {percent} %")
        stage = self.job.message or _("Starting")
        self.tell(text.format(stage=stage, percent=round(100 * self.job.fraction)))

    def _end(self) -> None:
        job, self.job = self.job, None
        job.close()
        if job.error:
            logError(job.error)
            self.failed(job.error)
        else:
            self.done(job)
        self.changed.emit()


def logError(error: SuperResError) -> None:
    """Write an error with its details to the application's log, unless the user asked for the end."""
    if not isinstance(error, Cancelled):
        logging.error("%s\n%s", error, getattr(error, "detail", ""))


def plainToolTip(text: str) -> str:
    """A tool tip that shows a text as it is; Qt would take names such as "<b>x</b>" in it for HTML."""
    if "<" not in text and "&" not in text:
        return text
    return f'<p style="white-space: pre-wrap">{escape(text, quote=False)}</p>'


def offer(button, reason: str, hint: str) -> None:
    """Let a button be used and tell what it does, or, if there is a reason against it, tell that."""
    button.enabled = not reason
    button.toolTip = plainToolTip(reason or hint)


def say(label, text: str) -> None:
    """Show a text in a label, which takes no room while there is none."""
    label.text = text
    label.visible = bool(text)


@contextmanager
def signalsBlocked(widget) -> Iterator[None]:
    """Change a widget without being told of it."""
    wasBlocked = widget.blockSignals(True)
    try:
        yield
    finally:
        widget.blockSignals(wasBlocked)


def fitColumns(table) -> None:
    """Give the second column the rest of the width, and each row the height that its texts need."""
    table.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
    table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)


def fitHeight(table) -> None:
    """Make a table as high as its rows, and its first column as wide as it can be, now and whenever these change.

    A table that adjusts itself to its contents would do it, but asks for the width that its columns happen to have, so
    that whatever it lies in can become wider and never narrower.
    """

    later = qt.QTimer(table)  # once all rows have their heights, of which the table tells one by one
    later.setSingleShot(True)
    later.setInterval(0)

    def fit(*_) -> None:
        table.resizeRowsToContents()  # a narrower column needs more lines, which the table finds out only when painted
        frame = 2 * table.frameWidth
        height = table.horizontalHeader().height + table.verticalHeader().length() + frame
        if table.minimumHeight != height:
            table.minimumHeight = table.maximumHeight = height

    def changed(*_) -> None:
        fit()
        later.start()

    fitColumns(table)
    later.connect("timeout()", fit)
    table.horizontalHeader().connect("sectionResized(int,int,int)", changed)
    table.verticalHeader().connect("sectionResized(int,int,int)", changed)
    table.verticalHeader().connect("sectionCountChanged(int,int)", changed)


def showCell(table, row: int, column: int, text: str, hint: str, bold: bool = False) -> None:
    """Write a cell; the table is not touched where nothing has changed."""
    item = table.item(row, column)
    if item is None:
        item = qt.QTableWidgetItem()
        item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
        table.setItem(row, column, item)
    if item.text() != text:
        item.setText(text)
    hint = plainToolTip(hint)
    if item.toolTip() != hint:
        item.setToolTip(hint)
    font = item.font()
    if font.bold() != bold:
        font.setBold(bold)
        item.setFont(font)
