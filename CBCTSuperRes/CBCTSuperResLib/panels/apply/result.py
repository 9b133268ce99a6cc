"""Result: what was computed, compared with its input."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ...scene.jobs import DifferenceJob
from ...scene.logic import SuperResLogic
from ...scene.nodes import deviationOf, inputOf, marksOf, misclassificationOf, reportOf
from ...scene.probe import Probe
from ..section import JobSection, Signal, fitHeight, offer, plainToolTip, say, showCell
from .choices import ApplyChoices
from .comparison import Comparison
from .texts import resultText, warningsText

Node = slicer.vtkMRMLScalarVolumeNode


class ResultSection(JobSection):
    """Tells of the chosen output, if it is a result, or else of the last one; compares it with its input.

    Attributes
    ----------
    comparison : Comparison
    comparing : Signal ()
        The slice views are about to show other volumes.
    """

    def __init__(self, ui, choices: ApplyChoices, logic: SuperResLogic) -> None:
        super().__init__(ui, choices, ui.differenceLabel)
        self.logic = logic
        self.comparison = Comparison()
        self.comparing = Signal()
        self._latest: Node | None = None
        self._described: tuple | None = None
        self._marks = ""  # the volume whose threshold the slider is set to
        self._probe = Probe(self._showProbe)
        fitHeight(ui.qualityTable)
        ui.compareButton.connect("clicked(bool)", self.onCompare)
        ui.fadeButton.connect("clicked(bool)", self.onFade)
        ui.splitButton.connect("clicked(bool)", self.onSplit)
        ui.fadeSlider.connect("valueChanged(double)", self.onFaded)
        ui.backButton.connect("clicked(bool)", self.onBack)
        ui.disagreementButton.connect("clicked(bool)", self.onMark)
        ui.disagreementSlider.connect("valueChanged(double)", self.onMarkedAbove)
        ui.differenceButton.connect("clicked(bool)", self.onDifferenceOrCancel)

    @property
    def result(self) -> Node | None:
        """The node that the section tells of."""
        for node in (self.choices.outputNode, self._latest):
            if node is not None and node.GetScene() is not None and reportOf(node) is not None:
                return node
        return None

    def bind(self) -> None:
        """A scene may have been saved while marks were shown; they can be taken off."""
        if self.result is not None:
            self.comparison.takeUp(self.result)

    def show(self, outputNode: Node) -> None:
        """A run has filled this node."""
        self._latest = outputNode
        mode = self.comparison.mode
        self.comparison.end()
        slicer.util.setSliceViewerLayers(background=outputNode)
        if mode in ("side by side", "fade", "split"):
            self._compare(mode)
        self.refresh()

    def refresh(self) -> None:
        if self._latest is not None and self._latest.GetScene() is None:
            self._latest = None  # its voxels would stay in memory
        result = self.result
        self._describe(result)
        self._showMarks(result)
        noInput = ""
        if result is None:
            noInput = _("There is no result yet. Apply, or choose an earlier result as the output volume.")
        elif inputOf(result) is None:
            noInput = _("The input of this result is no longer in the scene. Load it again and apply anew.")
        noViews = "" if self.comparison.isPossible else _("There are no slice views.")
        hint = _("Show input and result side by side, at the same place, in linked views.")
        offer(self.ui.compareButton, noInput or noViews, hint)
        hint = _("Show the result over its input in all slice views and fade from one to the other.")
        offer(self.ui.fadeButton, noInput or noViews, hint)
        hint = _(
            "Show input and result in the same views, divided by a line that is dragged with the mouse: the input left "
            "of it, the result right."
        )
        offer(self.ui.splitButton, noInput or noViews, hint)
        self.ui.fadeLabel.visible = self.ui.fadeSlider.visible = self.comparison.mode == "fade"
        self.ui.backButton.enabled = bool(self.comparison.mode)
        if self.isBusy:
            self.ui.differenceButton.text = _("Cancel difference")
            offer(self.ui.differenceButton, "", _("Stop computing."))
        else:
            self.ui.differenceButton.text = _("Compute difference volume")
            hint = _(
                "Compute the result minus its input (interpolated) as a volume of its own: what the network has added."
            )
            offer(self.ui.differenceButton, noInput, hint)

    def close(self) -> None:
        self._probe.close()
        self.comparison.close()
        super().close()

    def onCompare(self, checked: bool = False) -> None:
        self._compare("side by side")

    def onFade(self, checked: bool = False) -> None:
        self._compare("fade")

    def onSplit(self, checked: bool = False) -> None:
        self._compare("split")

    def onFaded(self, percent: float) -> None:
        self.comparison.fade(percent / 100)

    def onMark(self, checked: bool = False) -> None:
        self.comparing.emit()
        self.comparison.showMarks(self.result, marksOf(self.result))
        self.refresh()

    def onMarkedAbove(self, value: float) -> None:
        marks = self.result and marksOf(self.result)
        if marks is not None and self._marks == marks.GetID():
            marks.GetDisplayNode().SetLowerThreshold(value)

    def onBack(self, checked: bool = False) -> None:
        self.comparison.end()
        self.refresh()

    def onDifferenceOrCancel(self, checked: bool = False) -> None:
        self.startOrCancel(lambda: self.logic.startDifference(self.result))

    def done(self, job: DifferenceJob) -> None:
        text = _("{name}: gray where nothing was added, brighter or darker where the result is.")
        self.tell(text.format(name=job.outputVolume.GetName()))
        if not self.comparison.mode:
            self.comparing.emit()
            self.comparison.showDifference(job.outputVolume)

    def _compare(self, mode: str) -> None:
        result = self.result
        scan = result and inputOf(result)
        if scan is None:
            return
        self.comparing.emit()
        if mode == "fade":
            self.comparison.showFade(scan, result, self.ui.fadeSlider.value / 100)
        elif mode == "split":
            self.comparison.showSplit(scan, result)
        else:
            self.comparison.showSideBySide(scan, result)
        self.refresh()

    def _describe(self, result: Node | None) -> None:
        """Show texts and figures of a result, which are looked up only when it has changed."""
        scan = result and inputOf(result)
        described = result and (result.GetID(), result.GetMTime(), scan and scan.GetName())
        if described == self._described and result is not None:
            return
        if (described or [""])[0] != (self._described or [""])[0]:
            self.tell("")
        self._described = described
        text, warnings, quality = _("There is no result yet."), "", {}
        if result is not None:
            report = reportOf(result)
            text, warnings = resultText(result, report), warningsText(report)
            quality = report["super_resolution"].get("quality") or {}
        self.ui.resultLabel.text = text
        say(self.ui.resultWarningsLabel, warnings)
        figures, table = quality.get("figures", []), self.ui.qualityTable
        table.visible = bool(figures)
        hint = quality.get("assumptions") or _("What the result says of itself, compared with its input.")
        table.toolTip = plainToolTip(hint)
        table.setRowCount(len(figures))
        for row, figure in enumerate(figures):
            for column, text in enumerate((figure["label"], figure["text"])):
                showCell(table, row, column, text, figure["hint"], bold=bool(figure["attention"]))

    def _showProbe(self, text: str) -> None:
        """Grey value and error bar at the mouse cursor."""
        nothing = _("Move the mouse over the result to read its error bar.")
        self.ui.probeLabel.text = _("At the cursor: {value}").format(value=text) if text else nothing

    def _showMarks(self, result: Node | None) -> None:
        """Where bone may be misjudged, error bars are wide, or the model disagrees.

        The slider is set once for each such volume.
        """
        marks = result and marksOf(result)
        slider, hasBars = self.ui.disagreementSlider, bool(result and deviationOf(result))
        deviation = _("Standard deviation, in gray values, from which on the result is marked.")
        self._probe.follow(result)
        self.ui.probeLabel.visible = hasBars
        if result and misclassificationOf(result) is not None:
            text, unit = _("Mark where bone may be misjudged"), _("Chance, in per cent, from which on it is marked.")
            hint = _("Show in cyan, over the result, where a voxel may well lie on the other side of bone's threshold.")
        elif hasBars:
            text, unit = _("Mark where the error bars are wide"), deviation
            hint = _("Show in cyan, over the result, where the model expects to be far from the truth.")
        else:
            text, unit = _("Mark where the model disagrees"), deviation
            hint = _(
                "Show in cyan, over the result, where answers of the network to slightly different views of the scan "
                "lie far apart. Elsewhere they may still be wrong together."
            )
        for widget in (self.ui.disagreementLabel, slider):
            widget.toolTip = plainToolTip(unit)
        self.ui.disagreementButton.text = text
        self.ui.disagreementButton.toolTip = plainToolTip(hint)
        self.ui.disagreementButton.visible = marks is not None
        self.ui.disagreementButton.enabled = self.comparison.isPossible
        self.ui.disagreementLabel.visible = slider.visible = self.comparison.mode == "marks"
        if marks is not None and self._marks != marks.GetID():
            self._marks = ""
            display = marks.GetScalarVolumeDisplayNode()
            lower, upper = display.GetLowerThreshold(), max(display.GetWindowLevelMax(), display.GetLowerThreshold())
            slider.decimals = 1 if upper > 20 else 4
            slider.maximum, slider.singleStep = upper, upper / 200
            slider.value = lower
            self._marks = marks.GetID()
