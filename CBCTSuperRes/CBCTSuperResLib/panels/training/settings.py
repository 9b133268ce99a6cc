"""Section Settings: how a training learns, and what that will take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...networks.options import SCALES
from ...train.option_values import text_of_value
from ...train.options_file import PRESETS, value_at, value_of_text, write_options
from .. import dialogs
from ..section import Section, offer, say, signalsBlocked
from .choices import RANGE, TrainingChoices
from .option_values import Values, openValues
from .options_table import OptionsTable
from .parameters import WindowChoice
from .tasks import TaskView

AUTOMATIC, CPU, CUDA = range(3)
LEARNING_RATES = ("train.lr_G", "train.lr_G_grad")


class SettingsSection(Section):
    """Presets, files of options, the keys that people change most, a table of the others, and the plan."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices)
        self.logic = choices.logic
        self._fields = SettingsFields(ui, choices)
        self._table = OptionsTable(ui, choices, self._fields.names)
        self._task = TaskView(ui.planProgressBar, ui.planLabel)
        self._planned: dict | None = None
        ui.presetSelector.addItem(_("Custom"))
        for name in PRESETS:
            ui.presetSelector.addItem(presetText(name))
        say(ui.fileLabel, "")
        ui.presetSelector.connect("currentIndexChanged(int)", self.onPreset)
        ui.openOptionsButton.connect("clicked(bool)", self.onOpen)
        ui.saveOptionsButton.connect("clicked(bool)", self.onSave)
        ui.planButton.connect("clicked(bool)", self.onPlanOrCancel)

    @property
    def isBusy(self) -> bool:
        return self._task.isBusy

    def refresh(self) -> None:
        isBound, problems = self.parameters is not None, []
        self._showPreset()
        if isBound:
            problems = self.choices.optionProblems()
            self._fields.refresh()
            self._table.refresh(problems)
            self._forgetOldPlan()
        self.ui.openOptionsButton.enabled = self.ui.saveOptionsButton.enabled = isBound
        say(self.ui.settingsProblemLabel, "\n".join(text for _keys, text in problems))
        reason = ""
        if problems and not self.isBusy:
            reason = _("Correct the settings first: {problem}").format(problem=problems[0][1])
        offer(self.ui.planButton, reason, _("What is missing, and what memory and time this training would take."))
        self.ui.planButton.enabled = isBound and not reason
        self.ui.planButton.text = _("Cancel") if self.isBusy else _("Plan")

    def poll(self) -> None:
        self._task.poll()
        if not self.isBusy:
            self.changed.emit()

    def close(self) -> None:
        self._task.close()

    def onPreset(self, index: int) -> None:
        if self.parameters is not None and index > 0:
            self.choices.choosePreset(PRESETS[index - 1])
        self._showPreset()

    def onOpen(self, checked: bool = False) -> None:
        path = dialogs.chooseFile(_("Open options"), _fileFilters(), str(self.choices.resultsFolder))
        if not path:
            return
        try:
            self.choices.takeFile(*openValues(path))
            say(self.ui.fileLabel, _("Opened {path}.").format(path=path))
        except SuperResError as error:
            say(self.ui.fileLabel, str(error))

    def onSave(self, checked: bool = False) -> None:
        proposed = self.choices.resultsFolder / f"{self.parameters.runName}.json"
        path = dialogs.chooseNewFile(_("Save options"), _fileFilters(), str(proposed))
        if not path:
            return
        try:
            write_options(self.choices.completeOptions(), path)
            say(self.ui.fileLabel, _("Saved {path}.").format(path=path))
        except SuperResError as error:
            say(self.ui.fileLabel, str(error))

    def onPlanOrCancel(self, checked: bool = False) -> None:
        if self._task.isBusy:
            self._task.cancel()
            return
        self._planned = self.choices.values()
        self._task.start(self._plan, lambda report: say(self.ui.planLabel, report["text"]))
        self.changed.emit()

    def _plan(self):
        return self.logic.plan(self.choices.optionsToPlan(), measure=self.parameters.measurePace)

    def _forgetOldPlan(self) -> None:
        """A plan is of the settings that it was made for."""
        if self._planned is not None and not self.isBusy:
            with suppress(SuperResError):
                if self.choices.values() != self._planned:
                    self._planned = None
                    say(self.ui.planLabel, "")

    def _showPreset(self) -> None:
        with signalsBlocked(self.ui.presetSelector):
            self.ui.presetSelector.currentIndex = self.choices.presetNumber()
            self.ui.presetSelector.enabled = self.parameters is not None


class SettingsFields:
    """The settings that people change most, each with a widget of its own.

    Attributes
    ----------
    names : set of str
        The keys that are shown here.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        self.ui, self.choices = ui, choices
        self._boxes = {
            "train.niter": ui.iterationsBox,
            "train.val_freq": ui.validationBox,
            "datasets.train.batch_size": ui.batchBox,
            "datasets.train.HR_size": ui.patchBox,
            "network_G.nf": ui.featuresBox,
            "network_G.nb": ui.blocksBox,
        }
        self._edits = {
            LEARNING_RATES: ui.rateEdit,
            ("train.pixel_weight",): ui.pixelWeightEdit,
            ("train.gan_weight",): ui.ganWeightEdit,
            ("train.feature_weight",): ui.featureWeightEdit,
        }
        self.names = {*self._boxes, *(name for names in self._edits for name in names)}
        self.names |= {"scale", "device", "gpu_ids", "path.feature_weights", RANGE}
        self._shown: dict[str, Any] = {}
        for scale in SCALES:
            ui.scaleSelector.addItem(str(scale))
        for text in (_("Automatic: a GPU if there is one"), _("CPU"), _("GPU (CUDA)")):
            ui.deviceSelector.addItem(text)
        for name, box in self._boxes.items():
            box.connect("valueChanged(int)", partial(self.onNumber, name))
        for names, edit in self._edits.items():
            edit.connect("editingFinished()", partial(self.onText, edit, names))
        ui.scaleSelector.connect("currentIndexChanged(int)", self.onScale)
        ui.deviceSelector.connect("currentIndexChanged(int)", self.onDevice)
        ui.featureFileEdit.connect("currentPathChanged(QString)", self.onFeatureFile)
        ui.windowLowEdit.connect("editingFinished()", self.onWindow)
        ui.windowHighEdit.connect("editingFinished()", self.onWindow)
        ui.suggestButton.connect("clicked(bool)", self.onSuggest)

    def refresh(self) -> None:
        """Show what the settings say; a widget that can make nothing of a value stays as it is."""
        try:
            values = self.choices.values()
        except SuperResError:
            return
        for name, box in self._boxes.items():
            self._show(box, box.setValue, value_at(values, name), int)
        for names, edit in self._edits.items():
            self._show(edit, edit.setText, text_of_value(value_at(values, names[0])), str)
        scale = value_at(values, "scale")
        for selector, index in (
            (self.ui.scaleSelector, SCALES.index(scale) if scale in SCALES else -1),
            (self.ui.deviceSelector, deviceOf(values)),
        ):
            with signalsBlocked(selector):
                selector.currentIndex = index
        self._show(self.ui.featureFileEdit, self._showFeatureFile, value_at(values, "path.feature_weights") or "", str)
        self._showWindow(value_at(values, RANGE))

    def onNumber(self, name: str, value: int) -> None:
        self.choices.change({name: value})

    def onText(self, edit, names: Iterable[str]) -> None:
        self.choices.change({name: value_of_text(name, edit.text) for name in names})

    def onScale(self, index: int) -> None:
        if index >= 0:
            self.choices.change({"scale": SCALES[index]})

    def onDevice(self, index: int) -> None:
        if index >= 0:
            device = "cuda" if index == CUDA else "auto"
            self.choices.change({"device": device, "gpu_ids": [] if index == CPU else "auto"})

    def onFeatureFile(self, path: str) -> None:
        self.choices.change({"path.feature_weights": path.strip() or None})

    def onWindow(self) -> None:
        """Both bounds, or none of them for the whole range of the images."""
        texts = [edit.text.strip() for edit in (self.ui.windowLowEdit, self.ui.windowHighEdit)]
        bounds = [value_of_text(RANGE, text) for text in texts]
        self.choices.change({RANGE: bounds if any(texts) else None})

    def onSuggest(self, checked: bool = False) -> None:
        """Estimate the window from the first fine scan now."""
        try:
            window = self.choices.estimatedWindow()
        except SuperResError as error:
            say(self.ui.windowTextLabel, str(error))
            return
        self.choices.parameters.window = WindowChoice.custom
        self.choices.change({RANGE: window})

    def _show(self, widget, put: Callable[[Any], None], value: Any, kind: type) -> None:
        """Once for each value, so that what somebody is typing stays while something else changes."""
        if isinstance(value, kind) and self._shown.get(widget.name) != value:
            self._shown[widget.name] = value
            with signalsBlocked(widget):
                put(value)

    def _showFeatureFile(self, path: str) -> None:
        if self.ui.featureFileEdit.currentPath.strip() != path:  # a blank may be the middle of what is being typed
            self.ui.featureFileEdit.currentPath = path

    def _showWindow(self, window: Any) -> None:
        isEstimated = self.choices.isWindowEstimated()
        hasScans = any(row.use == "train" for row in self.choices.rows())
        bounds = window if isinstance(window, list) and len(window) == 2 else [None, None]
        for edit, bound in zip((self.ui.windowLowEdit, self.ui.windowHighEdit), bounds, strict=True):
            self._show(edit, edit.setText, text_of_value(bound), str)
            edit.enabled = not isEstimated
        self.ui.suggestButton.enabled = hasScans
        text = ""
        if isEstimated:
            text = _("Estimated from the tissue levels of the first fine scan when the training starts.")
        elif window is None:
            text = _("The whole range of the images' type is used.")
        elif not hasScans:
            text = _("No scans yet: computer-drawn slices stand for scans of these gray values.")
        say(self.ui.windowTextLabel, text)


def deviceOf(values: Values) -> int:
    """Where the options say that is computed: `AUTOMATIC`, `CPU` or `CUDA`."""
    device, numbers = value_at(values, "device"), value_at(values, "gpu_ids")
    if device == "cpu" or (device != "cuda" and numbers == []):
        return CPU
    return AUTOMATIC if device != "cuda" and numbers == "auto" else CUDA


def presetText(name: str) -> str:
    """A preset for people, with what it costs."""
    texts = {
        "quick-look": _("Quick look (10 min on two cores)"),
        "light": _("Light (a few hours on two cores)"),
        "unetspsr-full": _("Full UNetSPSR (days, with a GPU)"),
    }
    return texts[name]


def _fileFilters() -> str:
    return _("Options of a training (*.json);;All files (*)")
