"""MATLAB's antialiased bicubic `imresize`: how low-resolution images are simulated when no scan of them exists.

Keys' kernel (1981) with a = -0.5, widened by 1/scale when an image shrinks; edges are mirrored with the edge pixel
repeated. No rounding, no clipping: a step from 0 to 1 comes out between -0.0117 and 1.0117.
"""

from __future__ import annotations

import numpy as np


def imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize the last two axes, rows first, then columns.

    The product with the resizing matrix of an axis is done diagonal by diagonal: its rows have few entries, and every
    pixel is the same sum in the same order however large the image is, so that a part of an image, resized with the
    margin of `reach`, gives the pixels of the whole to the last bit.

    Parameters
    ----------
    image : ndarray, shape (..., H, W)
        Real numbers; any number of channels before.
    scale : float
        For instance 1/2, 1/4, 2.

    Returns
    -------
    ndarray, shape (..., ceil(H * scale), ceil(W * scale)), of the image's type
    """
    return _rows_resized(_rows_resized(image, scale).swapaxes(-1, -2), scale).swapaxes(-1, -2)


def reach(factor: int) -> int:
    """Fine pixels beyond its own that a pixel of an image shrunk by `factor` depends on, a multiple of `factor`."""
    return 2 * factor


def _rows_resized(image: np.ndarray, scale: float) -> np.ndarray:
    rows, weights = _taps(image.shape[-2], scale)
    weights = weights.astype(image.dtype)[..., None]
    resized = weights[0] * image.take(rows[0], axis=-2)
    for places, weight in zip(rows[1:], weights[1:], strict=True):
        resized += weight * image.take(places, axis=-2)
    return resized


def _taps(length: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """For every tap t and output n: which input, and with which weight; both (taps, outputs)."""
    step = 1 / scale
    step = round(step) if abs(step - round(step)) < 1e-9 else step
    narrow = min(scale, 1.0)
    width = 4 / narrow
    count = int(np.ceil(length * scale - 1e-9))
    centre = np.arange(1, count + 1) * step + 0.5 * (1 - step)
    left = np.floor(centre - width / 2).astype(np.int64)
    places = left + np.arange(int(np.ceil(width)) + 2)[:, None]
    weights = _kernel(np.abs(centre - places) * narrow)
    weights /= weights.sum(0)
    used = np.any(weights != 0, axis=1)
    return mirrored(places[used] - 1, length), weights[used]


def _kernel(t: np.ndarray) -> np.ndarray:
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, near, np.where(t <= 2, far, 0.0))


def mirrored(places: np.ndarray, length: int) -> np.ndarray:
    """Indices inside 0 .. length - 1 of places that may lie outside: mirrored, the edge pixel repeated."""
    places = places % (2 * length)
    return np.where(places < length, places, 2 * length - 1 - places)
