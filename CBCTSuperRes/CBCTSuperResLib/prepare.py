"""From raw grey values to what the network sees, only for the voxels that are needed now."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np

from .blanks.fill import BlankFiller
from .tiles import Box
from .window import Window


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
        self._margin = ceil(4 * smooth)
        self._type = arithmetic_type(voxels.dtype, window)

    def box(self, read: Box) -> Prepared:
        """Prepare the voxels of a box (k, j, i), slice by slice."""
        slices, *in_plane = read
        wide = tuple(self._widened(part, length) for part, length in zip(in_plane, self._voxels.shape[1:], strict=True))
        inner = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(in_plane, wide, strict=True))
        unit, excess = np.empty([part.stop - part.start for part in read], np.float32), None
        for place, k in enumerate(range(slices.start, slices.stop)):
            raw = self._filled(k, *wide)
            cut = raw - np.clip(raw, self._window.lo, self._window.hi)
            if cut.any():
                excess = np.zeros(unit.shape, self._type) if excess is None else excess
                excess[place] = cut[inner]
            unit[place] = self._smoothed(self._window.to_unit(raw))[inner]
        return Prepared(unit, excess)

    def _widened(self, part: slice, length: int) -> slice:
        """A range with the surroundings that smoothing looks at."""
        return slice(max(0, part.start - self._margin), min(length, part.stop + self._margin))

    def _filled(self, k: int, rows: slice, columns: slice) -> np.ndarray:
        """A crop of slice k; a slice without any data is like the nearest that has some."""
        k = self._nearest_measured(k)
        return self._filler.fill(self._voxels[k].astype(self._type), k, rows, columns)

    def _nearest_measured(self, k: int) -> int:
        last = len(self._voxels) - 1
        for distance in range(last + 1):
            for candidate in (k - distance, k + distance):
                if 0 <= candidate <= last and not self._filler.is_blank(candidate):
                    return candidate
        return k

    def _smoothed(self, unit: np.ndarray) -> np.ndarray:
        if not self._smooth:
            return unit
        return cv2.GaussianBlur(unit, (2 * self._margin + 1,) * 2, self._smooth, borderType=cv2.BORDER_REPLICATE)


def arithmetic_type(dtype: np.dtype, window: Window) -> np.dtype:
    """float32 where it holds every grey value of the type exactly enough, otherwise float64."""
    small = dtype.itemsize <= 2 or dtype == np.float32
    return np.dtype(np.float32 if small and window.width <= 2**20 else np.float64)
