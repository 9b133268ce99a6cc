"""Cubic interpolation between cell centres: what a network is compared with, and what carries the rest of the range.

The kernel is Keys' cubic convolution with a = -0.75, edges repeated, the same as OpenCV's INTER_CUBIC and torch's
bicubic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHARPNESS = -0.75
REACH = 2


def cubic(block: np.ndarray, positions: Sequence[np.ndarray | None]) -> np.ndarray:
    """Sample a block at the grid that is spanned by `positions`.

    Parameters
    ----------
    block : ndarray of float32 or float64
    positions : sequence of ndarray or None
        One for each axis, in voxels of the block (0 is the centre of its first voxel); None keeps the axis.
    """
    for axis, places in enumerate(positions):
        if places is None:
            continue
        weights = cubic_weights(block.shape[axis], places).astype(block.dtype)
        block = np.moveaxis(np.tensordot(weights, block, axes=(1, axis)), 0, axis)
    return block


def cubic_weights(length: int, positions: np.ndarray) -> np.ndarray:
    """Matrix (len(positions), length) that interpolates values at 0, 1, ..., length - 1; its rows sum to one."""
    first = np.floor(positions).astype(np.int64)
    weights = np.zeros((len(positions), length))
    rows = np.arange(len(positions))
    for tap in range(1 - REACH, REACH + 1):
        distance = np.abs(positions - (first + tap))
        np.add.at(weights, (rows, np.clip(first + tap, 0, length - 1)), keys_kernel(distance))
    return weights


def keys_kernel(t: np.ndarray, a: float = SHARPNESS) -> np.ndarray:
    """Weights at distances t >= 0 of cubic convolution: R. G. Keys, IEEE Trans. ASSP 29 (1981) 1153-1160, equation 4.

    With a = -0.75 as OpenCV and PyTorch have it, with a = -0.5 as MATLAB.
    """
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def enlarge(block: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Cubic enlargement of a whole block to a shape that covers the same extent; equal axes are kept."""
    positions = [
        None if n == m else (np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip(block.shape, shape, strict=True)
    ]
    return cubic(block, positions)


def enlarge_slice(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cubic enlargement of a whole image (rows, columns) to `size`; the fast way to the same result as `cubic`."""
    import cv2

    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
