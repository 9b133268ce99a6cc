"""Start, stop and resume a training, and see how far it is: section Training, and a button of section Runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from slicer.i18n import tr as _

from ...core.errors import Cancelled, SuperResError
from ...jobs.job import Job
from ...jobs.training import TrainingJob
from ...scene.training_volumes import Steps
from ...train.options import TrainingOptions
from ...train.run_folder import RunInfo
from .. import dialogs
from ..section import WARNING, Section, Signal, offer, say
from .choices import TrainingChoices, planProblems
from .tasks import TaskView
from .texts import progressText, shortened, validationText


class RunSection(Section):
    """Starts a training, or finds one that goes on, and watches it.

    Before a training starts, another process finds out what it takes; where that is much, the user is asked.

    Attributes
    ----------
    job : TrainingJob or None
        The training that is watched, as long as it goes on.
    started : Signal (job)
        There is a new run.
    ended : Signal ()
        The training goes on no longer.
    """

    def __init__(self, ui, choices: TrainingChoices) -> None:
        super().__init__(ui, choices)
        self.logic = choices.logic
        self.job: TrainingJob | None = None
        self.started, self.ended = Signal(), Signal()
        self._planning = TaskView(ui.trainingLabel, ui.trainingProgressBar)
        self._options: TrainingOptions | None = None
        self._hasOffered = False
        ui.startButton.connect("clicked(bool)", self.onStartOrStop)
        ui.resumeButton.connect("clicked(bool)", self.onResume)

    @property
    def isBusy(self) -> bool:
        return self._planning.isBusy or self.job is not None

    def bind(self) -> None:
        self._showWhetherDetached()

    def refresh(self) -> None:
        self._keepOrNot()
        isElsewhere = self.job is not None and self.job.isElsewhere
        button, problem = self.ui.startButton, ""
        if self._planning.isBusy:
            button.text = _("Cancel")
            offer(button, "", _("Start nothing."))
        elif self.job is None:
            problem = self.choices.problem()
            button.text = _("Start")
            offer(button, problem, _("Start a training with these data and settings."))
        elif isElsewhere:
            button.text = _("Stop")
            offer(button, _("This training was started outside of Slicer. Stop it there."), "")
        elif self.job.isStopping:
            button.text = _("End now")
            offer(button, "", _("Do not wait for the step that is being computed."))
        else:
            button.text = _("Stop")
            offer(button, "", _("Finish this step, save a checkpoint and stop. Resume goes on."))
        say(self.ui.problemLabel, WARNING + problem if problem and self.parameters is not None else "")
        run = self.choices.shownRun()
        hint = _("Go on with the run {name} from its last checkpoint.").format(name=run.name if run else "")
        reason = _("A training is going on.") if self.isBusy else self.choices.whyNotResumed()
        offer(self.ui.resumeButton, reason, hint)
        self.ui.keepTrainingBox.enabled = not isElsewhere
        self.ui.trainingProgressBar.visible = self.isBusy

    def poll(self) -> None:
        if self._planning.isBusy:
            self._planning.poll()
            if not self._planning.isBusy:
                self.changed.emit()
        elif self.job is not None:
            saved = self.job.saved
            try:
                self.job.poll()
            except OSError as error:
                text = _("The results folder cannot be reached at the moment: {error}.").format(error=error)
                say(self.ui.trainingLabel, text)
                return
            self._showProgress()
            if self.job.isFinished:
                self._end()
            elif self.job.saved != saved:  # from now on there is something to use and to resume
                self.changed.emit()

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
            self._planning.showError(error)
            return
        self._showWhetherDetached()
        self._showProgress()

    def onStartOrStop(self, checked: bool = False) -> None:
        try:
            if self._planning.isBusy:
                self.cancelStart()
                say(self.ui.trainingLabel, _("Not started."))
            elif self.job is not None:
                self._stop()
            else:
                self._start()
        except SuperResError as error:
            self._planning.showError(error)
        self.changed.emit()

    def onResume(self, checked: bool = False) -> None:
        try:
            self._resume(self.choices.shownRun())
        except SuperResError as error:
            self._planning.showError(error)
        self.changed.emit()

    def cancelStart(self) -> None:
        """Start nothing; a training that goes on goes on."""
        self._planning.close()

    def forget(self) -> None:
        """Say nothing of what has ended; of a training that goes on, how it does."""
        self.cancelStart()
        if self.job is None:
            self._planning.clear()

    def close(self) -> None:
        """Let go of the training: it goes on if the user wants that, otherwise it stops by itself and loses nothing."""
        self.cancelStart()
        if self.job is None:
            return
        with suppress(SuperResError):
            if not (self.job.isDetached or self.job.isElsewhere):
                self.job.stop()
        self.job.close()
        self.job = None

    def _start(self) -> None:
        """Begin a run, unless the user would rather go on with the one that has its name."""
        self.choices.checkReady()
        options = self.choices.options()
        old = next((run for run in self.logic.runs(options.path.root) if run.folder == options.run_folder), None)
        if old is None or old.step == 0:
            self._plan(options, self.choices.completing())
            return
        self.parameters.shownRun = old.name
        answers = [_("Begin anew")] if self.choices.whyNotResumed() else [_("Begin anew"), _("Go on with it")]
        question = _(
            "There is a run {name} already, at step {step:,d} of {niter:,d}. A new run takes its name, and the old one "
            "is kept under another."
        ).format(name=old.name, step=old.step, niter=old.niter)
        answer = dialogs.choose(_("Start training"), question, answers)
        if answer == 0:
            self._plan(options, self.choices.completing())
        elif answer == 1:
            self._resume(old)

    def _resume(self, run: RunInfo) -> None:
        options, changed = self._optionsToResume(run)
        self._plan(options, self.logic.completing(options), run.step, resume="auto", acceptChanges=changed)

    def _optionsToResume(self, run: RunInfo) -> tuple[TrainingOptions, bool]:
        """The options to resume a run with, and whether they change it.

        They are the run's own, or those that the panel has for a run of this name, if the user wants these.
        """
        own = self.logic.optionsOf(run)
        if self.parameters.runName.strip() != run.name or self.choices.problem():
            return own, False
        chosen = self.choices.readyOptions()
        changes = self.logic.changes(chosen)
        if not changes:
            return chosen, False
        question = _("The settings have changed since this run was started:\n\n{changes}\n\nGo on with which?")
        question = question.format(changes="\n".join(shortened(changes)))
        answer = dialogs.choose(_("Resume training"), question, [_("As it was"), _("With the changes")])
        if answer < 0:
            raise Cancelled(_("Not resumed."))
        return (chosen, True) if answer == 1 else (own, False)

    def _plan(self, options: TrainingOptions, steps: Steps, stepsDone: int = 0, **startArguments) -> None:
        """Find out what a training takes, before it starts; what shows its curves is offered once."""
        dialogs.ensurePackages()
        startArguments = {"detached": self.parameters.keepTraining, **startArguments}
        if options.use_tb_logger and not self._hasOffered:
            self._hasOffered = True
            dialogs.offerTrainingExtras()
        self._planning.start(self._planTask, lambda plan: self._startPlanned(plan, stepsDone, **startArguments), steps)

    def _planTask(self, options: TrainingOptions) -> Job:
        self._options = options
        return self.logic.plan(options)

    def _startPlanned(self, plan: dict, stepsDone: int, **startArguments) -> None:
        reasons = planProblems(plan, self._options.train.niter, stepsDone)
        question = "\n\n".join([*reasons, _("Start it anyway?")])
        if reasons and not dialogs.confirm(_("Start training"), question, _("Start anyway")):
            raise Cancelled(_("Not started."))
        self.job = self.logic.start(self._options, **startArguments)
        self._showProgress()
        self.started.emit(self.job)

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
            self._planning.showError(job.error)
        else:
            lines = [_("{name} is finished.").format(name=job.name), validationText(job.validations)]
            say(self.ui.trainingLabel, "\n".join(filter(None, lines)))
        self.ended.emit()
        self.changed.emit()

    def _keepOrNot(self) -> None:
        """Tell a training that goes on what its check box says."""
        if self.job is None or self.parameters is None or self.job.isElsewhere or self.job.isFinished:
            return
        if self.job.isDetached != self.parameters.keepTraining:
            try:
                self.job.detach(self.parameters.keepTraining)
            except SuperResError as error:
                self._planning.showError(error)

    def _showWhetherDetached(self) -> None:
        """The check box shows what was decided for the training that goes on, whoever did, in whatever scene."""
        if self.job is not None and self.parameters is not None and not self.job.isElsewhere:
            self.parameters.keepTraining = self.job.isDetached

    def _showProgress(self) -> None:
        self.ui.trainingProgressBar.setValue(round(100 * self.job.fraction))
        say(self.ui.trainingLabel, "\n".join([progressText(self.job), *self.job.warnings]))
