"""A run told as plain events, for a process that watches from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..loop.observer import Observer, RunFacts, RunResult
from .curves import numbers

INTERVAL_S = 0.2


class Events(Observer):
    """Calls `send(event, **values)` with values that JSON can hold.

    - "run": name, folder, step, niter, device, notes
    - "progress": fraction, message, remaining_s; at most five times a second
    - "scalars": step, niter, values (losses and learning rate by name)
    - "validated": step, values (measures by name), pictures (folder or None)
    - "saved": step, path
    - "warning": message
    - "ended": step, finished

    Parameters
    ----------
    send : callable
    clock : callable, optional
        Seconds.
    """

    def __init__(self, send: Callable[..., None], clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._told = -INTERVAL_S
        self._niter = 1

    def started(self, run: RunFacts) -> None:
        self._niter = run.niter
        self._send(
            "run",
            name=run.name,
            folder=str(run.folder),
            step=run.step,
            niter=run.niter,
            device=run.device,
            notes=list(run.notes),
        )

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        now = self._clock()
        if now - self._told < INTERVAL_S and number < self._niter:
            return
        self._told = now
        message = f"Iteration {number:,d} of {self._niter:,d}"
        self._send("progress", fraction=number / self._niter, message=message, remaining_s=remaining_s)

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        self._send("scalars", step=number, niter=self._niter, values=dict(logs))

    def note(self, text: str) -> None:
        self._send("warning", message=text)

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        values = {name: value for name, value in numbers(results).items() if name != "step"}
        self._send("validated", step=number, values=values, pictures=str(pictures) if pictures else None)

    def saved(self, number: int, path: Path) -> None:
        self._send("saved", step=number, path=str(path))

    def ended(self, result: RunResult) -> None:
        self._send("ended", step=result.step, finished=result.finished)
