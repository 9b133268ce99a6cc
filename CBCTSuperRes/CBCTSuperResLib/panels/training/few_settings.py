"""The settings that people change most, each as a widget of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from slicer.i18n import tr as _

from ...errors import SuperResError
from ...training.options.training_options import SCALES
from .choices import RANGE, TrainingChoices
from .option_values import Values, textOfValue, valueAt, valueOfText, withValue
from .parameters import WindowChoice
from .task_view import tell

AUTOMATIC, CPU, CUDA = range(3)
LEARNING_RATES = ("train.lr_G", "train.lr_G_grad")


class FewSettings:
    """Shows and changes single values of the settings in the scene.

    Attributes
    ----------
    names : set of str
        The keys that are shown here.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        self.ui, self.choices = ui, choices
        self._whole = {
            "train.niter": ui.iterationsBox,
            "train.val_freq": ui.validationBox,
            "datasets.train.batch_size": ui.batchBox,
            "datasets.train.HR_size": ui.patchBox,
            "network_G.nf": ui.featuresBox,
            "network_G.nb": ui.blocksBox,
        }
        self._typed = [
            (ui.rateEdit, LEARNING_RATES),
            (ui.pixelWeightEdit, ("train.pixel_weight",)),
            (ui.ganWeightEdit, ("train.gan_weight",)),
            (ui.featureWeightEdit, ("train.feature_weight",)),
        ]
        self.names = {*self._whole, *LEARNING_RATES, "train.pixel_weight", "train.gan_weight", "train.feature_weight"}
        self.names |= {"scale", "device", "gpu_ids", "path.feature_weights", RANGE}
        self._shown: dict[str, Any] = {}
        for scale in SCALES:
            ui.scaleSelector.addItem(str(scale))
        for text in (_("Automatic: a GPU if there is one"), _("CPU"), _("GPU (CUDA)")):
            ui.deviceSelector.addItem(text)
        self._connect()

    def refresh(self) -> None:
        """Show what the settings say; a widget that can make nothing of a value stays as it is."""
        try:
            values = self.choices.values()
        except SuperResError:
            return
        for name, box in self._whole.items():
            self._show(box, lambda box, value: box.setValue(value), valueAt(values, name), int)
        for edit, names in self._typed:
            self._show(edit, lambda edit, text: edit.setText(text), textOfValue(valueAt(values, names[0])), str)
        scale = valueAt(values, "scale")
        _choose(self.ui.scaleSelector, SCALES.index(scale) if scale in SCALES else -1)
        _choose(self.ui.deviceSelector, deviceOf(values))
        self._show(self.ui.featureFileEdit, _setPath, valueAt(values, "path.feature_weights") or "", str)
        self._showWindow(values)

    def onWindow(self) -> None:
        """Both bounds, or none of them for the whole range of the images."""
        texts = [edit.text.strip() for edit in (self.ui.windowLowEdit, self.ui.windowHighEdit)]
        bounds = [valueOfText(RANGE, text) for text in texts]
        self._set({RANGE: bounds if any(texts) else None})

    def onSuggest(self, checked: bool = False) -> None:
        """Estimate the window from the first fine scan now."""
        try:
            window = self.choices.estimatedWindow()
        except SuperResError as error:
            tell(self.ui.windowTextLabel, str(error))
            return
        self.choices.parameters.window = WindowChoice.custom
        self._set({RANGE: window})

    def _connect(self) -> None:
        for name, box in self._whole.items():
            box.connect("valueChanged(int)", partial(self._onNumber, name))
        for edit, names in self._typed:
            edit.connect("editingFinished()", partial(self._onText, edit, names))
        self.ui.scaleSelector.connect("currentIndexChanged(int)", self._onScale)
        self.ui.deviceSelector.connect("currentIndexChanged(int)", self._onDevice)
        self.ui.featureFileEdit.connect("currentPathChanged(QString)", self._onFeatureFile)
        self.ui.windowLowEdit.connect("editingFinished()", self.onWindow)
        self.ui.windowHighEdit.connect("editingFinished()", self.onWindow)
        self.ui.suggestButton.connect("clicked(bool)", self.onSuggest)

    def _onNumber(self, name: str, value: int) -> None:
        self._set({name: value})

    def _onText(self, edit, names: tuple[str, ...]) -> None:
        self._set({name: valueOfText(name, edit.text) for name in names})

    def _onScale(self, index: int) -> None:
        if index >= 0:
            self._set({"scale": SCALES[index]})

    def _onDevice(self, index: int) -> None:
        if index == CPU:
            self._set({"device": "auto", "gpu_ids": []})
        elif index >= 0:
            self._set({"device": "cuda" if index == CUDA else "auto", "gpu_ids": "auto"})

    def _onFeatureFile(self, path: str) -> None:
        self._set({"path.feature_weights": path.strip() or None})

    def _set(self, changes: dict[str, Any]) -> None:
        if self.choices.parameters is None:
            return
        try:
            values = before = self.choices.settings()
        except SuperResError:
            return
        for name, value in changes.items():
            values = withValue(values, name, value)
        if values != before:
            self.choices.setSettings(values)

    def _showWindow(self, values: Values) -> None:
        isEstimated = self.choices.isWindowEstimated()
        window = valueAt(values, RANGE)
        bounds = window if isinstance(window, list) and len(window) == 2 else [None, None]
        for edit, bound in zip((self.ui.windowLowEdit, self.ui.windowHighEdit), bounds, strict=True):
            self._show(edit, lambda edit, text: edit.setText(text), textOfValue(bound), str)
            edit.enabled = not isEstimated
        hasScans = any(row.use == "train" for row in self.choices.rows())
        self.ui.suggestButton.enabled = hasScans
        tell(self.ui.windowTextLabel, self._windowText(isEstimated, hasScans, window))

    def _show(self, widget, put: Callable, value: Any, kind: type) -> None:
        """Once for each value, so that what somebody is typing stays while something else changes."""
        if not isinstance(value, kind) or self._shown.get(widget.name) == value:
            return
        self._shown[widget.name] = value
        wasBlocked = widget.blockSignals(True)
        put(widget, value)
        widget.blockSignals(wasBlocked)

    def _windowText(self, isEstimated: bool, hasScans: bool, window: Any) -> str:
        if isEstimated:
            return _("Estimated from the tissue levels of the first fine scan when the training starts.")
        if window is None:
            return _("The whole range of the images' type is used.")
        return "" if hasScans else _("No scans yet: computer-drawn slices stand for scans of these gray values.")


def deviceOf(values: Values) -> int:
    """Where the options say that is computed: `AUTOMATIC`, `CPU` or `CUDA`."""
    device, numbers = valueAt(values, "device"), valueAt(values, "gpu_ids")
    if device == "cpu" or (device != "cuda" and numbers == []):
        return CPU
    return AUTOMATIC if device != "cuda" and numbers == "auto" else CUDA


def _setPath(edit, path: str) -> None:
    if edit.currentPath.strip() != path:  # a blank may be the middle of what is being typed
        edit.currentPath = path


def _choose(selector, index: int) -> None:
    wasBlocked = selector.blockSignals(True)
    selector.currentIndex = index
    selector.blockSignals(wasBlocked)
