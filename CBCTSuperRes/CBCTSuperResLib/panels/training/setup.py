"""Section Training, its upper part: what kind of model is trained, how long, on what, and what time that takes."""

from __future__ import annotations

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...core.packages import missing_packages
from ...jobs.job import Job
from ...train.options_file import value_at
from ..section import Section, logError, signalsBlocked
from .choices import AUTOMATIC, CPU, GPU, TrainingChoices
from .texts import kindText, longDuration, presetText

STEPS = "train.niter"


class SetupSection(Section):
    """Kind, preset, steps and device; what is learned from; the time, measured here once for all presets.

    Attributes
    ----------
    measures : bool
        Whether what is not known of this computer is measured when the module is entered.
    """

    measures = True

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices)
        self._measuring: Job | None = None
        self._hasMeasured = False
        self._kinds, self._presets, self._devices, self._shown = [], [], [], None
        ui.kindSelector.connect("currentIndexChanged(int)", self.onKind)
        ui.presetSelector.connect("currentIndexChanged(int)", self.onPreset)
        ui.iterationsBox.connect("valueChanged(int)", self.onSteps)
        ui.deviceSelector.connect("currentIndexChanged(int)", self.onDevice)

    @property
    def isBusy(self) -> bool:
        return self._measuring is not None

    def bind(self) -> None:
        """Measure what is not known of this computer, once, in a process that lets others go first."""
        if not self.measures or self.isBusy or self._hasMeasured or missing_packages():
            return
        unmeasured = self.choices.unmeasured()
        if unmeasured:
            self._hasMeasured = True
            try:
                self._measuring = self.choices.logic.measurePace(unmeasured)
            except SuperResError as error:
                logError(error)

    def refresh(self) -> None:
        isBound = self.parameters is not None
        for widget in (self.ui.kindSelector, self.ui.presetSelector, self.ui.iterationsBox, self.ui.deviceSelector):
            widget.enabled = isBound
        if not isBound:
            return
        self._showLists()
        kind, preset, device = self.choices.kind(), self.choices.presetName(), self.choices.device()
        chosen = (
            (self.ui.kindSelector, self._kinds.index(kind) if kind in self._kinds else -1),
            (self.ui.presetSelector, self._presets.index(preset) + 1 if preset else 0),
            (self.ui.deviceSelector, self._devices.index(device)),
        )
        for selector, index in chosen:
            with signalsBlocked(selector):
                selector.currentIndex = index
        steps = value_at(self.choices.valuesOrNone() or {}, STEPS)
        if isinstance(steps, int):
            with signalsBlocked(self.ui.iterationsBox):
                self.ui.iterationsBox.value = steps
        self.ui.learnsFromLabel.text = self.choices.learnsFrom()
        self.ui.timeLabel.text = self._timeText()

    def poll(self) -> None:
        self._measuring.poll()
        if self._measuring.isFinished:
            job, self._measuring = self._measuring, None
            job.close()
            if job.error:
                logError(job.error)
            self._shown = None
            self.changed.emit()

    def close(self) -> None:
        if self._measuring is not None:
            self._measuring.close()
            self._measuring, self._hasMeasured = None, False

    def onKind(self, index: int) -> None:
        if self.parameters is not None and index >= 0:
            self.choices.chooseKind(self._kinds[index])

    def onPreset(self, index: int) -> None:
        if self.parameters is not None and index > 0:
            self.choices.choosePreset(self._presets[index - 1])
        self.refresh()

    def onSteps(self, steps: int) -> None:
        self.choices.change({STEPS: steps})

    def onDevice(self, index: int) -> None:
        if self.parameters is not None and index >= 0:
            self.choices.chooseDevice(self._devices[index])

    def _showLists(self) -> None:
        """What can be chosen now; written anew only where that has changed."""
        choices = self.choices
        shown = (choices.kinds(), choices.presets(), choices.devices(), choices.device())
        if shown == self._shown:
            return
        self._shown = shown
        self._kinds, self._presets, self._devices, _device = shown
        devices = {AUTOMATIC: _("Automatic"), CPU: _("CPU"), GPU: _("Graphics card (NVIDIA)")}
        texts = (
            (self.ui.kindSelector, [kindText(kind) for kind in self._kinds]),
            (
                self.ui.presetSelector,
                [_("Custom"), *(presetText(name, choices.presetSeconds(name)) for name in self._presets)],
            ),
            (self.ui.deviceSelector, [devices[device] for device in self._devices]),
        )
        for selector, lines in texts:
            with signalsBlocked(selector):
                selector.clear()
                selector.addItems(lines)

    def _timeText(self) -> str:
        seconds = self.choices.seconds()
        if seconds is not None:
            return _("Takes about {duration} here.").format(duration=longDuration(seconds))
        if self.isBusy:
            return _("Measuring how fast this computer is.")
        return _("How long these settings take is not known yet: Plan, in Settings, tells.")
