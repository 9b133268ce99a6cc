"""How good an enlarged image is, beside cubic interpolation of the same coarse image; and whole images through a
network that is being trained, with the engine that Apply uses.
"""

from __future__ import annotations

import copy
import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..apply.engine import Engine
from ..apply.tiles import Axis, plan_tiles
from ..core.atomic import replacing
from ..core.devices import free_memory
from ..core.errors import InputError
from ..core.interpolate import enlarge_slice
from ..io.formats import file_name
from ..io.pictures import comparison, distinct, enlarge_nearest, stretched, write_picture
from ..measure.fidelity import gradient_error, psnr, ssim, ssim_map
from ..networks.spec import NetworkSpec

if TYPE_CHECKING:
    from .data.source import ImagePair
    from .options import TrainingOptions


MEASURES = ("psnr", "ssim", "gradient_error")
TITLES = {"psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4), "gradient_error": ("gradient error", 5)}
SMALLEST = 3  # pixels; a gradient's neighbourhood
COMPLETE_NEIGHBOURHOOD = 11  # pixels; SSIM's window
WIDE_HALO = 64  # the widest that calibration tries: for images that do not fit into memory whole
MEMORY_SHARE = 0.5


def measure(image: np.ndarray, truth: np.ndarray, border: int) -> dict[str, float]:
    """PSNR (dB), SSIM and gradient error of an image, on float data with a range of 1.

    Parameters
    ----------
    image, truth : ndarray, shape (rows, columns) or (channels, rows, columns)
        In units of the window; clipped to [0, 1] first, as the published code does.
    border : int
        Pixels that are left out on every side, see `border_of`.

    Returns
    -------
    dict
        "psnr", "ssim", "gradient_error"; SSIM's own border of five pixels is left out too, except of images so small
        that nothing would remain.

    Raises
    ------
    InputError
        If the sizes differ.
    """
    if image.shape != truth.shape:
        raise InputError(
            f"The enlarged image has {_size(image)} pixels and the true one {_size(truth)}.",
            "HR must be exactly `scale` times as large as LR.",
        )
    inner = (..., slice(border, -border or None), slice(border, -border or None))
    image, truth = (np.clip(np.asarray(a, np.float64), 0, 1)[inner] for a in (image, truth))
    small = min(image.shape[-2:]) < COMPLETE_NEIGHBOURHOOD
    return {
        "psnr": psnr(image, truth),
        "ssim": float(ssim_map(image, truth).mean()) if small else ssim(image, truth),
        "gradient_error": gradient_error(image, truth),
    }


def border_of(image: np.ndarray, scale: int) -> int:
    """Pixels that do not count on every side: the scale, as in the published code; fewer where nothing would remain."""
    return max(0, min(scale, (min(image.shape[-2:]) - SMALLEST) // 2))


def enlarge_cubic(image: np.ndarray, scale: int) -> np.ndarray:
    """Cubic enlargement of (rows, columns), or of each channel of (channels, rows, columns)."""
    if image.ndim == 3:
        return np.stack([enlarge_cubic(channel, scale) for channel in image])
    rows, columns = image.shape
    return enlarge_slice(np.ascontiguousarray(image), (rows * scale, columns * scale))


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each measure over the images; an image equal to its truth has no finite PSNR and counts as 100 dB."""
    if not rows:
        return {}
    return {name: float(np.mean([min(row[name], 100.0) for row in rows])) for name in rows[0]}


def as_results(data: str, values: Mapping[str, float]) -> list[dict]:
    """Means as a model card holds them: "data", "metric", "cubic" and "model" of each measure."""
    return [
        {
            "data": data,
            "metric": TITLES[name][0],
            "cubic": round(values[f"{name}_cubic"], TITLES[name][1]),
            "model": round(values[name], TITLES[name][1]),
        }
        for name in MEASURES
        if f"{name}_cubic" in values
    ]


def _size(image: np.ndarray) -> str:
    return f"{image.shape[-1]} x {image.shape[-2]}"


class Enlarger:
    """Enlarges images with a copy of a network, in float32; the network itself stays as it is.

    >>> enlarge = Enlarger(network, device="cpu")
    >>> enlarge(image).shape  # image: float32 (rows, columns) in [0, 1]
    (2 * rows, 2 * columns)

    Parameters
    ----------
    network : torch.nn.Module
        In training or not, on any device.
    device : str
    context : int, "unknown" or "global"
        Its calibrated context. Where it is unknown, an image is computed whole; only if it would not fit into memory,
        tiles with `WIDE_HALO` are used.
    cancelled : callable, optional
        See `Engine`.
    """

    def __init__(
        self,
        network: nn.Module,
        device: str = "cpu",
        context: int | str = "unknown",
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.spec: NetworkSpec = replace(network.describe(), context=context)
        self._network, self._device, self._cancelled = network, device, cancelled
        self._engines: dict[int | str, Engine] = {}

    def __call__(
        self,
        image: np.ndarray,
        output: str = "sr",
        *,
        scale: Sequence[float] | None = None,
        blur: Sequence[float] | None = None,
        noise: float = 0.0,
    ) -> np.ndarray:
        """Enlarge an image or block in [0, 1]; `output` names one of the network's outputs of `decode`.

        Parameters
        ----------
        image : ndarray of float32, shape (rows, columns), (channels, rows, columns) or (k, j, i)
            For a network that sees neighbouring slices: (2 spec.slices + 1, rows, columns).
        scale : sequence of float, optional
            Factor along each axis, for a network of any factor.
        blur : sequence of float, optional
            Standard deviation of the blur along each axis in voxels of the image, for a network that wants to be told.
        noise : float
            That of the noise, in units of the window, for such a network.

        Returns
        -------
        ndarray of float32, shape of the enlarged image, (channels, rows, columns) for colours; not clipped
        """
        spec = self.spec
        if image.ndim == 3 and spec.dimensions == 2 and not spec.slices:  # colours; the engine works on one
            with torch.inference_mode():
                network = copy.deepcopy(self._network).eval().to(self._device)
                batch = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None].to(self._device)
                return network(batch)[output][0].float().cpu().numpy()
        sizes, blur = image.shape[-spec.dimensions :], blur or [0.0] * spec.dimensions
        axes = [
            Axis(length, 0, length, round(factor * length), blur=sigma)
            for length, factor, sigma in zip(sizes, scale or spec.scale, blur, strict=True)
        ]
        (whole,) = plan_tiles(axes, None, 0)
        context = spec.context
        fits = image.size * spec.encode_bytes <= MEMORY_SHARE * free_memory(torch.device(self._device))
        if context == "unknown" and not fits:
            context = WIDE_HALO
        if context not in self._engines:
            own = replace(spec, context=context)
            self._engines[context] = Engine(self._network, own, self._device, "fp32", cancelled=self._cancelled)
        engine = self._engines[context]
        engine.noise = noise
        return engine.run_outputs(np.ascontiguousarray(image, np.float32), axes, whole, [output])[0]


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is built inside, on the CPU, draws from torch's generator without moving it on."""
    with torch.random.fork_rng(devices=[]):
        yield


class Validator:
    """Measures a network on pairs of whole images, again and again while it learns.

    >>> validator = Validator(options, open_images(options.dataset("val"), options))
    >>> results = validator.run({"G": network}, step=5000, folder=run / "val_images")
    >>> results["psnr"], results["psnr_cubic"]

    Parameters
    ----------
    options : TrainingOptions
        Its `scale` and `logger.val_images`, the number of images that pictures are made of.
    pairs : sequence of ImagePair
        Read one at a time; those without HR are not measured.
    warnings : sequence of str
        Sentences for the log.
    close : callable, optional
        Frees the pairs.
    """

    def __init__(
        self,
        options: TrainingOptions,
        pairs: Sequence[ImagePair],
        warnings: Sequence[str] = (),
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._scale = int(options.scale)
        self._pictured = int(options.logger.val_images)
        self._pairs = pairs
        self.warnings, self.close = list(warnings), close
        self._cubic: dict[int, dict[str, float]] = {}

    def run(
        self,
        networks: Mapping[str, nn.Module],
        step: int,
        folder: Path | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, float]:
        """Measure the generator; neither it, nor its mode, nor torch's random state changes.

        Parameters
        ----------
        networks : mapping of str to Module
            "G" is what would be exported now: the running mean of the weights where there is one. On any device.
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
        network = networks["G"]
        device = str(next(network.parameters()).device)
        rows: dict[str, dict[str, float]] = {}
        with undisturbed():
            enlarge = Enlarger(network, device, cancelled=cancelled)
            for number, pair in enumerate(self._pairs):
                if pair.HR is None:
                    continue
                sr = enlarge(pair.input, blur=pair.blur, noise=pair.noise)
                row = self._measured(number, pair, sr)
                rows[title := distinct(pair.name, rows)] = row
                if folder and len(rows) <= self._pictured:
                    name = file_name(title)
                    write_picture(self._picture(pair, sr, row, enlarge), folder / name / f"{name}_{step}.png")
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
        has_branch = "branch" in enlarge.spec.outputs
        branch = enlarge(pair.input, "branch", blur=pair.blur, noise=pair.noise) if has_branch else None
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
