"""Output: where the result goes, and what it will be.

Apply: start a run, show how far it is, cancel it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from slicer.i18n import tr as _

from ...apply.plan import Plan
from ...core.errors import SuperResError
from ...core.memory import readable
from ...core.options import Options
from ...core.progress import duration_text
from ...scene.jobs import SuperResJob
from ...scene.logic import SuperResLogic
from ..widgets import Section, logError
from .choices import Choices
from .parameters import Planes


class OutputSection(Section):
    """Tells size, spacing, memory and time of the result beforehand."""

    def __init__(self, ui, choices: Choices) -> None:
        super().__init__(ui)
        self.choices = choices

    def refresh(self) -> None:
        isSlicewise = self._isSlicewise()
        self.ui.outputLabel.text = self._estimateText()
        self.ui.planesLabel.text = self._planesText(isSlicewise)
        self.ui.planesSelector.enabled = isSlicewise and not self.choices.isLocked
        self.ui.outputSelector.enabled = not self.choices.isLocked

    def _isSlicewise(self) -> bool:
        card = self.choices.card()
        return card is None or card.spec.dimensions == 2

    def _planesText(self, isSlicewise: bool) -> str:
        if self.parameters is None:
            return ""
        if not isSlicewise:
            return _("This model makes voxels finer along all three axes.")
        if self.parameters.planes is Planes.axial:
            return _("More rows and columns; the number of slices stays.")
        return _("More rows, columns and slices: axial, coronal and sagittal planes are computed and joined.")

    def _estimateText(self) -> str:
        if self.choices.inputNode is None:
            return ""
        try:
            return planText(self.choices.plan())
        except SuperResError as error:
            return str(error)


def planText(plan: Plan) -> str:
    """Size, spacing, memory and time of a result that is not there yet."""
    size = " x ".join(map(str, plan.grid.size))
    spacing = " x ".join(f"{s:.3g}" for s in plan.grid.spacing)
    text = _("{size}, {spacing} mm, {bytes}; about {duration} and {memory} of memory")
    if not plan.seconds_are_measured:
        text += _(" (the time is a guess until the model has run here)")
    return text.format(
        size=size,
        spacing=spacing,
        bytes=readable(plan.output_bytes),
        duration=duration_text(plan.seconds),
        memory=readable(plan.memory_bytes),
    )


class RunSection(Section):
    """The button Apply, which becomes Cancel, the progress and the outcome.

    Attributes
    ----------
    job : SuperResJob or None
        What is running.
    whenStarted : callable ()
        Set by the panel; a run begins.
    whenDone : callable (job)
        Set by the panel; a run has a result.
    tell : callable (text)
        Set by the panel; keeps details in the log.
    """

    def __init__(self, ui, choices: Choices, logic: SuperResLogic, ensurePackages: Callable[[], None]) -> None:
        super().__init__(ui)
        self.choices, self.logic = choices, logic
        self.job: SuperResJob | None = None
        self.whenStarted: Callable[[], None] = lambda: None
        self.whenDone: Callable[[SuperResJob], None] = lambda job: None
        self.tell: Callable[[str], None] = lambda text: None
        self.ensurePackages = ensurePackages
        self._stage = ""
        self.ui.applyButton.connect("clicked(bool)", self.onApplyOrCancel)

    @property
    def isBusy(self) -> bool:
        return self.job is not None

    def refresh(self) -> None:
        running = self.job is not None
        reason = "" if running else self._whyNot()
        self.ui.applyButton.text = _("Cancel") if running else _("Apply")
        self.ui.applyButton.enabled = not reason
        if running:
            self.ui.applyButton.toolTip = _("Stop computing; nothing is changed.")
        else:
            self.ui.applyButton.toolTip = reason or _("Compute the super-resolved volume.")
        self.ui.progressBar.visible = running

    def poll(self) -> None:
        self.job.poll()
        self._showProgress()
        if self.job.isFinished:
            self._end()

    def close(self) -> None:
        """End a run at once, for instance because the scene closes."""
        if self.job:
            self.job.close()
            self._end()

    def onApplyOrCancel(self, checked: bool = False) -> None:
        if self.job:
            self.job.cancel()
            self._showProgress()
            return
        try:
            self.ensurePackages()
            self.whenStarted()
            self.job = self._start()
        except SuperResError as error:
            self._showError(error)
            return
        self._stage = ""
        self._showProgress()
        self.whenChanged()

    def _whyNot(self) -> str:
        if self.choices.isLocked:
            return _("Something else is being computed.")
        return self.choices.problem()

    def _start(self) -> SuperResJob:
        card, options = self.choices.card(), self.choices.options()
        text = _("Apply {model} to {volume}: {options}")
        volume = self.choices.inputNode.GetName()
        self.tell(text.format(model=card.name, volume=volume, options=chosenText(options)))
        chosen = {field.name: getattr(options, field.name) for field in fields(options)}
        return self.logic.start(self.choices.inputNode, self.choices.outputNode, model=card.path, **chosen)

    def _end(self) -> None:
        job, self.job = self.job, None
        job.close()
        for warning in job.warnings:
            self.tell(warning)
        if job.error:
            self._showError(job.error)
        else:
            self._showResult(job)
        self.whenChanged()

    def _showProgress(self) -> None:
        self.ui.progressBar.value = round(100 * self.job.fraction)
        rest = duration_text(self.job.remaining)
        left = ", " + _("{duration} left").format(duration=rest) if rest and not self.job.isFinished else ""
        self.ui.statusLabel.text = self.job.message + left
        stage = self.job.message.partition(":")[0]
        if stage != self._stage:
            self._stage = stage
            self.tell(self.job.message)

    def _showError(self, error: SuperResError) -> None:
        self.ui.statusLabel.text = str(error)
        detail = getattr(error, "detail", "")
        self.tell(f"{error}\n{detail}".strip())
        logError(error)

    def _showResult(self, job: SuperResJob) -> None:
        if self.parameters is not None:
            self.parameters.outputVolume = job.outputVolume
        lines = [_("Done: {name}").format(name=job.outputVolume.GetName()), *job.warnings]
        self.ui.statusLabel.text = "\n".join(lines)
        self.tell(lines[0])
        self.whenDone(job)


def chosenText(options: Options) -> str:
    """The options that are not the usual ones."""
    usual = Options().to_json()
    chosen = [f"{name} {value}" for name, value in options.to_json().items() if value != usual[name]]
    return ", ".join(chosen) or _("usual options")
