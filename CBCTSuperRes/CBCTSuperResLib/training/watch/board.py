"""TensorBoard: the numbers under the names of the published code, and the pictures of each validation."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..loop.observer import Observer, RunFacts, RunResult
from .curves import numbers

log = logging.getLogger(__name__)

FOLDER = "tb_logger"
WHAT_TO_INSTALL = "use_tb_logger needs the package tensorboard, which is not installed: pip install tensorboard"


class TensorBoard(Observer):
    """Writes what `tensorboard --logdir ROOT/tb_logger/NAME` shows; needs the package tensorboard.

    Losses keep their names (l_g_pix, l_d_real, ...); measures of the validation are "val/psnr", "val/psnr_cubic" and so
    on; pictures are "val/<image>". On resume, what was written of later iterations is hidden (purge_step).

    Parameters
    ----------
    root : Path
        `path.root` of the options.
    notice : callable (text), optional
        Told once what to install if the package is missing.
    """

    def __init__(self, root: str | Path, notice: Callable[[str], None] = log.warning) -> None:
        self._root, self._notice = Path(root), notice
        self._writer = None

    def started(self, run: RunFacts) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            self._notice(WHAT_TO_INSTALL)
            return
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self._root / FOLDER / run.name, purge_step=run.step + 1 if run.step else None)

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        if self._writer:
            for name, value in logs.items():
                self._writer.add_scalar(name, value, number)

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        if not self._writer:
            return
        for name, value in numbers(results).items():
            if name not in ("step", "images"):
                self._writer.add_scalar(f"val/{name}", value, number)
        for path in sorted(pictures.glob(f"*/*_{number}.png")) if pictures else ():
            self._writer.add_image(f"val/{path.parent.name}", _picture(path), number, dataformats="HW")
        self._writer.flush()

    def saved(self, number: int, path: Path) -> None:
        if self._writer:  # what a checkpoint goes on from must not be lost with a process that is killed
            self._writer.flush()

    def ended(self, result: RunResult) -> None:
        if self._writer:
            self._writer.close()


def _picture(path: Path) -> np.ndarray:
    import cv2

    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
