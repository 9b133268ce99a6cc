"""Which of the runs is shown.

From the click on Start to a training that goes on: what it takes, and what there is to ask before.

Section Run, its upper part: start, stop and resume a training, and see how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from slicer.i18n import tr as _

from ...core.errors import Cancelled, InputError, SuperResError
from ...core.memory import readable
from ...jobs.job import Job
from ...jobs.training import TrainingJob
from ...scene.training_logic import TrainingLogic
from ...scene.training_volumes import Steps
from ...train.options import TrainingOptions
from ...train.run_folder import RunInfo, read_run
from .. import dialogs
from ..dialogs import askAndEnsurePackages, askAndOfferExtras
from ..widgets import Section, logError
from .choices import TrainingChoices
from .run_texts import longDuration, progressText, validationText
from .tasks import WrittenTask


def shownRun(choices: TrainingChoices) -> RunInfo | None:
    """The run that is chosen in the list, as it is now."""
    if choices.parameters is None or not choices.parameters.shownRun:
        return None
    return read_run(choices.resultsFolder / "experiments" / choices.parameters.shownRun)


LONG_ON_CPU_S = 3600.0


class Starting:
    """Finds out in another process what a training takes, asks where that is much, and starts it.

    >>> starting = Starting(logic, choices.completing())
    >>> while starting.isBusy:
    ...     job = starting.poll()        # the training, as soon as it goes on; from a timer

    Parameters
    ----------
    logic : TrainingLogic
    steps : generator
        Of `TrainingLogic.completing`: writes volumes and returns the options.
    resume : None or "auto"
    acceptChanges, detached : bool
        See `TrainingLogic.start`.
    done : int
        Steps that a resumed run has behind it.
    """

    def __init__(
        self,
        logic: TrainingLogic,
        steps: Steps,
        *,
        resume: str | None = None,
        acceptChanges: bool = False,
        detached: bool = False,
        done: int = 0,
    ) -> None:
        self._logic, self._done = logic, done
        self._choice = {"resume": resume, "acceptChanges": acceptChanges, "detached": detached}
        self._options: TrainingOptions | None = None
        self._task: WrittenTask | None = WrittenTask(steps, self._plan)

    @property
    def isBusy(self) -> bool:
        return self._task is not None

    def poll(self) -> TrainingJob | None:
        """Go on; returns the training once it is started.

        Raises
        ------
        SuperResError
            Why it is not; `Cancelled` if the user has decided so.
        """
        if self._task is None:  # the timer ticks while a question is open
            return None
        self._task.poll()
        if not self._task.isFinished:
            return None
        task = self._task
        self.close()
        if task.error:
            raise task.error
        self._ask(task.report)
        return self._logic.start(self._options, **self._choice)

    def close(self) -> None:
        """Start nothing."""
        if self._task is not None:
            self._task.close()
            self._task = None

    def _plan(self, options: TrainingOptions) -> Job:
        self._options = options
        return self._logic.plan(options)

    def _ask(self, plan: dict) -> None:
        if plan["missing"]:
            raise InputError("\n".join(plan["missing"]), _("Change the data or the settings."))
        reasons = [*plan["problems"], *self._slowness(plan)]
        if not reasons:
            return
        question = "\n\n".join([*reasons, _("Start it anyway?")])
        if not dialogs.confirm(_("Start training"), question, _("Start anyway")):
            raise Cancelled(_("Not started."))

    def _slowness(self, plan: dict) -> list[str]:
        """Why one would not begin this without a GPU, if so."""
        steps = self._options.train.niter or 1
        seconds = plan["seconds"] * max(0, steps - self._done) / steps
        if plan["device"] != "cpu" or seconds < LONG_ON_CPU_S:
            return []
        text = _(
            "This training would run on the CPU, take about {duration}, and keep the computer busy all the time "
            "({memory} of memory). A GPU is many times faster; a smaller model, as in the preset Light, takes less."
        )
        return [text.format(duration=longDuration(seconds), memory=readable(plan["memory_bytes"]))]


def confirmAnew(logic: TrainingLogic, options: TrainingOptions) -> bool:
    """Whether to begin a run although there is one of its name, which is then moved aside."""
    known = [run for run in logic.runs(options.path.root) if run.folder == options.run_folder]
    if not known or known[0].step == 0:
        return True
    question = _(
        "There is a run {name} already, at step {step:,d} of {niter:,d}. Begin anew? The old one is kept under another "
        "name. To go on with it instead, cancel and click Resume."
    ).format(name=options.name, step=known[0].step, niter=known[0].niter)
    return dialogs.confirm(_("Start training"), question, _("Begin anew"))


def optionsToResume(logic: TrainingLogic, run: RunInfo, chosen: TrainingOptions | None) -> tuple[TrainingOptions, bool]:
    """The options to resume a run with, and whether they change it: those that are chosen, if the user wants them.

    Parameters
    ----------
    run : RunInfo
    chosen : TrainingOptions or None
        What the panel says, if that is meant for this run.

    Raises
    ------
    SuperResError
        If the run's own options cannot be read; `Cancelled` if the user does not decide.
    """
    own = logic.optionsOf(run)
    if chosen is None:
        return own, False
    changes = logic.changes(chosen)
    if not changes:
        return chosen, False
    question = _("The settings have changed since this run was started:\n\n{changes}\n\nGo on with which?").format(
        changes="\n".join(shortened(changes))
    )
    actions = [_("As it was"), _("With the changes")]
    decision = dialogs.choose(_("Resume training"), question, actions)
    if decision < 0:
        raise Cancelled(_("Not resumed."))
    return (chosen, True) if decision == 1 else (own, False)


def shortened(lines: list[str], most: int = 12) -> list[str]:
    """The first of many lines, and how many more there are."""
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], _("and {count} more").format(count=len(lines) - most + 1)]


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
