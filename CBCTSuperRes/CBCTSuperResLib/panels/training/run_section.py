"""Section Run, its upper part: start, stop and resume a training, and see how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from slicer.i18n import tr as _

from ...errors import SuperResError
from ...jobs.training import TrainingJob
from ...scene.training_volumes import Steps
from ...training.options import TrainingOptions
from ...training.runs import RunInfo
from .. import dialogs
from ..packages import askAndEnsurePackages, askAndOfferExtras
from ..section import Section, logError
from .choices import TrainingChoices
from .run_texts import progressText, validationText
from .shown_run import shownRun
from .starting import Starting, confirmAnew, optionsToResume


class RunSection(Section):
    """Starts a training, or finds one that goes on, and watches it.

    Attributes
    ----------
    job : TrainingJob or None
        The training that is watched, as long as it goes on.
    whenStarted : callable (job)
        Set by the panel: there is a new run.
    whenEnded : callable ()
        Set by the panel: the training goes on no longer.
    ensurePackages, offerExtras : callable
        Called before a training; they install what is missing.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui)
        self.choices, self.logic = choices, choices.logic
        self.job: TrainingJob | None = None
        self.whenStarted: Callable[[TrainingJob], None] = lambda job: None
        self.whenEnded: Callable[[], None] = lambda: None
        self.ensurePackages, self.offerExtras = askAndEnsurePackages, askAndOfferExtras
        self._starting: Starting | None = None
        self._hasOffered = False
        self.ui.startButton.connect("clicked(bool)", self.onStartOrStop)
        self.ui.resumeButton.connect("clicked(bool)", self.onResume)

    @property
    def isBusy(self) -> bool:
        return self._starting is not None or self.job is not None

    def bind(self, parameters) -> None:
        super().bind(parameters)
        self._showWhetherDetached()

    def refresh(self) -> None:
        self._keepOrNot()
        self._showStart()
        self._showResume()
        self._showKeep()
        self.ui.trainingProgressBar.visible = self.isBusy

    def poll(self) -> None:
        if self._starting is not None:
            self._goOnStarting()
        elif self.job is not None:
            saved = self.job.saved
            try:
                self.job.poll()
            except OSError as error:
                self._say(_("The results folder cannot be reached at the moment: {error}.").format(error=error))
                return
            self._showProgress()
            if self.job.isFinished:
                self._end()
            elif self.job.saved != saved:  # from now on there is something to use and to resume
                self.whenChanged()

    def findTraining(self, runs: Sequence[RunInfo]) -> None:
        """Watch a training of these that goes on, unless one is watched; the run that is shown comes first.

        Of a training that was let go on and has ended meanwhile, the result is told.
        """
        if self.isBusy or self.parameters is None:
            return
        runs = sorted(runs, key=lambda run: run.name != self.parameters.shownRun)
        run = next((run for run in runs if run.state == "running"), None)
        if run is None and runs and self.logic.hasNews(runs[0]):
            run = runs[0]
        if run is None:
            return
        try:
            self.job = self.logic.attach(run)
        except SuperResError as error:
            self._showError(error)
            return
        self._showWhetherDetached()
        self._showProgress()

    def onStartOrStop(self, checked: bool = False) -> None:
        try:
            if self._starting is not None:
                self.onSceneStartClose()
                self._say(_("Not started."))
            elif self.job is not None:
                self._stop()
            else:
                self._start()
        except SuperResError as error:
            self._showError(error)
        self.whenChanged()

    def onResume(self, checked: bool = False) -> None:
        try:
            self._resume()
        except SuperResError as error:
            self._showError(error)
        self.whenChanged()

    def onSceneStartClose(self) -> None:
        """A training goes on; one that was about to start does not."""
        if self._starting is not None:
            self._starting.close()
            self._starting = None

    def close(self) -> None:
        """Let go of the training: it goes on if the user wants that, otherwise it stops by itself and loses nothing."""
        self.onSceneStartClose()
        if self.job is None:
            return
        with suppress(SuperResError):
            if not (self.job.isDetached or self.job.isElsewhere):
                self.job.stop()
        self.job.close()
        self.job = None

    def _start(self) -> None:
        self.choices.checkReady()
        options = self.choices.options()
        if confirmAnew(self.logic, options):
            self._begin(options, self.choices.completing())

    def _resume(self) -> None:
        run = shownRun(self.choices)
        options, changed = optionsToResume(self.logic, run, self._optionsFor(run))
        self._begin(options, self.logic.completing(options), resume="auto", acceptChanges=changed, done=run.step)

    def _begin(self, options: TrainingOptions, steps: Steps, **choice) -> None:
        self.ensurePackages()
        self._offerExtras(options)
        self._starting = Starting(self.logic, steps, detached=self.parameters.keepTraining, **choice)
        self.ui.trainingProgressBar.setValue(0)
        self._say(_("Looking at what the training takes"))

    def _optionsFor(self, run: RunInfo) -> TrainingOptions | None:
        """What the panel says, if it says it of this run."""
        if self.parameters.runName.strip() != run.name or self.choices.problem():
            return None
        return self.choices.readyOptions()

    def _offerExtras(self, options: TrainingOptions) -> None:
        """Once, since a training needs none of them."""
        if options.use_tb_logger and not self._hasOffered:
            self._hasOffered = True
            self.offerExtras()

    def _goOnStarting(self) -> None:
        try:
            job = self._starting.poll()
        except SuperResError as error:
            self._starting = None
            self._showError(error)
            self.whenChanged()
            return
        if job is not None:
            self._starting, self.job = None, job
            self._showProgress()
            self.whenStarted(job)
            self.whenChanged()

    def _stop(self) -> None:
        if not self.job.isStopping:
            self.job.stop()
            self._showProgress()
            return
        question = _("End the training now? What was computed since the last checkpoint, at step {step:,d}, is lost.")
        if dialogs.confirm(_("Stop training"), question.format(step=self.job.saved), _("End now")) and self.job:
            self.job.kill()

    def _end(self) -> None:
        job, self.job = self.job, None
        job.close()
        if job.error:
            self._showError(job.error)
        else:
            text = _("{name} is finished.").format(name=job.name)
            self._say("\n".join(filter(None, [text, validationText(job.validations)])))
        self.whenEnded()
        self.whenChanged()

    def _keepOrNot(self) -> None:
        """Tell a training that goes on what its check box says."""
        if self.job is None or self.parameters is None or self.job.isElsewhere or self.job.isFinished:
            return
        if self.job.isDetached != self.parameters.keepTraining:
            try:
                self.job.detach(self.parameters.keepTraining)
            except SuperResError as error:
                self._showError(error)

    def _showWhetherDetached(self) -> None:
        """The check box shows what was decided for the training that goes on, whoever did, in whatever scene."""
        if self.job is not None and self.parameters is not None and not self.job.isElsewhere:
            self.parameters.keepTraining = self.job.isDetached

    def _showStart(self) -> None:
        button = self.ui.startButton
        problem = "" if self.isBusy else self.choices.problem()
        button.enabled = not problem and not (self.job is not None and self.job.isElsewhere)
        if self._starting is not None:
            button.text, button.toolTip = _("Cancel"), _("Start nothing.")
        elif self.job is None:
            button.text, button.toolTip = _("Start"), problem or _("Start a training with these data and settings.")
        elif self.job.isElsewhere:
            button.text, button.toolTip = _("Stop"), _("This training was started outside of Slicer. Stop it there.")
        elif self.job.isStopping:
            button.text, button.toolTip = _("End now"), _("Do not wait for the step that is being computed.")
        else:
            button.text, button.toolTip = _("Stop"), _("Finish this step, save a checkpoint and stop. Resume goes on.")

    def _showResume(self) -> None:
        reason = _("A training is going on.") if self.isBusy else self._whyNotResumed()
        self.ui.resumeButton.enabled = not reason
        self.ui.resumeButton.toolTip = reason or _("Go on with the run that is chosen below, from its last checkpoint.")

    def _whyNotResumed(self) -> str:
        run = shownRun(self.choices)
        if run is None:
            return _("Choose a run below.")
        if run.can_resume or self._isToGetLonger(run):
            return ""
        if run.state == "finished":
            return _(
                "The run is finished. To train it longer, give more steps in the settings and its name as run name."
            )
        return _("The run has no checkpoint to go on from.")

    def _isToGetLonger(self, run: RunInfo) -> bool:
        if run.state != "finished" or self.parameters.runName.strip() != run.name:
            return False
        with suppress(SuperResError):
            return self.choices.options().train.niter > run.step
        return False

    def _showKeep(self) -> None:
        self.ui.keepTrainingBox.enabled = not (self.job is not None and self.job.isElsewhere)

    def _showProgress(self) -> None:
        self.ui.trainingProgressBar.setValue(round(100 * self.job.fraction))
        self._say("\n".join([progressText(self.job), *self.job.warnings]))

    def _showError(self, error: SuperResError) -> None:
        self._say(str(error))
        logError(error)

    def _say(self, text: str) -> None:
        self.ui.trainingLabel.text = text
        self.ui.trainingLabel.visible = bool(text)
