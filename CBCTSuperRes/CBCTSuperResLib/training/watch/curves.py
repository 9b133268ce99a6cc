"""The curves of a run: a row in `curves.csv` for every `logger.print_freq`-th iteration, and `curves.png` beside it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from ..loop.observer import Observer, RunFacts, RunResult
from .plot import WHAT_TO_INSTALL, can_draw, draw_curves
from .table import SECONDS, CurvesTable, read_curves

log = logging.getLogger(__name__)

CSV, PNG = "curves.csv", "curves.png"
VALIDATION = "val_"
SHARE = 0.02


class CurvesCsv(Observer):
    """Writes `curves.csv` into the run's folder: step, seconds of training so far, losses, learning rate, validation.

    On resume, rows beyond the resumed step are removed, so that the file becomes that of an uninterrupted run, except
    for the seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def started(self, run: RunFacts) -> None:
        self._table = CurvesTable(run.folder / CSV, after=run.step)
        self._print_freq, self._niter = int(run.options["logger"]["print_freq"]), run.niter
        self._origin = self._clock() - self._table.seconds

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        if number % self._print_freq == 0 or number in (1, self._niter):
            self._table.put(number, {SECONDS: round(self._clock() - self._origin, 1), **logs})

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        values = {f"{VALIDATION}{name}": value for name, value in numbers(results).items() if name != "step"}
        self._table.put(number, {SECONDS: round(self._clock() - self._origin, 1), **values})


class CurvesPicture(Observer):
    """Draws `curves.png` from `curves.csv` after validations and checkpoints, and at the end; needs matplotlib.

    Drawing takes at most `SHARE` of the time; the picture at the end is always drawn. `CurvesCsv` must be told before
    it. Without matplotlib it says once what to install, by `notice`.
    """

    def __init__(
        self, notice: Callable[[str], None] = log.warning, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._notice, self._clock = notice, clock
        self._able, self._next = False, -math.inf

    def started(self, run: RunFacts) -> None:
        self._folder, self._title = run.folder, run.name
        self._able = can_draw()
        if not self._able:
            self._notice(WHAT_TO_INSTALL)

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        self._draw_if_time()

    def saved(self, number: int, path: Path) -> None:
        self._draw_if_time()

    def ended(self, result: RunResult) -> None:
        self._draw()

    def _draw_if_time(self) -> None:
        began = self._clock()
        if began >= self._next:
            self._draw()
            self._next = self._clock() + (self._clock() - began) / SHARE

    def _draw(self) -> None:
        rows = read_curves(self._folder / CSV) if self._able else []
        if rows:
            draw_curves(rows, self._folder / PNG, self._title)


def numbers(results: dict) -> dict[str, float]:
    """The measures among the results of a validation."""
    return {name: value for name, value in results.items() if isinstance(value, int | float)}
