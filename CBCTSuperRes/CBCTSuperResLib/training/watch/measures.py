"""How good an enlarged image is, beside cubic interpolation of the same coarse image. numpy and OpenCV, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InputError
from ...evaluation.metrics import gradient_error, psnr, ssim, ssim_map
from ...interpolate import enlarge_slice

MEASURES = ("psnr", "ssim", "gradient_error")
TITLES = {"psnr": ("PSNR (dB)", 2), "ssim": ("SSIM", 4), "gradient_error": ("gradient error", 5)}
SMALLEST = 3  # pixels; a gradient's neighbourhood
COMPLETE_NEIGHBOURHOOD = 11  # pixels; SSIM's window


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
        if name in values
    ]


def _size(image: np.ndarray) -> str:
    return f"{image.shape[-1]} x {image.shape[-2]}"
