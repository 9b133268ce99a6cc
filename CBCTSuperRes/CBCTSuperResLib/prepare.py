"""From raw grey values to what the network sees, only for the voxels that are needed now."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np

from .fill import BlankFiller
from .intensity import Window
from .tiles import Box


@dataclass(frozen=True)
class Prepared:
    """A box of the volume in units of the window.

    Attributes
    ----------
    unit : ndarray of float32, shape (k, j, i)
        In [0, 1], blanks filled, smoothed: the network's input.
    excess : ndarray or None
        What the window cut off, in grey values: raw - clip(raw). None where it cut nothing.
    """

    unit: np.ndarray
    excess: np.ndarray | None


class Preparation:
    """Normalises, fills and smooths boxes of one volume; the volume stays as it is.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)
    window : Window
    filler : BlankFiller
    smooth : float
        Standard deviation of an in-plane Gaussian, in pixels; 0 for none.
    """

    def __init__(self, voxels: np.ndarray, window: Window, filler: BlankFiller, smooth: float) -> None:
        self._voxels = voxels
        self._window = window
        self._filler = filler
        self._smooth = smooth
        self._type = arithmetic_type(voxels.dtype, window)

    def box(self, read: Box) -> Prepared:
        """Prepare the voxels of a box (k, j, i), slice by slice."""
        k_range, rows, columns = read
        shape = tuple(part.stop - part.start for part in read)
        unit, excess, exceeds = np.empty(shape, np.float32), None, False
        for place, k in enumerate(range(k_range.start, k_range.stop)):
            raw = self._filler.fill(self._voxels[k].astype(self._type), k, rows, columns)
            cut = raw - np.clip(raw, self._window.lo, self._window.hi)
            if cut.any():
                excess = np.zeros(shape, self._type) if excess is None else excess
                excess[place] = cut
                exceeds = True
            self._window.to_unit(raw, out=unit[place])
            if self._smooth:
                unit[place] = self._smoothed(k, rows, columns)
        return Prepared(unit, excess if exceeds else None)

    def _smoothed(self, k: int, rows: slice, columns: slice) -> np.ndarray:
        """The Gaussian of a crop, computed with enough of its surroundings."""
        margin = ceil(4 * self._smooth)
        _, height, width = self._voxels.shape
        top, left = max(0, rows.start - margin), max(0, columns.start - margin)
        wide = slice(top, min(height, rows.stop + margin)), slice(left, min(width, columns.stop + margin))
        unit = self._window.to_unit(self._filler.fill(self._voxels[k].astype(self._type), k, *wide))
        blurred = cv2.GaussianBlur(unit, (2 * margin + 1,) * 2, self._smooth, borderType=cv2.BORDER_REPLICATE)
        return blurred[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def arithmetic_type(dtype: np.dtype, window: Window) -> np.dtype:
    """float32 where it holds every grey value of the type exactly enough, otherwise float64."""
    small = dtype.itemsize <= 2 or dtype == np.float32
    return np.dtype(np.float32 if small and window.width <= 2**20 else np.float64)
