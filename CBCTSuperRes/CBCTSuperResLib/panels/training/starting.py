"""From the click on Start to a training that goes on: what it takes, and what there is to ask before."""

from __future__ import annotations

from slicer.i18n import tr as _

from ...errors import Cancelled, InputError
from ...jobs.training import Task, TrainingJob
from ...memory import readable
from ...scene.training_volumes import Steps
from ...training.options import TrainingOptions
from ...training.runs import RunInfo
from ...training_logic import TrainingLogic
from .. import dialogs
from .run_texts import longDuration
from .written_task import WrittenTask

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

    def _plan(self, options: TrainingOptions) -> Task:
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
