"""Section Runs: the runs that there are, and how the chosen one goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import qt
from slicer.i18n import tr as _

from ...jobs.training import TrainingJob
from ...train.run_folder import RunInfo, RunRecord
from .. import dialogs
from ..section import Section, Signal, offer, signalsBlocked
from .choices import TrainingChoices
from .curves import LOSSES, PSNR, RunCurves
from .texts import listText, runText

INTERVAL_S = 1.0
NARROWEST = 40


class RunsSection(Section):
    """Lists the runs in the results folder; shows words, curves and the newest picture of the chosen one, live.

    Parameters
    ----------
    watched : callable
        Returns the training that goes on, or None.

    Attributes
    ----------
    listed : Signal (runs)
        The runs have been looked up.
    """

    def __init__(self, ui, choices: TrainingChoices, watched: Callable[[], TrainingJob | None]) -> None:
        super().__init__(ui, choices)
        self.logic, self._watched = choices.logic, watched
        self.listed = Signal()
        self._runs: list[RunInfo] = []
        self._folder: Path | None = None
        self._shown: Path | None = None  # the folder of the run that words, curves and picture are of
        self._newRun = ""  # one that has begun while the module was not shown
        self._lookedAt = 0.0
        self._hasLosses = self._hasPsnr = False
        self._curves = RunCurves()
        self._picture = ScaledPicture(ui.pictureLabel)
        ui.runList.connect("currentRowChanged(int)", self.onRunChosen)
        ui.lossesButton.connect("clicked(bool)", partial(self.onCurves, LOSSES))
        ui.psnrButton.connect("clicked(bool)", partial(self.onCurves, PSNR))
        ui.runFolderButton.connect("clicked(bool)", self.onOpenFolder)

    @property
    def isBusy(self) -> bool:
        return self._watched() is not None

    def bind(self) -> None:
        self._folder = None
        if self._newRun:
            self.parameters.shownRun, self._newRun = self._newRun, ""

    def refresh(self) -> None:
        if self.parameters is None:
            return
        isOther = self.choices.resultsFolder != self._folder
        if isOther:
            self.listRuns()
        if self._select() or isOther:
            self._showRun()
        self._showButtons()

    def poll(self) -> None:
        if time.monotonic() - self._lookedAt >= INTERVAL_S:
            self.update(onlyIfItGoesOn=True)

    def close(self) -> None:
        """Take the curves out of the scene, and show what they were shown in place of."""
        self._curves.remove()
        self._showButtons()

    def listRuns(self) -> None:
        """Look for runs; with a new one, or in a new folder, the one that goes on or was active last is chosen."""
        if self.parameters is None:
            return
        self._folder = self.choices.resultsFolder
        self._runs = self.logic.runs(self._folder)
        self._fill()
        if self._runs and self._chosenRun() is None and not self._isJustBeginning():
            self.parameters.shownRun = self._runs[0].name
        self.listed.emit(self._runs)

    def show(self, name: str) -> None:
        """Choose a run that has just begun; later, if the module is not shown."""
        if self.parameters is None:
            self._newRun = name
            return
        self.parameters.shownRun = name
        self.listRuns()
        self.update()

    def update(self, onlyIfItGoesOn: bool = False) -> None:
        """Look again how the runs go, and show the chosen one as it is now."""
        self._lookedAt = time.monotonic()
        if self.parameters is not None:
            self._runs = self.logic.runs(self._folder)
            self._fill()
            isOther, run = self._select(), self._chosenRun()
            if onlyIfItGoesOn and not isOther and run is not None and run.state != "running":
                return
        self._showRun()

    def onRunChosen(self, row: int) -> None:
        if self.parameters is not None and 0 <= row < len(self._runs):
            self.parameters.shownRun = self._runs[row].name

    def onCurves(self, which: str, checked: bool = False) -> None:
        """Show the losses or the PSNR in the layout; or, where they are shown, what was there before."""
        if self._curves.shown == which:
            self._curves.hide()
        else:
            if not self._curves.areMade:
                record = self._record()
                self._curves.make(self._shown.name, record.history, record.validations)
            if not self._curves.show(which):
                self._curves.remove()
                self.ui.runLabel.text = _("Curves are shown in Slicer's main window, and there is none.")
        self._showButtons()

    def onOpenFolder(self, checked: bool = False) -> None:
        dialogs.openFolder(str(self._shown))

    def _chosenRun(self) -> RunInfo | None:
        return next((run for run in self._runs if run.name == self.parameters.shownRun), None)

    def _isJustBeginning(self) -> bool:
        """Whether the chosen run is one that has not written anything yet."""
        job = self._watched()
        return job is not None and job.name == self.parameters.shownRun

    def _fill(self) -> None:
        """Write the list; rows stay where they are as long as the runs are the same."""
        texts, runList = [listText(run) for run in self._runs], self.ui.runList
        runList.visible = self.ui.runsWidget.visible = bool(texts)
        with signalsBlocked(runList):
            if runList.count != len(texts):
                runList.clear()
                runList.addItems(texts)
            for row, text in enumerate(texts):
                if runList.item(row).text() != text:
                    runList.item(row).setText(text)

    def _select(self) -> bool:
        """Turn to the chosen run; returns whether another was shown until now."""
        run = self._chosenRun()
        with signalsBlocked(self.ui.runList):
            self.ui.runList.setCurrentRow(self._runs.index(run) if run else -1)
        folder = run.folder if run else None
        if folder == self._shown:
            return False
        self._shown = folder
        self._curves.remove()
        return True

    def _showRun(self) -> None:
        record = self._record()
        self._hasLosses, self._hasPsnr = bool(record.history), any("psnr" in row for row in record.validations)
        self._curves.update(record.history, record.validations)
        self._picture.show(record.picture)
        self._showButtons()
        if self.parameters is None:
            return
        run = self._chosenRun()
        if run is not None:
            self.ui.runLabel.text = runText(run, record)
        else:
            begins = self._isJustBeginning()
            self.ui.runLabel.text = _("The run begins.") if begins else _("There are no runs in this folder yet.")

    def _record(self) -> RunRecord | TrainingJob:
        """What is known of the shown run: from its training if that is watched, otherwise from its files."""
        job = self._watched()
        if job is not None and job.folder == self._shown:
            return job
        return self.logic.record(self._shown) if self._shown else RunRecord()

    def _showButtons(self) -> None:
        noRun = "" if self._shown else _("Choose a run first.")
        hint = _("Show the files of the chosen run: its log, curves, pictures and models.")
        offer(self.ui.runFolderButton, noRun, hint)
        losses, psnr = self.ui.lossesButton, self.ui.psnrButton
        isShown = self._curves.shown
        losses.text = _("Hide losses") if isShown == LOSSES else _("Show losses")
        psnr.text = _("Hide PSNR") if isShown == PSNR else _("Show PSNR")
        back = _("Show what was shown before.")
        reason = noRun or ("" if self._hasLosses else _("This run has not written any losses yet."))
        hint = _("Show the losses of the chosen run as curves in the layout; they grow while it trains.")
        offer(losses, reason, back if isShown == LOSSES else hint)
        reason = noRun or ("" if self._hasPsnr else _("Nothing has been validated in this run yet."))
        hint = _(
            "Show the PSNR of the model, beside that of cubic interpolation, as curves in the layout: the model should "
            "come to lie above."
        )
        offer(psnr, reason, back if isShown == PSNR else hint)


class ScaledPicture(qt.QObject):
    """Shows a picture file in a label, scaled down to its width, also when that changes.

    The label's horizontal size policy must be Ignored, so that the picture does not hold the panel wide.

    Parameters
    ----------
    label : QLabel
    """

    def __init__(self, label) -> None:
        qt.QObject.__init__(self)
        self._label = label
        self._shown: tuple[Path, float] | None = None
        self._pixmap = None
        self._width = 0
        label.installEventFilter(self)

    def show(self, path: Path | None) -> None:
        """Show this picture, or none; a file that has not changed is not read again."""
        try:
            stamp = (path, path.stat().st_mtime) if path else None
        except OSError:
            stamp = None
        if stamp == self._shown:
            return
        self._shown = stamp
        pixmap = qt.QPixmap(str(path)) if stamp else None
        self._pixmap = None if pixmap is None or pixmap.isNull() else pixmap
        self._width = 0
        self._label.visible = self._pixmap is not None
        self._fit()

    def eventFilter(self, label, event) -> bool:
        if event.type() == qt.QEvent.Resize:
            self._fit()
        return False

    def _fit(self) -> None:
        width = max(NARROWEST, self._label.width)
        if self._pixmap is None or width == self._width:
            return
        self._width = width
        picture = self._pixmap
        if picture.width() > width:
            picture = picture.scaledToWidth(width, qt.Qt.SmoothTransformation)
        self._label.setPixmap(picture)
