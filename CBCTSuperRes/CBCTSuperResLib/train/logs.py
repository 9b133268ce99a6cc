"""What a run tells people: `train.log` in its folder, the terminal, and TensorBoard under the names of the public code.

What other programs read is in `run_events` and `curves`.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from ..core.progress import duration_text
from .curves import numbers
from .observer import Observer, RunFacts, RunResult
from .validation import MEASURES, TITLES

LOG = "train.log"
log = logging.getLogger(__name__)
FOLDER = "tb_logger"
WHAT_TO_INSTALL = "use_tb_logger needs the package tensorboard, which is not installed: pip install tensorboard"


def step_line(number: int, logs: Mapping[str, float]) -> str:
    """The line of an iteration, in the form of SPSR's and UNetSPSR's logs.

    >>> step_line(100, {"lr": 1e-4, "l_g_pix": 0.01234})
    '<iter:     100, lr:1.000e-04> l_g_pix: 1.2340e-02'
    """
    epoch = f"epoch:{int(logs['epoch']):3d}, " if "epoch" in logs else ""
    rate = f", lr:{logs['lr']:.3e}" if "lr" in logs else ""
    losses = " ".join(f"{name}: {value:.4e}" for name, value in logs.items() if name not in ("epoch", "lr"))
    return f"<{epoch}iter:{number:8,d}{rate}> {losses}".rstrip()


def validation_line(number: int, results: Mapping[str, float]) -> str:
    """The measures of a validation, each beside that of cubic interpolation."""
    found = [
        f"{TITLES[name][0]} {results[name]:.{TITLES[name][1]}f} (cubic {results[f'{name}_cubic']:.{TITLES[name][1]}f})"
        for name in MEASURES
        if name in results and f"{name}_cubic" in results
    ]
    images = f" of {results['images']} images" if "images" in results else ""
    return f"Validation{images} after iteration {number:,d}: {', '.join(found) or 'nothing to measure'}"


class TrainLog(Observer):
    """Appends to `train.log` in the run's folder, line by line, in the form of the published code."""

    def started(self, run: RunFacts) -> None:
        self._path = run.folder / LOG
        beginning = f"goes on after iteration {run.step:,d}" if run.step else "begins"
        where = f"{run.device}, {run.processes} process(es)" if run.processes > 1 else run.device
        self._write(f"{run.name} {beginning}, of {run.niter:,d}, on {where}")
        for note in run.notes:
            self.note(note)

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        self._write(step_line(number, logs))

    def note(self, text: str) -> None:
        self._write(text, "WARNING")

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        self._write(validation_line(number, results))

    def saved(self, number: int, path: Path) -> None:
        self._write(f"Checkpoint of iteration {number:,d}: {path.name}")

    def ended(self, result: RunResult) -> None:
        self._write("The training is finished." if result.finished else f"Stopped after iteration {result.step:,d}.")

    def _write(self, text: str, level: str = "INFO") -> None:
        now = datetime.now()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{now:%y-%m-%d %H:%M:%S}.{now.microsecond // 1000:03d} - {level}: {text}\n")


class Console(Observer):
    """The lines of the log and, in a terminal, a progress bar with the remaining time below them.

    Where the output goes to a file, each line of an iteration tells the remaining time.

    Parameters
    ----------
    stream : file, optional
        Standard error by default.
    """

    def __init__(self, stream=None) -> None:
        self._stream = stream or sys.stderr
        self._bar = None

    def started(self, run: RunFacts) -> None:
        from tqdm import tqdm

        layout = "{percentage:3.0f}% {bar} {n:,d} of {total:,d} | {elapsed} so far, {remaining} to go"
        self._bar = tqdm(
            total=run.niter,
            initial=run.step,
            bar_format=layout,
            mininterval=0.2,
            leave=False,
            file=self._stream,
            disable=not self._stream.isatty(),
        )
        self._say(f"{run.name} on {run.device}, in {run.folder}")
        for note in run.notes:
            self.note(note)

    def progress(self, number: int, seconds_per_step: float, remaining_s: float) -> None:
        self._bar.update(number - self._bar.n)

    def step(self, number: int, logs: dict[str, float], seconds_per_step: float, remaining_s: float) -> None:
        rest = f" ({duration_text(remaining_s)} to go)" if self._bar.disable and remaining_s > 0 else ""
        self._say(step_line(number, logs) + rest)

    def note(self, text: str) -> None:
        self._say(f"Note: {text}")

    def validated(self, number: int, results: dict, pictures: Path | None) -> None:
        self._say(validation_line(number, results))

    def ended(self, result: RunResult) -> None:
        self._bar.close()
        state = "finished" if result.finished else f"stopped after iteration {result.step:,d}; go on with --resume auto"
        print(f"{result.folder}: {state}", file=self._stream)

    def _say(self, text: str) -> None:
        self._bar.write(text, file=self._stream)


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
    folder : Path, optional
        `path.log_dir` of the options, in place of tb_logger in the root.
    """

    def __init__(
        self, root: str | Path, notice: Callable[[str], None] = log.warning, folder: str | Path | None = None
    ) -> None:
        self._folder, self._notice = Path(folder) if folder else Path(root) / FOLDER, notice
        self._writer = None

    def started(self, run: RunFacts) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            self._notice(WHAT_TO_INSTALL)
            return
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(self._folder / run.name, purge_step=run.step + 1 if run.step else None)

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
