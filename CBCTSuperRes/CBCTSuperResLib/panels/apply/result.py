"""What the panel says of a result, from the report that the result carries.

Result: what was computed, compared with its input.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import slicer
from slicer.i18n import tr as _

from ...core.errors import Cancelled, SuperResError
from ...core.progress import duration_text
from ...scene.jobs import DifferenceJob
from ...scene.logic import SuperResLogic
from ...scene.nodes import disagreementOf, inputOf, reportOf
from ..widgets import Section, fitColumns, showCell
from .choices import Choices
from .comparison import Comparison


def resultText(node: slicer.vtkMRMLScalarVolumeNode, report: dict) -> str:
    """What it is, what it was made of and how."""
    run, scan = report["super_resolution"], inputOf(node)
    lines = [
        _(
            "{name}: super-resolved volume (model prediction). Fine detail is predicted by a network; not for "
            "diagnosis."
        ),
        _("From {scan}, with the model {model}, {planes}, window {lo} to {hi}; {size} voxels of {spacing} mm."),
    ]
    seconds = sum(report.get("seconds", {}).values())
    if seconds:
        lines.append(_("Computed in {duration} on {device}."))
    window = run.get("window", [0, 0])
    return "\n".join(lines).format(
        name=node.GetName(),
        scan=scan.GetName() if scan else _("a volume that is no longer here"),
        model=run.get("model", ""),
        planes=_("in slices") if run.get("planes") == "axial" else _("in all axes"),
        lo=f"{window[0]:.5g}",
        hi=f"{window[1]:.5g}",
        size=" x ".join(str(n) for n in run.get("output_size", [])),
        spacing=" x ".join(f"{s:.3g}" for s in run.get("output_spacing_mm", [])),
        duration=duration_text(seconds),
        device=run.get("device", ""),
    )


def warningsText(report: dict) -> str:
    """What to beware of: of the run, and what the quality figures say."""
    quality = report["super_resolution"].get("quality") or {}
    found = [*report.get("warnings", ()), *quality.get("warnings", ())]
    return "\n".join(dict.fromkeys(str(warning) for warning in found))


class ResultSection(Section):
    """Tells of the chosen output, if it is a result, or else of the last one; shows it beside its input.

    Attributes
    ----------
    comparison : Comparison
    job : DifferenceJob or None
        What is being subtracted.
    whenComparing : callable ()
        Set by the panel; the slice views are about to show other volumes.
    """

    def __init__(self, ui, choices: Choices, logic: SuperResLogic) -> None:
        super().__init__(ui)
        self.choices, self.logic = choices, logic
        self.comparison = Comparison()
        self.job: DifferenceJob | None = None
        self._latest: slicer.vtkMRMLScalarVolumeNode | None = None
        self._told: tuple | None = None
        self._marked = ""
        self.whenComparing: Callable[[], None] = lambda: None
        fitColumns(ui.qualityTable)
        ui.compareButton.connect("clicked(bool)", self.onCompare)
        ui.fadeButton.connect("clicked(bool)", self.onFade)
        ui.fadeSlider.connect("valueChanged(double)", self.onFaded)
        ui.backButton.connect("clicked(bool)", self.onBack)
        ui.disagreementButton.connect("clicked(bool)", self.onMark)
        ui.disagreementSlider.connect("valueChanged(double)", self.onMarkedAbove)
        ui.differenceButton.connect("clicked(bool)", self.onDifferenceOrCancel)

    @property
    def isBusy(self) -> bool:
        return self.job is not None

    @property
    def result(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The node that the section tells of."""
        for node in (self.choices.outputNode, self._latest):
            if node is not None and node.GetScene() is not None and reportOf(node) is not None:
                return node
        return None

    def show(self, outputNode: slicer.vtkMRMLScalarVolumeNode) -> None:
        """A run has filled this node."""
        self._latest = outputNode
        mode = self.comparison.mode
        self.comparison.end()
        slicer.util.setSliceViewerLayers(background=outputNode)
        if mode in ("side by side", "fade"):
            self._compare(mode)
        self.refresh()

    def refresh(self) -> None:
        if self._latest is not None and self._latest.GetScene() is None:
            self._latest = None  # its voxels would stay in memory
        result = self.result
        self._tell(result)
        reason = self._whyNotCompared(result)
        fading = self.comparison.mode == "fade"
        for button, hint in (
            (self.ui.compareButton, _("Show input and result side by side, at the same place, in linked views.")),
            (
                self.ui.fadeButton,
                _("Show the result over its input in all slice views and fade from one to the other."),
            ),
        ):
            button.enabled, button.toolTip = not reason, reason or hint
        self.ui.fadeLabel.visible = self.ui.fadeSlider.visible = fading
        self.ui.backButton.enabled = bool(self.comparison.mode)
        self._refreshMarks(result)
        running = self.job is not None
        lacking = self._whyNoInput(result)
        self.ui.differenceButton.enabled = running or not lacking
        self.ui.differenceButton.text = _("Cancel difference") if running else _("Compute difference volume")
        hint = _(
            "Compute the result minus its input (interpolated) as a volume of its own: what the network has added."
        )
        self.ui.differenceButton.toolTip = _("Stop computing.") if running else lacking or hint
        self.ui.differenceLabel.visible = bool(self.ui.differenceLabel.text)

    def _refreshMarks(self, result: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        marks = result and disagreementOf(result)
        button, slider = self.ui.disagreementButton, self.ui.disagreementSlider
        button.visible = marks is not None
        button.enabled = self.comparison.isPossible
        self.ui.disagreementLabel.visible = slider.visible = self.comparison.mode == "marks"
        if marks is not None and self._marked != marks.GetID():
            self._marked = ""
            display = marks.GetScalarVolumeDisplayNode()
            lower, upper = display.GetLowerThreshold(), max(display.GetWindowLevelMax(), display.GetLowerThreshold())
            slider.decimals = 1 if upper > 20 else 4
            slider.maximum, slider.singleStep = upper, upper / 200
            slider.value = lower
            self._marked = marks.GetID()

    def poll(self) -> None:
        self.job.poll()
        self._showProgress()
        if self.job.isFinished:
            self._end()

    def close(self) -> None:
        self.comparison.close()
        if self.job:
            self.job.close()
            self._end()

    def onCompare(self, checked: bool = False) -> None:
        self._compare("side by side")

    def onFade(self, checked: bool = False) -> None:
        self._compare("fade")

    def onFaded(self, percent: float) -> None:
        self.comparison.fade(percent / 100)

    def onMark(self, checked: bool = False) -> None:
        self.whenComparing()
        self.comparison.showMarks(self.result, disagreementOf(self.result))
        self.refresh()

    def onMarkedAbove(self, greyValues: float) -> None:
        marks = self.result and disagreementOf(self.result)
        if marks is not None and self._marked == marks.GetID():
            marks.GetDisplayNode().SetLowerThreshold(greyValues)

    def onBack(self, checked: bool = False) -> None:
        self.comparison.end()
        self.refresh()

    def onDifferenceOrCancel(self, checked: bool = False) -> None:
        if self.job:
            self.job.cancel()
            self._showProgress()
            return
        try:
            self.job = self.logic.startDifference(self.result)
        except SuperResError as error:
            self.ui.differenceLabel.text = str(error)
            self.refresh()
            return
        self._showProgress()
        self.whenChanged()

    def _compare(self, mode: str) -> None:
        result = self.result
        if result is None or inputOf(result) is None:
            return
        self.whenComparing()
        if mode == "fade":
            self.comparison.showFade(inputOf(result), result, self.ui.fadeSlider.value / 100)
        else:
            self.comparison.showSideBySide(inputOf(result), result)
        self.refresh()

    def _whyNoInput(self, result: slicer.vtkMRMLScalarVolumeNode | None) -> str:
        if result is None:
            return _("There is no result yet. Apply, or choose an earlier result as the output volume.")
        if inputOf(result) is None:
            return _("The input of this result is no longer in the scene. Load it again and apply anew.")
        return ""

    def _whyNotCompared(self, result: slicer.vtkMRMLScalarVolumeNode | None) -> str:
        reason = self._whyNoInput(result)
        if not reason and not self.comparison.isPossible:
            return _("There are no slice views.")
        return reason

    def _tell(self, result: slicer.vtkMRMLScalarVolumeNode | None) -> None:
        """Show the texts of a result, which are looked up only when it has changed."""
        scan = result and inputOf(result)
        told = result and (result.GetID(), result.GetMTime(), scan and scan.GetName())
        if told == self._told and result is not None:
            return
        if (told or [""])[0] != (self._told or [""])[0]:
            self.ui.differenceLabel.text = ""
        self._told = told
        if result is None:
            self.ui.resultLabel.text = _("There is no result yet.")
            self._showTexts("", {})
            return
        report = reportOf(result)
        self.ui.resultLabel.text = resultText(result, report)
        self._showTexts(warningsText(report), report["super_resolution"].get("quality") or {})

    def _showTexts(self, warnings: str, quality: dict) -> None:
        self.ui.resultWarningsLabel.text = warnings
        self.ui.resultWarningsLabel.visible = bool(warnings)
        figures = quality.get("figures", [])
        table = self.ui.qualityTable
        table.visible = bool(figures)
        table.toolTip = quality.get("assumptions") or _("What the result says of itself, compared with its input.")
        table.setRowCount(len(figures))
        for row, figure in enumerate(figures):
            for column, text in enumerate((figure["label"], figure["text"])):
                showCell(table, row, column, text, figure["hint"], bold=bool(figure["attention"]))

    def _showProgress(self) -> None:
        text = _("{stage}, {percent} %")
        self.ui.differenceLabel.text = text.format(stage=self.job.message, percent=round(100 * self.job.fraction))

    def _end(self) -> None:
        job, self.job = self.job, None
        job.close()
        if job.error:
            self.ui.differenceLabel.text = str(job.error)
            if not isinstance(job.error, Cancelled):
                logging.error("%s\n%s", job.error, getattr(job.error, "detail", ""))
        else:
            self._showDifference(job.outputVolume)
        self.whenChanged()

    def _showDifference(self, node: slicer.vtkMRMLScalarVolumeNode) -> None:
        text = _("{name}: gray where nothing was added, brighter or darker where the result is.")
        self.ui.differenceLabel.text = text.format(name=node.GetName())
        if not self.comparison.mode:
            slicer.util.setSliceViewerLayers(background=node)
