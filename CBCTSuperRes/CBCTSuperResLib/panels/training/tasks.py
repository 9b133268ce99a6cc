"""Work in another process that begins when volumes of the scene have been written for it, a moment at a time.

Work in another process as a panel shows it: one piece at a time, with a bar, words and a way to stop it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ...core.errors import Cancelled, SuperResError
from ...core.progress import duration_text
from ...jobs.job import Job
from ...scene.training_volumes import Steps
from ..widgets import logError

TICK_S = 0.03


class WrittenTask:
    """Looks like a `Job`; the first ticks make the steps of writing.

    >>> task = WrittenTask(logic.completing(values, volumes=volumes), logic.checkData)
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
        self._steps, self._begin = steps, begin
        self._task: Job | None = None
        self._error: SuperResError | None = None

    @property
    def isFinished(self) -> bool:
        return self._error is not None or (self._task is not None and self._task.isFinished)

    @property
    def error(self) -> SuperResError | None:
        return self._error or (self._task.error if self._task else None)

    @property
    def report(self) -> dict | None:
        return self._task.report if self._task else None

    @property
    def fraction(self) -> float:
        return self._task.fraction if self._task else 0.0

    @property
    def message(self) -> str:
        return self._task.message if self._task else _("Writing the volumes")

    @property
    def remaining(self) -> float | None:
        return self._task.remaining if self._task else None

    def poll(self) -> None:
        if self._task is not None:
            self._task.poll()
        elif not self.isFinished:
            self._write()

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self.close()

    def close(self) -> None:
        if self._task is not None:
            self._task.close()
        elif not self.isFinished:
            self._steps.close()
            self._error = Cancelled()

    def _write(self) -> None:
        end = time.monotonic() + TICK_S
        try:
            while time.monotonic() < end:
                next(self._steps)
        except StopIteration as done:
            self._beginWith(done.value)
        except SuperResError as error:
            self._error = error

    def _beginWith(self, written: Any) -> None:
        try:
            self._task = self._begin(written)
        except SuperResError as error:
            self._error = error


class TaskView:
    """
    >>> view = TaskView(ui.dataProgressBar, ui.dataStatusLabel)
    >>> view.start(lambda: logic.checkData(options), whenDone=showReport)
    >>> view.poll()      # from a timer while `isBusy`

    Parameters
    ----------
    bar : QProgressBar
        Visible only while something goes on.
    label : QLabel
        For the stage, and for what went wrong.
    """

    def __init__(self, bar, label) -> None:
        self._bar, self._label = bar, label
        self._task: Job | WrittenTask | None = None
        self._whenDone: Callable[[dict], None] = lambda report: None
        self._bar.visible = False
        tell(label, "")

    @property
    def isBusy(self) -> bool:
        return self._task is not None

    def start(self, begin: Callable[[], Job | WrittenTask], whenDone: Callable[[dict], None]) -> None:
        """Begin a task; `whenDone` gets its report. An error is shown, whether it comes now or later."""
        tell(self._label, "")
        try:
            self._task = begin()
        except SuperResError as error:
            self.showError(error)
            return
        self._whenDone = whenDone
        self._bar.visible = True
        self._show()

    def poll(self) -> None:
        self._task.poll()
        self._show()
        if self._task.isFinished:
            self._end()

    def cancel(self) -> None:
        """Ask to stop; `poll` tells when that is done."""
        self._task.cancel()
        tell(self._label, _("Cancelling"))

    def close(self) -> None:
        """End what goes on, now."""
        if self._task is not None:
            self._task.close()
            self._task = None
            self._bar.visible = False
            tell(self._label, "")

    def showError(self, error: SuperResError) -> None:
        """In words; where a process has left more to read, it goes to the log."""
        tell(self._label, str(error))
        logError(error)

    def _show(self) -> None:
        self._bar.setValue(round(100 * self._task.fraction))
        rest = duration_text(self._task.remaining)
        left = ", " + _("{duration} left").format(duration=rest) if rest else ""
        tell(self._label, self._task.message + left)

    def _end(self) -> None:
        task, self._task = self._task, None
        self._bar.visible = False
        task.close()
        tell(self._label, "")
        if task.error:
            self.showError(task.error)
            return
        try:
            self._whenDone(task.report)
        except SuperResError as error:
            self.showError(error)


def tell(label, text: str) -> None:
    """Show a text in a label, which takes no room while there is none."""
    label.text = text
    label.visible = bool(text)
