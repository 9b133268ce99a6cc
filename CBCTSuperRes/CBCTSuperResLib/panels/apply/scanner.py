"""Scanner: a scan is looked at as soon as it is chosen, so that blur, noise and model are told before Apply."""

from __future__ import annotations

import time

from slicer.i18n import tr as _

from ...core.errors import SuperResError
from ...scene.jobs import LookJob
from ...scene.logic import SuperResLogic
from ..section import Section, logError, say
from .choices import ApplyChoices

QUIET_S = 0.4  # without another choice, before a look begins


class ScannerSection(Section):
    """Has the chosen scan looked at, in a worker process, whenever what that depends on has changed.

    A look that fails is told in the application's log alone: a run looks for itself, and tells why it cannot.
    """

    def __init__(self, ui, choices: ApplyChoices, logic: SuperResLogic) -> None:
        super().__init__(ui, choices)
        self.logic = logic
        self.job: LookJob | None = None
        self._wanted: tuple | None = None
        self._due: float | None = None

    @property
    def isBusy(self) -> bool:
        return self.job is not None or self._due is not None

    def refresh(self) -> None:
        wanted = self.choices.scannerKey()
        if wanted is None or self.choices.isLookedAt:
            self._stop()
        elif self.choices.isLocked:
            self._due = None  # a look that has begun goes on
        elif wanted != self._wanted or not self.isBusy:
            self._stop()
            self._wanted, self._due = wanted, time.monotonic() + QUIET_S
        scanner, text = self.choices.scanner, ""
        if scanner is not None:
            window = self.choices.window().window
            text = "\n".join(scanner.sentences(window.width))
        elif self.isBusy:
            text = _("Looking at the scan…")
        say(self.ui.scannerLabel, text)

    def poll(self) -> None:
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            self._start()
        if self.job is not None:
            self.job.poll()
            if self.job.isFinished:
                self._end()

    def unbind(self) -> None:
        self._stop()

    def close(self) -> None:
        self._stop()

    def _start(self) -> None:
        try:
            card, options = self.choices.usualCard(), self.choices.lookOptions()
            self.job = self.logic.startLook(self.choices.inputNode, card, options)
        except SuperResError as error:
            self._found(None, error)

    def _end(self) -> None:
        job, self.job = self.job, None
        job.close()
        self._found(None if job.error else job.scanner, job.error)

    def _found(self, scanner, error: SuperResError | None) -> None:
        if error:
            logError(error)
        self.choices.setScanner(self._wanted, scanner)
        self.changed.emit()

    def _stop(self) -> None:
        self._wanted = self._due = None
        if self.job is not None:
            job, self.job = self.job, None
            job.close()
