"""Validation: whole images through the network of the moment, measured beside cubic interpolation."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ...evaluation.pictures import comparison, distinct, enlarge_nearest, file_name, stretched, write_png
from ...models.safetensors_file import replacing
from .enlarge import Enlarger, undisturbed
from .measures import MEASURES, border_of, enlarge_cubic, means, measure

if TYPE_CHECKING:
    from ..data import ImagePair
    from ..options import TrainingOptions

BRANCH = "branch"


class Validator:
    """Measures a network on pairs of whole images, again and again while it learns.

    >>> validator = Validator(options, open_images(options.dataset("val"), options))
    >>> results = validator.run(network, step=5000, folder=run / "val_images")
    >>> results["psnr"], results["psnr_cubic"]

    Parameters
    ----------
    options : TrainingOptions
        Its `scale` and `logger.val_images`, the number of images that pictures are made of.
    pairs : sequence of ImagePair
        Read one at a time; those without HR are not measured.
    """

    def __init__(self, options: TrainingOptions, pairs: Sequence[ImagePair]) -> None:
        self._scale = int(options.scale)
        self._pictured = int(options.logger.val_images)
        self._pairs = pairs
        self._cubic: dict[int, dict[str, float]] = {}

    def run(
        self, network: nn.Module, step: int, folder: Path | None = None, cancelled: Callable[[], bool] | None = None
    ) -> dict[str, float]:
        """Measure the network; neither it, nor its mode, nor torch's random state changes.

        Parameters
        ----------
        network : torch.nn.Module
            What would be exported now: the running mean of the weights where there is one. On any device.
        step : int
        folder : Path, optional
            Gets `<step>.csv`, one row an image, and for the first images `<name>/<name>_<step>.png`.
        cancelled : callable, optional
            Asked between layers; `Cancelled` is raised as soon as it answers True.

        Returns
        -------
        dict
            Means over the images of "psnr" (dB), "ssim" and "gradient_error", each also with "_cubic" for cubic
            interpolation, and "images", their number; empty if there is nothing to measure.
        """
        device = str(next(network.parameters()).device)
        rows: dict[str, dict[str, float]] = {}
        with undisturbed():
            enlarge = Enlarger(network, device, cancelled=cancelled)
            for number, pair in enumerate(self._pairs):
                if pair.HR is None:
                    continue
                sr = enlarge(pair.input)
                row = self._measured(number, pair, sr)
                rows[title := distinct(pair.name, rows)] = row
                if folder and len(rows) <= self._pictured:
                    name = file_name(title)
                    write_png(self._picture(pair, sr, row, enlarge), folder / name / f"{name}_{step}.png")
        if folder and rows:
            write_rows(rows, folder / f"{step}.csv")
        return {**means([*rows.values()]), "images": len(rows)} if rows else {}

    def _measured(self, number: int, pair: ImagePair, sr: np.ndarray) -> dict[str, float]:
        """The measures of one image; those of cubic interpolation stay the same and are kept."""
        border = border_of(pair.HR, self._scale)
        found = measure(sr, pair.HR, border)
        if number not in self._cubic:
            self._cubic[number] = measure(enlarge_cubic(pair.LR, self._scale), pair.HR, border)
        values = {"": found, "_cubic": self._cubic[number]}
        return {f"{name}{method}": values[method][name] for name in MEASURES for method in values}

    def _picture(self, pair: ImagePair, sr: np.ndarray, row: Mapping[str, float], enlarge: Enlarger) -> np.ndarray:
        branch = enlarge(pair.input, BRANCH) if BRANCH in enlarge.spec.outputs else None
        return compared(pair.LR, sr, pair.HR, self._scale, row, branch)


def compared(
    lr: np.ndarray,
    sr: np.ndarray,
    hr: np.ndarray | None,
    scale: int,
    row: Mapping[str, float],
    branch: np.ndarray | None = None,
) -> np.ndarray:
    """The picture of one image: LR, cubic, SR and, where there are, HR and branch; uint8."""
    panels = {
        "LR": enlarge_nearest(lr, scale),
        _caption("cubic", row.get("psnr_cubic")): enlarge_cubic(lr, scale),
        _caption("SR", row.get("psnr")): sr,
    }
    if hr is not None:
        panels["HR"] = hr
    if branch is not None:
        panels["branch (edges)"] = stretched(branch)
    return comparison(panels)


def write_rows(rows: Mapping[str, Mapping[str, float]], path: Path) -> Path:
    """Measures by image name as CSV, with their means in the last row; whole or not at all."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", *next(iter(rows.values()))])
    for name, row in {**rows, "mean": means([*rows.values()])}.items():
        table.writerow([name, *(f"{value:.6f}" for value in row.values())])
    with replacing(path) as scratch:
        scratch.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def _caption(method: str, psnr: float | None) -> str:
    return method if psnr is None else f"{method} {psnr:.2f} dB"
