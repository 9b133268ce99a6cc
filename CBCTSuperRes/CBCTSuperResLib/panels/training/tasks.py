"""Work in another process as a panel shows it: one piece at a time, with a bar, words and a way to stop it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ...core.errors import Cancelled, SuperResError
from ...core.progress import duration_text
from ...jobs.job import Job
from ...scene.training_volumes import Steps
from .. import dialogs
from ..error_text import errorText
from ..section import WARNING, Section, logError, say
from .choices import TrainingChoices

TICK_S = 0.03


class TaskView:
    """Shows a job, its end and its errors in a label; one at a time.

    Before it, volumes of the scene may have to be written, a moment at a time.

    >>> view = TaskView(ui.dataStatusLabel, ui.dataProgressBar)
    >>> view.start(logic.checkData, onDone=showReport, steps=choices.completing())
    >>> view.poll()      # from a timer while `isBusy`

    Parameters
    ----------
    label : QLabel
        For the stage, and for what went wrong.
    bar : QProgressBar, optional
        Visible only while something goes on.
    """

    def __init__(self, label, bar=None) -> None:
        self._label, self._bar = label, bar
        self.job: Job | None = None
        self._steps: Steps | None = None
        self._begin: Callable[[Any], Job] | None = None
        self._onDone: Callable[[dict], None] | None = None
        self._isCancelled = False
        self._end()

    @property
    def isBusy(self) -> bool:
        return self.job is not None or self._steps is not None

    def start(
        self,
        begin: Callable[..., Job],
        onDone: Callable[[dict], None],
        steps: Steps | None = None,
        needsPackages: bool = True,
    ) -> None:
        """Begin a job, for which packages may have to be installed; an error is shown, now or later.

        Parameters
        ----------
        begin : callable
            Begins the job; gets what `steps` return, if there are any.
        onDone : callable (report)
        steps : generator, optional
            What has to be done before, in this process.
        needsPackages : bool
            Whether it can do nothing without PyTorch.
        """
        self._isCancelled = False
        say(self._label, "")
        try:
            if needsPackages:
                dialogs.ensurePackages()
            self.job = begin() if steps is None else None
        except SuperResError as error:
            self.showError(error)
            return
        self._begin, self._onDone, self._steps = begin, onDone, steps
        if self._bar is not None:
            self._bar.visible = True
        self._show()

    def poll(self) -> None:
        try:
            if self._steps is not None:
                self._write()
            else:
                self._follow()
        except SuperResError as error:
            self.close()
            self.showError(error)

    def cancel(self) -> None:
        """Ask to stop; `poll` tells when that is done."""
        self._isCancelled = True
        if self.job is not None:
            self.job.cancel()
        self._show()

    def close(self) -> None:
        """End what goes on, now."""
        if self._steps is not None:
            self._steps.close()
        if self.job is not None:
            self.job.close()
        if self.isBusy:
            self.job = self._steps = None
            self._end()

    def clear(self) -> None:
        """Say nothing."""
        say(self._label, "")

    def showError(self, error: SuperResError) -> None:
        """In words; where a process has left more to read, it goes to the log."""
        say(self._label, errorText(error) if isinstance(error, Cancelled) else WARNING + errorText(error))
        logError(error)

    def _write(self) -> None:
        if self._isCancelled:
            raise Cancelled
        end = time.monotonic() + TICK_S
        try:
            while time.monotonic() < end:
                next(self._steps)
        except StopIteration as done:
            self._steps, self.job = None, self._begin(done.value)
            self._follow()

    def _follow(self) -> None:
        job = self.job
        job.poll()
        self._show()
        if job.isFinished:
            self.close()
            if job.error:
                raise job.error
            self._onDone(job.report)

    def _show(self) -> None:
        fraction, text, left = 0.0, _("Writing the volumes"), ""
        if self.job is not None:
            fraction, text = self.job.fraction, self.job.message or _("Starting")
            left = duration_text(self.job.remaining)
        if self._isCancelled:
            text, left = _("Cancelling"), ""
        if self._bar is not None:
            self._bar.setValue(round(100 * fraction))
        say(self._label, _("{stage}, {duration} left").format(stage=text, duration=left) if left else text)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.visible = False
        self.clear()


class TaskSection(Section):
    """A section that has one thing done at a time, and shows it in a label and a bar."""

    def __init__(self, ui, choices: TrainingChoices, label, bar=None) -> None:
        super().__init__(ui, choices)
        self.logic, self._task = choices.logic, TaskView(label, bar)

    @property
    def isBusy(self) -> bool:
        return self._task.isBusy

    def poll(self) -> None:
        self._task.poll()
        if not self.isBusy:
            self.changed.emit()

    def close(self) -> None:
        """End what goes on, and say nothing of it any longer."""
        self._task.close()
        self._task.clear()
