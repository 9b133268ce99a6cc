"""Who watches every run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..loop.observer import Observer
from .board import TensorBoard
from .curves import CurvesCsv, CurvesPicture
from .log import TrainLog

if TYPE_CHECKING:
    from ..options import TrainingOptions


def standard_observers(options: TrainingOptions) -> list[Observer]:
    """The log, the curves as CSV and PNG and, with `use_tb_logger`, TensorBoard. For the terminal add `log.Console`."""
    observers: list[Observer] = [TrainLog(), CurvesCsv(), CurvesPicture()]
    if options.use_tb_logger:
        observers.append(TensorBoard(Path(options.path.root)))
    return observers
