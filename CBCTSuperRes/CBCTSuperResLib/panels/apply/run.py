"""Output and Apply: what the result will be; a run is started, shown how far it is, and cancelled."""

from __future__ import annotations

from dataclasses import fields

import qt
from slicer.i18n import tr as _

from ...core.errors import Cancelled, SuperResError
from ...core.progress import duration_text
from ...scene.jobs import SuperResJob
from ...scene.logic import SuperResLogic
from .. import dialogs
from ..error_text import errorText
from ..section import Section, Signal, logError, offer, plainToolTip, say
from .choices import ApplyChoices
from .parameters import Planes, VoxelSize
from .texts import optionsText, planDetails, planText

ICON_SIZE = 16


class RunSection(Section):
    """The size and time of the result beforehand; the button Apply, which becomes Cancel; the outcome.

    Beside Apply stands one of these: how far the run is; what went wrong, with an icon; why Apply cannot run, with an
    icon; what came of the last run.

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
        self._stage, self._isCancelling, self._isAutomatic = "", False, False
        self._outcome, self._error = "", ""
        ui.applyButton.connect("clicked(bool)", self.onApplyOrCancel)
        ui.inputSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onInputChanged)

    @property
    def isBusy(self) -> bool:
        return self.job is not None

    def refresh(self) -> None:
        self._showOutput()
        self.ui.progressBar.visible = self.isBusy
        if self.isBusy:
            self.ui.applyButton.text = _("Cancel")
            offer(self.ui.applyButton, "", _("Stop computing; nothing is changed."))
            return
        problem = self.choices.problem()
        self.ui.applyButton.text = _("Apply")
        offer(self.ui.applyButton, problem, _("Compute the super-resolved volume."))
        isWorthSaying = problem and self.choices.inputNode is not None and not self.choices.isLocked
        error = self._error or (problem if isWorthSaying else "")
        self._say(error or self._outcome, isError=bool(error))

    def poll(self) -> None:
        self.job.poll()
        self._showProgress()
        if self.job.isFinished:
            self._end()

    def close(self) -> None:
        """End a run at once, for instance because the scene closes; what came of the last one is history."""
        if self.job:
            self.job.close()
            self._end()
        self._outcome = self._error = ""
        self._say("")

    def onInputChanged(self, node) -> None:
        """What was said of a run of another scan no longer matters."""
        if not self.isBusy:
            self._outcome = self._error = ""
            self.refresh()

    def onApplyOrCancel(self, checked: bool = False) -> None:
        if self.job:
            self._isCancelling = True
            self.job.cancel()
            self._showProgress()
            return
        if not self._mayReplace():
            return
        self._outcome = self._error = ""
        try:
            dialogs.ensurePackages(self.choices.needsTorch(), self.choices.options().engine)
            self.started.emit()
            self._start()
        except SuperResError as error:
            self._fail(error)
            return
        self._stage, self._isCancelling = "", False
        self._showProgress()
        self.changed.emit()

    def _mayReplace(self) -> bool:
        """Whether the output may be filled; a volume that is not of our making is not replaced without a question."""
        scan = self.choices.scanToReplace()
        if scan is None:
            return True
        question = _("{name} is no result of this module. Apply replaces what is in it.")
        return dialogs.confirm(_("Apply"), question.format(name=scan.GetName()), _("Replace"))

    def _showOutput(self) -> None:
        card, text, details = self.choices.card(), "", ""
        isSlicewise = card is None or card.spec.dimensions == 2
        if self.choices.inputNode is not None:
            try:
                plan = self.choices.plan()
                text, details = planText(plan), planDetails(plan)
            except SuperResError:
                pass  # beside Apply it is told
        self.ui.outputLabel.text = text
        self.ui.outputLabel.toolTip = plainToolTip(details or _("Predicted size, spacing and time of the result."))
        self.ui.planesSelector.enabled = isSlicewise and not self.choices.isLocked
        self.ui.voxelSizeSelector.enabled = self.ui.voxelSizeFrame.enabled = not self.choices.isLocked
        isGiven = self.parameters is not None and self.parameters.voxelSize is VoxelSize.custom
        self.ui.voxelSizeFrame.visible = isGiven
        for control in (self.ui.voxelSizeISpinBox, self.ui.voxelSizeJSpinBox, self.ui.voxelSizeKSpinBox):
            control.enabled = isGiven and not self.choices.isLocked
        self.ui.outputSelector.enabled = not self.choices.isLocked
        hint = _("More rows, columns and slices: axial, coronal and sagittal planes are computed and joined.")
        if not isSlicewise:
            hint = _("This model makes voxels finer along all three axes.")
        elif self.parameters is None or self.parameters.planes is Planes.axial:
            hint = _("More rows and columns; the number of slices stays.")
        self.ui.planesSelector.toolTip = hint

    def _start(self) -> None:
        node, card, options = self.choices.inputNode, self.choices.card(), self.choices.options()
        text = _("Apply {model} to {volume}: {options}")
        name, isAutomatic = card.name, self.choices.isAutomatic
        if isAutomatic:
            name = _("the model that the scan chooses")
        self.logged.emit(text.format(model=name, volume=node.GetName(), options=optionsText(options)))
        chosen = {field.name: getattr(options, field.name) for field in fields(options)}
        model = None if isAutomatic else card.path
        self.job = self.logic.start(node, self.choices.outputNode, model=model, **chosen)
        self._isAutomatic = isAutomatic

    def _showProgress(self) -> None:
        self.ui.progressBar.value = round(100 * self.job.fraction)
        rest = "" if self._isCancelling or self.job.isFinished else duration_text(self.job.remaining)
        left = ", " + _("{duration} left").format(duration=rest) if rest else ""
        self._say(self.job.message + left)
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
            self._fail(job.error)
        else:
            if self.parameters is not None:
                self.parameters.outputVolume = job.outputVolume
            run = job.report.get("super_resolution", {})
            text = _("Done: {name}, by the model {model}") if self._isAutomatic else _("Done: {name}")
            self._outcome = text.format(name=job.outputVolume.GetName(), model=run.get("model", ""))
            self.logged.emit("\n".join([self._outcome, *run.get("notes", ())]))
            self.done.emit(job)
        self.changed.emit()

    def _fail(self, error: SuperResError) -> None:
        if isinstance(error, Cancelled):
            self._outcome = errorText(error)
        else:
            self._error = errorText(error)
        self._say(errorText(error), isError=bool(self._error))
        self.logged.emit(f"{error}\n{getattr(error, 'detail', '')}".strip())
        logError(error)

    def _say(self, text: str, isError: bool = False) -> None:
        icon = self.ui.statusIcon
        if isError and icon.isHidden():
            image = icon.style().standardIcon(qt.QStyle.SP_MessageBoxWarning)
            icon.setPixmap(image.pixmap(ICON_SIZE, ICON_SIZE))
        icon.visible = isError
        say(self.ui.statusLabel, text)
