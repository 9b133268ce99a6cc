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
from ..section import logError, say

TICK_S = 0.03


class WritingTask:
    """Looks like a `Job`, which begins when volumes of the scene have been written for it, a moment at a time.

    >>> task = WritingTask(logic.completing(values, volumes=volumes), logic.checkData)
    >>> while not task.isFinished:
    ...     task.poll()          # from a timer

    Parameters
    ----------
    steps : generator
        What it returns is given to `begin`.
    begin : callable (what the steps return)
        Begins the task.
    """

    def __init__(self, steps: Steps, begin: Callable[[Any], Job]) -> None:
        self.isFinished = False
        self.error: SuperResError | None = None
        self.report: dict | None = None
        self.fraction, self.message, self.remaining = 0.0, _("Writing the volumes"), None
        self._steps, self._begin = steps, begin
        self._task: Job | None = None

    def poll(self) -> None:
        if self.isFinished:
            return
        if self._task is None:
            self._write()
            return
        self._task.poll()
        self._follow()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self.close()

    def close(self) -> None:
        if self._task is not None:
            self._task.close()
            self._follow()
        elif not self.isFinished:
            self._steps.close()
            self.isFinished, self.error = True, Cancelled()

    def _write(self) -> None:
        end = time.monotonic() + TICK_S
        try:
            while time.monotonic() < end:
                next(self._steps)
        except StopIteration as done:
            try:
                self._task = self._begin(done.value)
                self._follow()
            except SuperResError as error:
                self.isFinished, self.error = True, error
        except SuperResError as error:
            self.isFinished, self.error = True, error

    def _follow(self) -> None:
        """How the task is now."""
        task = self._task
        self.fraction, self.message, self.remaining = task.fraction, task.message, task.remaining
        self.isFinished, self.error, self.report = task.isFinished, task.error, task.report


class TaskView:
    """Shows a task, its end and its errors in a label; one at a time.

    >>> view = TaskView(ui.dataStatusLabel, ui.dataProgressBar)
    >>> view.start(lambda: logic.checkData(options), onDone=showReport)
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
        self.task: Job | WritingTask | None = None
        self._onDone: Callable[[dict], None] | None = None
        self._isCancelled = False
        self._end()

    @property
    def isBusy(self) -> bool:
        return self.task is not None

    def start(self, begin: Callable[[], Job | WritingTask], onDone: Callable[[dict], None]) -> None:
        """Begin a task, for which packages may have to be installed; `onDone` gets its report.

        An error is shown, whether it comes now or later.
        """
        say(self._label, "")
        try:
            dialogs.ensurePackages()
            self.task = begin()
        except SuperResError as error:
            self.showError(error)
            return
        self._onDone, self._isCancelled = onDone, False
        if self._bar is not None:
            self._bar.visible = True
        self._show()

    def poll(self) -> None:
        self.task.poll()
        self._show()
        if not self.task.isFinished:
            return
        task = self.task
        self.close()
        try:
            if task.error:
                raise task.error
            self._onDone(task.report)
        except SuperResError as error:
            self.showError(error)

    def cancel(self) -> None:
        """Ask to stop; `poll` tells when that is done."""
        self.task.cancel()
        self._isCancelled = True
        self._show()

    def close(self) -> None:
        """End what goes on, now."""
        if self.task is not None:
            self.task.close()
            self.task = None
            self._end()

    def showError(self, error: SuperResError) -> None:
        """In words; where a process has left more to read, it goes to the log."""
        say(self._label, str(error))
        logError(error)

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.setValue(round(100 * self.task.fraction))
        text, left = self.task.message or _("Starting"), duration_text(self.task.remaining)
        if self._isCancelled:
            text = _("Cancelling")
        elif left:
            text = _("{stage}, {duration} left").format(stage=text, duration=left)
        say(self._label, text)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.visible = False
        say(self._label, "")
