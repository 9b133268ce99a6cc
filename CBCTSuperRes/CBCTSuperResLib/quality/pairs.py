"""Slices of a scan together with what became of them: the sample on which a result is judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..pipeline.tiles import Axis

if TYPE_CHECKING:
    from ..blanks import BlankRegion

SLICES = 8
MARGIN = 3  # coarse pixels next to blank regions and borders that are not compared


@dataclass(frozen=True, eq=False)
class Pair:
    """One slice of a scan and what became of it.

    Attributes
    ----------
    coarse : ndarray of float32, shape (rows, columns)
        Slice of the scan.
    neighbour : ndarray of float32, shape (rows, columns)
        The slice beside it: where that one is flat, so is this one, and its noise is another.
    slab : ndarray, shape (slices, rows', columns')
        Slices of the result around the same place, of the same extent in the plane.
    weights : ndarray, shape (slices,)
        By which the slab's slices come together in the coarse slice; they sum to one.
    measured : ndarray of bool, shape (rows, columns)
        Where the scan has data, away from blank regions and borders.
    window : (lo, hi)
        Grey values between which the network works.
    """

    coarse: np.ndarray
    neighbour: np.ndarray
    slab: np.ndarray
    weights: np.ndarray
    measured: np.ndarray
    window: tuple[float, float]

    @property
    def usable(self) -> np.ndarray:
        """Where the scan has data within the window."""
        low, high = self.window
        return self.measured & (self.coarse >= low) & (self.coarse <= high)

    @property
    def fine(self) -> np.ndarray:
        """The slice of the result that lies nearest, float32."""
        return np.asarray(self.slab[int(np.argmax(self.weights))], np.float32)

    @property
    def scale(self) -> tuple[float, float]:
        """Fine pixels in a coarse one, along rows and columns."""
        return tuple(fine / coarse for fine, coarse in zip(self.slab.shape[1:], self.coarse.shape, strict=True))


def pairs_of(
    voxels: np.ndarray,
    result: np.ndarray,
    axes: Sequence[Axis],
    blanks: BlankRegion,
    window: tuple[float, float],
    blur: float,
) -> Iterator[tuple[int, Pair]]:
    """Up to `SLICES` slices k of a scan, each with what became of it.

    Parameters
    ----------
    voxels, result : ndarray, shape (k, j, i)
        Only the slices that are looked at are read.
    axes : three Axis
        From scan to result; what lies outside their region is left out.
    window : (lo, hi)
        Grey values between which the network works.
    blur : float
        Assumed blur across the slices, in those of the result.
    """
    box = tuple(slice(axis.start, axis.stop) for axis in axes[1:])
    inside = np.zeros([part.stop - part.start for part in box], bool)
    inside[MARGIN:-MARGIN, MARGIN:-MARGIN] = True
    for k in _spread([k for k in range(axes[0].start, axes[0].stop) if not _is_empty(blanks, k)]):
        part, weights = slab_weights(k - axes[0].start, axes[0].scale, axes[0].outputs, blur)
        beside = k + 1 if k + 1 < len(voxels) and not _is_empty(blanks, k + 1) else max(0, k - 1)
        coarse, neighbour = (voxels[n][box].astype(np.float32) for n in (k, beside))
        blank = blanks.mask(k)
        measured = np.ones(voxels.shape[1:], np.uint8) if blank is None else (~blank).astype(np.uint8)
        measured = cv2.erode(measured, np.ones((2 * MARGIN + 1,) * 2, np.uint8))[box] > 0
        yield k, Pair(coarse, neighbour, result[part], weights, inside & measured, window)


def _spread(slices: Sequence[int]) -> list[int]:
    """Up to `SLICES` of them, evenly, none at the very ends if there are enough."""
    if len(slices) <= SLICES:
        return list(slices)
    places = (np.arange(SLICES) + 0.5) * len(slices) / SLICES
    return [slices[int(place)] for place in places]


def _is_empty(blanks: BlankRegion, k: int) -> bool:
    mask = blanks.mask(k)
    return mask is not None and bool(mask.all())


def slab_weights(place: int, factor: float, slices: int, sigma: float) -> tuple[slice, np.ndarray]:
    """Which slices of a result make up slice `place` of the scan, and their weights.

    Parameters
    ----------
    factor : float
        Fine slices in a coarse one; 1 where only the plane was enlarged, and then there is no blur across it.
    slices : int
        Number of the result's slices; beyond the ends they are mirrored.
    sigma : float
        Blur across the slices, in fine ones.
    """
    if factor == 1:
        return slice(place, place + 1), np.ones(1)
    kernel = gaussian(sigma)
    radius = len(kernel) // 2
    first, last = place * factor, (place + 1) * factor
    numbers = np.arange(int(np.floor(first)), int(np.ceil(last)))
    shares = np.minimum(numbers + 1, last) - np.maximum(numbers, first)
    start = numbers[0] - radius
    weights = np.convolve(shares / shares.sum(), kernel)
    mirrored = start + np.arange(len(weights))
    mirrored = np.where(mirrored < 0, -1 - mirrored, mirrored)
    mirrored = np.clip(np.where(mirrored >= slices, 2 * slices - 1 - mirrored, mirrored), 0, slices - 1)
    box = slice(int(mirrored.min()), int(mirrored.max()) + 1)
    return box, np.bincount(mirrored - box.start, weights, box.stop - box.start)


def gaussian(sigma: float) -> np.ndarray:
    radius = max(1, int(4 * sigma + 0.5))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    return weights / weights.sum()
