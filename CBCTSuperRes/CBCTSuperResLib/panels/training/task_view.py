"""Work in another process as a panel shows it: one piece at a time, with a bar, words and a way to stop it."""

from __future__ import annotations

from collections.abc import Callable

from slicer.i18n import tr as _

from ...errors import SuperResError
from ...jobs.training import Task
from ...progress import duration_text
from ..section import logError
from .written_task import WrittenTask


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
        self._task: Task | WrittenTask | None = None
        self._whenDone: Callable[[dict], None] = lambda report: None
        self._bar.visible = False
        tell(label, "")

    @property
    def isBusy(self) -> bool:
        return self._task is not None

    def start(self, begin: Callable[[], Task | WrittenTask], whenDone: Callable[[dict], None]) -> None:
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
