"""Evaluate: how near a result comes to a finer scan of the same object."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...scene.jobs import EvaluationJob
from ...scene.logic import SuperResLogic
from .. import dialogs
from ..section import JobSection, fitHeight, offer, showCell
from .choices import ApplyChoices

REPORT = "report.html"
CURVE_SIZE = 360, 120
MARGIN = 14


class EvaluationSection(JobSection):
    """Measures the result, and its interpolated input, against a reference volume; the report can be kept.

    Parameters
    ----------
    result : callable
        Returns the result that is to be measured; None if there is none.
    """

    def __init__(self, ui, choices: ApplyChoices, logic: SuperResLogic, result: Callable) -> None:
        super().__init__(ui, choices, ui.evaluationLabel)
        self.logic, self._result = logic, result
        self._folder: Path | None = None
        fitHeight(ui.evaluationTable)
        ui.evaluateButton.connect("clicked(bool)", self.onEvaluateOrCancel)
        ui.openReportButton.connect("clicked(bool)", self.onOpenReport)
        ui.saveReportButton.connect("clicked(bool)", self.onSaveReport)

    def refresh(self) -> None:
        self.ui.referenceSelector.enabled = not self.isBusy
        if self.isBusy:
            self.ui.evaluateButton.text = _("Cancel evaluation")
            offer(self.ui.evaluateButton, "", _("Stop measuring."))
        else:
            self.ui.evaluateButton.text = _("Evaluate")
            hint = _("Measure result and interpolated scan against the reference.")
            offer(self.ui.evaluateButton, self.problem(), hint)
        isThere = self._folder is not None and not self.isBusy
        noReport = "" if isThere else _("There is no report yet.")
        hint = _("Show the report, with pictures, curves and all measures, in the web browser.")
        offer(self.ui.openReportButton, noReport, hint)
        offer(self.ui.saveReportButton, noReport, _("Keep the report and the table of values in a folder."))

    def problem(self) -> str:
        """Why nothing can be measured; "" if it can."""
        result, reference = self._result(), self.parameters.referenceVolume if self.parameters else None
        if result is None:
            return _("There is no result yet. Apply, or choose an earlier result as the output volume.")
        if reference is None:
            return _("Choose a reference volume: a finer scan of the same object, at the same place.")
        if reference in (result, self.choices.inputNode):
            return _("The reference is the scan or the result itself. Choose another volume.")
        return ""

    def close(self) -> None:
        super().close()
        self._forgetReport()
        self.tell("")

    def onEvaluateOrCancel(self, checked: bool = False) -> None:
        self.startOrCancel(self._begin)

    def done(self, job: EvaluationJob) -> None:
        self._showFigures(job.report)
        text = _("{name}: brighter where the result is brighter than the reference.")
        self.tell("\n".join([text.format(name=job.outputVolume.GetName()), *job.report["notes"]]))

    def failed(self, error: SuperResError) -> None:
        self._forgetReport()
        super().failed(error)

    def _begin(self) -> EvaluationJob:
        self._forgetReport()
        dialogs.ensurePackages(needsTorch=False)
        self._folder = Path(tempfile.mkdtemp(prefix="CBCTSuperRes-report-", dir=slicer.app.temporaryPath))
        return self.logic.startEvaluation(self._result(), self.parameters.referenceVolume, self._folder)

    def onOpenReport(self, checked: bool = False) -> None:
        dialogs.openFile(str(self._folder / REPORT))

    def onSaveReport(self, checked: bool = False) -> None:
        folder = dialogs.chooseFolder(_("Folder for the report"))
        try:
            if not folder or not self._mayFill(Path(folder)):
                return
            for file in self._folder.iterdir():
                shutil.copy(file, folder)
            self.tell(_("The report was saved in {folder}.").format(folder=folder))
        except OSError as error:
            self.tell(_("The report cannot be saved in {folder}: {error}.").format(folder=folder, error=error))

    def _mayFill(self, folder: Path) -> bool:
        """Whether a report may be written here, where another may lie."""
        names = sorted(file.name for file in self._folder.iterdir() if (folder / file.name).exists())
        question = _("{folder} holds {names} already. Replace what is there?")
        text = question.format(folder=folder, names=", ".join(names))
        return not names or dialogs.confirm(_("Save"), text, _("Replace"))

    def _showFigures(self, report: dict) -> None:
        table, figures = self.ui.evaluationTable, report["figures"]
        table.setRowCount(len(figures))
        for row, figure in enumerate(figures):
            label = f"{figure['label']} ({figure['unit']})" if figure["unit"] else figure["label"]
            showCell(table, row, 0, label, figure["hint"])
            better = _better(figure)
            for column, method in ((1, "cubic"), (2, "result")):
                value = figure[method]
                text = "" if value is None else f"{value:.{figure['digits']}f}"
                showCell(table, row, column, text, figure["hint"], bold=better == method)
        table.visible = bool(figures)
        drawCurves(self.ui.curveLabel, report["curves"], report["unit"])
        self.ui.curveLabel.visible = True

    def _forgetReport(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None
        self.ui.evaluationTable.visible = self.ui.curveLabel.visible = False


def _better(figure: dict) -> str:
    """Which of both comes nearer to the best value; "" if neither does, as far as the shown digits tell."""
    values = {method: figure[method] for method in ("cubic", "result") if figure[method] is not None}
    if len(values) < 2:
        return ""
    best = figure["best"]
    gaps = {
        m: -round(v, figure["digits"]) if best is None else abs(round(v, figure["digits"]) - best)
        for m, v in values.items()
    }
    return "" if gaps["cubic"] == gaps["result"] else min(gaps, key=gaps.get)


def drawCurves(label, curves: dict[str, dict], unit: str) -> None:
    """Draw correlation over frequency onto a label, in the colors of its palette: the result highlighted."""
    width, height = CURVE_SIZE
    palette = label.palette
    pixmap = qt.QPixmap(width, height)
    pixmap.fill(palette.color(qt.QPalette.Base))
    highest = max(curve["frequency"][-1] for curve in curves.values())
    painter = qt.QPainter()
    painter.begin(pixmap)
    text = palette.color(qt.QPalette.Text)
    painter.setPen(qt.QPen(palette.color(qt.QPalette.Mid)))
    for level in (0.0, 0.5, 1.0):
        y = _height(level)
        painter.drawLine(0, y, width, y)
    for method, color in (("cubic", text), ("result", palette.color(qt.QPalette.Highlight))):
        pen = qt.QPen(color)
        pen.setWidth(2)
        painter.setPen(pen)
        curve = curves[method]
        points = [
            (round((width - 1) * f / highest), _height(v))
            for f, v in zip(curve["frequency"], curve["correlation"], strict=True)
        ]
        for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
            painter.drawLine(x0, y0, x1, y1)
    painter.setPen(qt.QPen(text))
    painter.drawText(4, height - 2, _("0 to {highest:.3g} {unit}").format(highest=highest, unit=unit))
    painter.end()
    label.setPixmap(pixmap)


def _height(correlation: float) -> int:
    """Where a correlation lies in the picture of the curves, from the top."""
    room = CURVE_SIZE[1] - 2 * MARGIN
    return MARGIN + round(room * (1 - min(max(correlation, 0.0), 1.0)))
