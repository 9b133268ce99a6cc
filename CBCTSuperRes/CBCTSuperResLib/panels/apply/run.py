"""Output and Apply: what the result will be; a run is started, shown how far it is, and cancelled."""

from __future__ import annotations

from dataclasses import fields

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...core.progress import duration_text
from ...scene.jobs import SuperResJob
from ...scene.logic import SuperResLogic
from .. import dialogs
from ..section import Section, Signal, logError, offer
from .choices import ApplyChoices
from .parameters import Planes
from .texts import optionsText, planText


class RunSection(Section):
    """The size, memory and time of the result beforehand; the button Apply, which becomes Cancel; the outcome.

    Attributes
    ----------
    job : SuperResJob or None
        What is running.
    started : Signal ()
    done : Signal (job)
        A run has a result.
    logged : Signal (text)
        Details for the log.
    """

    def __init__(self, ui, choices: ApplyChoices, logic: SuperResLogic) -> None:
        super().__init__(ui, choices)
        self.logic = logic
        self.job: SuperResJob | None = None
        self.started, self.done, self.logged = Signal(), Signal(), Signal()
        self._stage = ""
        ui.applyButton.connect("clicked(bool)", self.onApplyOrCancel)

    @property
    def isBusy(self) -> bool:
        return self.job is not None

    def refresh(self) -> None:
        self._showOutput()
        self.ui.progressBar.visible = self.isBusy
        if self.isBusy:
            self.ui.applyButton.text = _("Cancel")
            offer(self.ui.applyButton, "", _("Stop computing; nothing is changed."))
        else:
            self.ui.applyButton.text = _("Apply")
            offer(self.ui.applyButton, self.choices.problem(), _("Compute the super-resolved volume."))

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
            dialogs.ensurePackages()
            self.started.emit()
            self._start()
        except SuperResError as error:
            self._showError(error)
            return
        self._stage = ""
        self._showProgress()
        self.changed.emit()

    def _showOutput(self) -> None:
        card, text = self.choices.card(), ""
        isSlicewise = card is None or card.spec.dimensions == 2
        if self.choices.inputNode is not None:
            try:
                text = planText(self.choices.plan())
            except SuperResError as error:
                text = str(error)
        self.ui.outputLabel.text = text
        self.ui.planesSelector.enabled = isSlicewise and not self.choices.isLocked
        self.ui.outputSelector.enabled = not self.choices.isLocked
        if self.parameters is None:
            self.ui.planesLabel.text = ""
        elif not isSlicewise:
            self.ui.planesLabel.text = _("This model makes voxels finer along all three axes.")
        elif self.parameters.planes is Planes.axial:
            self.ui.planesLabel.text = _("More rows and columns; the number of slices stays.")
        else:
            self.ui.planesLabel.text = _(
                "More rows, columns and slices: axial, coronal and sagittal planes are computed and joined."
            )

    def _start(self) -> None:
        node, card, options = self.choices.inputNode, self.choices.card(), self.choices.options()
        text = _("Apply {model} to {volume}: {options}")
        self.logged.emit(text.format(model=card.name, volume=node.GetName(), options=optionsText(options)))
        chosen = {field.name: getattr(options, field.name) for field in fields(options)}
        self.job = self.logic.start(node, self.choices.outputNode, model=card.path, **chosen)

    def _showProgress(self) -> None:
        self.ui.progressBar.value = round(100 * self.job.fraction)
        rest = duration_text(self.job.remaining)
        left = ", " + _("{duration} left").format(duration=rest) if rest and not self.job.isFinished else ""
        self.ui.statusLabel.text = self.job.message + left
        stage = self.job.message.partition(":")[0]
        if stage != self._stage:
            self._stage = stage
            self.logged.emit(self.job.message)

    def _end(self) -> None:
        job, self.job = self.job, None
        job.close()
        for warning in job.warnings:
            self.logged.emit(warning)
        if job.error:
            self._showError(job.error)
        else:
            if self.parameters is not None:
                self.parameters.outputVolume = job.outputVolume
            done = _("Done: {name}").format(name=job.outputVolume.GetName())
            self.ui.statusLabel.text = "\n".join([done, *job.warnings])
            self.logged.emit(done)
            self.done.emit(job)
        self.changed.emit()

    def _showError(self, error: SuperResError) -> None:
        self.ui.statusLabel.text = str(error)
        self.logged.emit(f"{error}\n{getattr(error, 'detail', '')}".strip())
        logError(error)
