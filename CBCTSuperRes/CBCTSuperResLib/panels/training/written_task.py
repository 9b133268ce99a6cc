"""Work in another process that begins when volumes of the scene have been written for it, a moment at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from ...errors import Cancelled, SuperResError
from ...jobs.training import Task
from ...scene.training_volumes import Steps

TICK_S = 0.03


class WrittenTask:
    """Looks like a `Task`; the first ticks make the steps of writing.

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

    def __init__(self, steps: Steps, begin: Callable[[Any], Task]) -> None:
        self._steps, self._begin = steps, begin
        self._task: Task | None = None
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
