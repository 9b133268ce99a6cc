"""Section Settings: how a training learns, and what that will take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from slicer.i18n import tr as _

from ...errors import SuperResError
from ..section import Section
from .choices import TrainingChoices
from .few_settings import FewSettings
from .option_values import PRESETS, isPreset
from .options_file import OptionsFile
from .options_table import OptionsTable
from .task_view import TaskView, tell


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
