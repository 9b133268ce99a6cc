"""The settings that people change most, each as a widget of its own.

Files of options: opened, and saved complete.

The table of all other settings: key, value, meaning.

Section Settings: how a training learns, and what that will take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

import qt
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...networks.options import SCALES
from ...train.option_values import text_of_value as textOfValue
from ...train.options_file import PRESETS
from ...train.options_file import value_at as valueAt
from ...train.options_file import value_of_text as valueOfText
from ...train.options_file import with_value as withValue
from ...train.options_file import write_options as saveValues
from ...train.options_schema import catalogue
from .. import dialogs
from ..widgets import Section
from .choices import RANGE, ROOT_KEYS, TrainingChoices
from .data_table import ROW_HEIGHT, WARNING
from .option_values import Values, isPreset, openValues
from .parameters import WindowChoice
from .tasks import TaskView, tell

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


class OptionsFile:
    """The buttons that open and save the JSON of a training.

    Parameters
    ----------
    ui
        With openOptionsButton, saveOptionsButton and fileLabel.
    choices : TrainingChoices
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        self.ui, self.choices = ui, choices
        tell(ui.fileLabel, "")
        ui.openOptionsButton.connect("clicked(bool)", self.onOpen)
        ui.saveOptionsButton.connect("clicked(bool)", self.onSave)

    def refresh(self, isBound: bool) -> None:
        self.ui.openOptionsButton.enabled = self.ui.saveOptionsButton.enabled = isBound

    def onOpen(self, checked: bool = False) -> None:
        path = dialogs.chooseFile(_("Open options"), _filters(), str(self.choices.resultsFolder))
        if path:
            self._tell(self._open, path)

    def onSave(self, checked: bool = False) -> None:
        folder = self.choices.resultsFolder / f"{self.choices.parameters.runName}.json"
        path = dialogs.chooseNewFile(_("Save options"), _filters(), str(folder))
        if path:
            self._tell(self._save, path)

    def _open(self, path: str) -> str:
        self.choices.takeFile(*openValues(path))
        return _("Opened {path}.").format(path=path)

    def _save(self, path: str) -> str:
        saveValues(self.choices.completeOptions(), path)
        return _("Saved {path}.").format(path=path)

    def _tell(self, work, path: str) -> None:
        try:
            tell(self.ui.fileLabel, work(path))
        except SuperResError as error:
            tell(self.ui.fileLabel, str(error))


def _filters() -> str:
    return _("Options of a training (*.json);;All files (*)")


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
    return entry.name + ("" if entry.key.seed else OURS)


class SettingsSection(Section):
    """Presets, files of options, the keys that people change most, a table of the others, and the plan."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices, self.logic = choices, choices.logic
        self._few = FewSettings(ui, choices)
        self._table = OptionsTable(ui, choices, self._few.names)
        self._file = OptionsFile(ui, choices)
        self._work = TaskView(ui.planProgressBar, ui.planLabel)
        self._planned: dict | None = None
        self.ui.presetSelector.addItem(_("Custom"))
        for name in PRESETS:
            self.ui.presetSelector.addItem(presetText(name))
        self.ui.presetSelector.connect("currentIndexChanged(int)", self.onPreset)
        self.ui.planButton.connect("clicked(bool)", self.onPlanOrCancel)

    @property
    def isBusy(self) -> bool:
        return self._work.isBusy

    def refresh(self) -> None:
        isBound = self.parameters is not None
        problems = self.choices.optionProblems() if isBound else []
        self._showPreset()
        if isBound:
            self._few.refresh()
            self._table.refresh(problems)
        self._file.refresh(isBound)
        self._showProblems([text for _keys, text in problems])
        self._forgetOldPlan()
        self._showPlanButton(problems)

    def poll(self) -> None:
        self._work.poll()
        if not self.isBusy:
            self.whenChanged()

    def close(self) -> None:
        self._work.close()

    def onPreset(self, index: int) -> None:
        if self.parameters is not None and index > 0:
            self.choices.choosePreset(PRESETS[index - 1])
        self._showPreset()

    def onPlanOrCancel(self, checked: bool = False) -> None:
        if self._work.isBusy:
            self._work.cancel()
            return
        self._planned = self.choices.values()
        self._work.start(self._plan, self._showPlan)
        self.whenChanged()

    def _plan(self):
        return self.logic.plan(self.choices.optionsToPlan(), measure=self.parameters.measurePace)

    def _showPlan(self, report: dict) -> None:
        tell(self.ui.planLabel, report["text"])

    def _forgetOldPlan(self) -> None:
        """A plan is of the settings that it was made for."""
        if self.isBusy or self.parameters is None or self._planned is None:
            return
        with suppress(SuperResError):
            if self.choices.values() != self._planned:
                self._planned = None
                tell(self.ui.planLabel, "")

    def _showPreset(self) -> None:
        selector = self.ui.presetSelector
        wasBlocked = selector.blockSignals(True)
        selector.currentIndex = self._presetIndex()
        selector.enabled = self.parameters is not None
        selector.blockSignals(wasBlocked)

    def _presetIndex(self) -> int:
        if self.parameters is None:
            return -1
        try:
            values = self.choices.settings()
        except SuperResError:
            return 0
        return next((number for number, name in enumerate(PRESETS, 1) if isPreset(values, name)), 0)

    def _showProblems(self, texts: list[str]) -> None:
        tell(self.ui.settingsProblemLabel, "\n".join(texts))

    def _showPlanButton(self, problems: list) -> None:
        reason = "" if self.isBusy or not problems else _("Correct the settings first: {problem}")
        self.ui.planButton.text = _("Cancel") if self.isBusy else _("Plan")
        self.ui.planButton.enabled = self.parameters is not None and not reason
        self.ui.planButton.toolTip = (
            reason.format(problem=problems[0][1])
            if reason
            else _("What is missing, and what memory and time this training would take.")
        )


def presetText(name: str) -> str:
    """A preset for people, with what it costs."""
    texts: dict[str, Callable[[], str]] = {
        "quick-look": lambda: _("Quick look (10 min on two cores)"),
        "light": lambda: _("Light (a few hours on two cores)"),
        "unetspsr-full": lambda: _("Full UNetSPSR (days, with a GPU)"),
    }
    return texts[name]()
