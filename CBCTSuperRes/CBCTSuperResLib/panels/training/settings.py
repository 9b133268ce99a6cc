"""Section Settings: all that decides how a training learns, its files, and what it will take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import ctk
import qt
from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...train.option_values import text_of_value
from ...train.options_file import value_at, value_of_text, write_options
from ...train.options_schema import Entry, catalogue
from .. import dialogs
from ..error_text import errorText
from ..section import offer, plainToolTip, say, signalsBlocked
from .choices import RANGE, TrainingChoices
from .option_values import openValues
from .options_table import OptionsTable
from .parameters import WindowChoice
from .setup import STEPS
from .tasks import TaskSection

LEARNING_RATES = ("train.lr_G", "train.lr_G_grad")
ELSEWHERE = {STEPS, "device", "gpu_ids", RANGE}  # what other widgets show


class SettingsSection(TaskSection):
    """Files of options, the keys that people change most, a table of the others, the window, and the plan."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices, ui.planLabel, ui.planProgressBar)
        entries = {entry.name: entry for entry in catalogue()}
        self.fields = [Field(choices, label, [entries[name] for name in names]) for label, names in commonSettings()]
        for field in self.fields:
            ui.fieldsWidget.layout().addRow(field.label, field.widget)
        self._window = WindowFields(ui, choices)
        self._table = OptionsTable(ui, choices, ELSEWHERE.union(*(field.names for field in self.fields)))
        self._planned: dict | None = None
        say(ui.fileLabel, "")
        ui.openOptionsButton.connect("clicked(bool)", self.onOpen)
        ui.saveOptionsButton.connect("clicked(bool)", self.onSave)
        ui.planButton.connect("clicked(bool)", self.onPlanOrCancel)

    def refresh(self) -> None:
        isBound, problems = self.parameters is not None, []
        if isBound:
            problems, values = self.choices.optionProblems(), self.choices.valuesOrNone()
            if values is not None:
                for field in self.fields:
                    field.refresh(value_at(values, field.names[0]))
                self._window.refresh(value_at(values, RANGE))
                self._table.refresh(values, problems)
            self._forgetOldPlan()
        self.ui.openOptionsButton.enabled = self.ui.saveOptionsButton.enabled = isBound
        say(self.ui.settingsProblemLabel, "\n".join(text for _keys, text in problems))
        reason = ""
        if problems and not self.isBusy:
            reason = _("Correct the settings first: {problem}").format(problem=problems[0][1])
        offer(self.ui.planButton, reason, _("What is missing, and what memory and time this training would take."))
        self.ui.planButton.enabled = isBound and not reason
        self.ui.planButton.text = _("Cancel") if self.isBusy else _("Plan")

    def close(self) -> None:
        super().close()
        self._planned = None
        say(self.ui.fileLabel, "")

    def onOpen(self, checked: bool = False) -> None:
        path = dialogs.chooseFile(_("Open options"), _fileFilters(), str(self.choices.resultsFolder))
        if path:
            self._tell(lambda: self.choices.takeFile(*openValues(path)), _("Opened {path}.").format(path=path))

    def onSave(self, checked: bool = False) -> None:
        proposed = self.choices.resultsFolder / f"{self.parameters.runName}.json"
        path = dialogs.chooseNewFile(_("Save options"), _fileFilters(), str(proposed))
        if path:
            write = partial(write_options, path=path)
            self._tell(lambda: write(self.choices.completeOptions()), _("Saved {path}.").format(path=path))

    def onPlanOrCancel(self, checked: bool = False) -> None:
        if self._task.isBusy:
            self._task.cancel()
            return
        self._planned = self.choices.values()
        self._task.start(self._plan, lambda report: say(self.ui.planLabel, report["text"]))
        self.changed.emit()

    def _plan(self):
        return self.logic.plan(self.choices.optionsToPlan(), measure=self.parameters.measurePace)

    def _tell(self, act: Callable[[], None], done: str) -> None:
        try:
            act()
        except SuperResError as error:
            done = errorText(error)
        say(self.ui.fileLabel, done)

    def _forgetOldPlan(self) -> None:
        """A plan is of the settings that it was made for."""
        if self._planned is not None and not self.isBusy:
            with suppress(SuperResError):
                if self.choices.values() != self._planned:
                    self._planned = None
                    say(self.ui.planLabel, "")


def commonSettings() -> list[tuple[str, tuple[str, ...]]]:
    """The settings that people change most: what they are called, and their keys."""
    return [
        (_("Scale:"), ("scale",)),
        (_("Batch size:"), ("datasets.train.batch_size",)),
        (_("Patch size:"), ("datasets.train.HR_size",)),
        (_("Learning rate:"), LEARNING_RATES),
        (_("Pixel weight:"), ("train.pixel_weight",)),
        (_("GAN weight:"), ("train.gan_weight",)),
        (_("Feature weight:"), ("train.feature_weight",)),
        (_("VGG weights:"), ("path.feature_weights",)),
        (_("Features:"), ("network_G.nf",)),
        (_("Blocks:"), ("network_G.nb",)),
        (_("Validate every:"), ("train.val_freq",)),
    ]


class Field:
    """One setting as its key's own description has it: a list of choices, a file, or a line to type in.

    Parameters
    ----------
    choices : TrainingChoices
    label : str
    entries : list of Entry
        The keys; several that are always given the same value.

    Attributes
    ----------
    label, widget : QWidget
    names : list of str
    """

    def __init__(self, choices: TrainingChoices, label: str, entries: list[Entry]) -> None:
        self.names, self._choices, self._key = [entry.name for entry in entries], choices, entries[0].key
        self._shown: Any = ()  # which is no value
        if self._key.choices:
            self.widget = qt.QComboBox()
            self.widget.addItems([text_of_value(choice) for choice in self._key.choices])
            self.widget.connect("currentIndexChanged(int)", self.onChoice)
        elif self._key.is_path:
            self.widget = ctk.ctkPathLineEdit()
            self.widget.connect("currentPathChanged(QString)", self.onText)
        else:
            self.widget = qt.QLineEdit()
            self.widget.connect("editingFinished()", self.onEdited)
        self.label = qt.QLabel(label)
        self.label.setTextFormat(qt.Qt.PlainText)
        self.label.setBuddy(self.widget)
        for widget in (self.label, self.widget):
            widget.toolTip = plainToolTip(entries[0].text)

    def refresh(self, value: Any) -> None:
        """Show a value once, so that what somebody is typing stays while something else changes."""
        if value == self._shown:
            return
        self._shown = value
        with signalsBlocked(self.widget):
            if self._key.choices:
                known = value in self._key.choices
                self.widget.currentIndex = self._key.choices.index(value) if known else -1
            elif self._key.is_path:
                if self.widget.currentPath.strip() != text_of_value(value):
                    self.widget.currentPath = text_of_value(value)
            else:
                self.widget.text = text_of_value(value)

    def onChoice(self, index: int) -> None:
        if index >= 0:
            self._choices.change(dict.fromkeys(self.names, self._key.choices[index]))

    def onEdited(self) -> None:
        self.onText(self.widget.text)

    def onText(self, text: str) -> None:
        self._choices.change(dict.fromkeys(self.names, value_of_text(self.names[0], text)))


class WindowFields:
    """The normalization range: estimated from the first fine scan, or as it is typed."""

    def __init__(self, ui, choices: TrainingChoices) -> None:
        self.ui, self.choices = ui, choices
        self._edits = (ui.windowLowEdit, ui.windowHighEdit)
        self._shown: list = [None, None]
        for edit in self._edits:
            edit.connect("editingFinished()", self.onWindow)
        ui.suggestButton.connect("clicked(bool)", self.onSuggest)

    def refresh(self, window: Any) -> None:
        isEstimated = self.choices.isWindowEstimated()
        bounds = list(window) if isinstance(window, list) and len(window) == 2 else [None, None]
        for edit, bound, shown in zip(self._edits, bounds, self._shown, strict=True):
            edit.enabled = not isEstimated
            if bound != shown:
                edit.text = text_of_value(bound)
        self._shown = bounds
        hasScans = bool(self.choices.volumes())
        self.ui.suggestButton.enabled = hasScans
        text = ""
        if isEstimated:
            text = _("Chosen when the training starts, so that it holds all tissues of the first fine scan.")
        elif window is None:
            text = _("The whole range of the images' type is used.")
        elif not hasScans:
            text = _("No scans yet: computer-drawn slices stand for scans of these gray values.")
        say(self.ui.windowTextLabel, text)

    def onWindow(self) -> None:
        """Both bounds, or none of them for the whole range of the images."""
        texts = [edit.text.strip() for edit in self._edits]
        bounds = [value_of_text(RANGE, text) for text in texts]
        self.choices.change({RANGE: bounds if any(texts) else None})

    def onSuggest(self, checked: bool = False) -> None:
        """Estimate the window from the first fine scan now."""
        try:
            window = self.choices.estimatedWindow()
        except SuperResError as error:
            say(self.ui.windowTextLabel, errorText(error))
            return
        self.choices.parameters.window = WindowChoice.custom
        self.choices.change({RANGE: window})


def _fileFilters() -> str:
    return _("Options of a training (*.json);;All files (*)")
