"""A model against cubic interpolation, on images whose truth is known and which no training has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..interpolate import enlarge_slice
from ..volume import Volume
from .metrics import psnr, ssim
from .phantom import jaw_phantom
from .simulate import ALL_AXES, degrade, gaussian_blur

Enlarge = Callable[[np.ndarray], np.ndarray]
HELD_OUT = {"jaw phantom, 0.10 mm": (0.10, 901), "jaw phantom, 0.15 mm": (0.15, 902)}


def held_out_phantoms(shape: tuple[int, int, int] = (48, 256, 256)) -> Iterator[tuple[str, np.ndarray]]:
    """Phantoms with seeds that training does not draw: names and fine images (k, j, i) in [0, 1]."""
    for name, (spacing, seed) in HELD_OUT.items():
        yield name, np.clip(gaussian_blur(jaw_phantom(shape, spacing, seed), 0.45, ALL_AXES), 0, 1)


def in_robust_window(volume: Volume) -> np.ndarray:
    """Voxels of a scan between their 0.5th and 99.5th percentile as [0, 1], rows and columns cut to even numbers."""
    low, high = np.percentile(volume.voxels, (0.5, 99.5))
    _, rows, columns = (n - n % 2 for n in volume.voxels.shape)
    voxels = volume.voxels[:, :rows, :columns].astype(np.float32)
    return np.clip((voxels - np.float32(low)) / np.float32(high - low), 0, 1)


def against_cubic(name: str, truth: np.ndarray, enlarge: Enlarge, noise: float = 0.02, seed: int = 1) -> list[dict]:
    """Degrade `truth` in-plane as the grading protocol P2 does, enlarge it both ways, and measure.

    Parameters
    ----------
    name : str
        Of the data, for the result.
    truth : ndarray, shape (k, j, i)
        Fine image in [0, 1], even in j and i.
    enlarge : callable
        A coarse slice (rows, columns) in [0, 1] to its enlargement by two.
    noise : float
        Standard deviation, in units of the window.
    seed : int
        Of the noise.

    Returns
    -------
    list of dict
        "data", "metric", "cubic" and "model" of each measure; both images are clipped to [0, 1] first.
    """
    coarse = degrade(truth, noise=noise, seed=seed)
    size = truth.shape[1:]
    methods = {"cubic": lambda image: enlarge_slice(image, size), "model": enlarge}
    results = {key: np.clip(np.stack([method(s) for s in coarse]), 0, 1) for key, method in methods.items()}
    rows = []
    for metric, measure, digits in (("PSNR (dB)", psnr, 2), ("SSIM", ssim, 4)):
        values = {key: round(measure(image, truth), digits) for key, image in results.items()}
        rows.append({"data": f"{name}, blur 0.85 pixels, noise {100 * noise:g} %", "metric": metric, **values})
    return rows
