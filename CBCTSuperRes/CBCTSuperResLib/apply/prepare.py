"""From raw grey values to what the network sees, only for the voxels that are needed now."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np

from ..core.volume import as_acquired
from ..scan.blank_filling import BlankFiller
from ..scan.window import Window
from .tiles import Box, neighbour, shift


@dataclass(frozen=True)
class Prepared:
    """A box of the volume in units of the window.

    Attributes
    ----------
    unit : ndarray of float32, shape (k, j, i)
        In [0, 1], blanks filled, smoothed: the network's input.
    excess : ndarray or None
        What the window cut off, in grey values: raw - clip(raw). None where it cut nothing.
    slab : ndarray of float32, shape (k + 2 n, j, i)
        `unit` between the n neighbouring slices on either side that were asked for; beyond the volume, and where
        nothing was measured, those of the other side.
    numbers : list of int
        Which slices of the volume those are.
    """

    unit: np.ndarray
    excess: np.ndarray | None
    slab: np.ndarray
    numbers: list[int]


class Preparation:
    """Normalises, fills and smooths boxes of one volume; the volume stays as it is.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)
    window : Window
    filler : BlankFiller
        Of these voxels.
    smooth : float
        Standard deviation of an in-plane Gaussian, in pixels; 0 for none.
    neighbours : int
        Slices on either side of a box that are prepared along with it.
    are_near : bool
        Whether neighbouring slices are near enough to show the same anatomy; otherwise a slice stands for its own.
    across : int
        Which axis, 0 to 2, of the boxes is k of these voxels and the other way round; without neighbours.
    """

    def __init__(
        self,
        voxels: np.ndarray,
        window: Window,
        filler: BlankFiller,
        smooth: float,
        neighbours: int = 0,
        are_near: bool = True,
        across: int = 0,
    ) -> None:
        self._voxels = voxels
        self._window = window
        self._filler = filler
        self._smooth = smooth
        self._margin = ceil(4 * smooth)
        self._type = arithmetic_type(voxels.dtype, window)
        self._neighbours, self._are_near, self._across = neighbours, are_near, across
        self._last: tuple[Box, Prepared] | None = None
        self._latest: OrderedDict[tuple, tuple[np.ndarray, np.ndarray | None]] = OrderedDict()

    def box(self, read: Box) -> Prepared:
        """Prepare the voxels of a box (k, j, i), slice by slice; the same box once more is the same object."""
        if self._last is None or self._last[0] != read:
            self._last = None  # its memory is given back first
            self._last = read, self._box(read)
        return self._last[1]

    def _box(self, read: Box) -> Prepared:
        slices, *in_plane = as_acquired(read, self._across)
        more, first, last = self._neighbours, slices.start, slices.stop - 1
        wanted = range(first - more, last + 1 + more)
        around = [neighbour(k, min(max(k, first), last), self._is_a_neighbour) for k in wanted]
        slab, excess = np.empty((len(around), *(part.stop - part.start for part in in_plane)), np.float32), None
        unit = slab[more : len(slab) - more]
        for place, k in enumerate(around, start=-more):
            slab[place + more], cut = self._slice(k, *in_plane)
            if cut is not None and 0 <= place < len(unit):
                excess = np.zeros(unit.shape, self._type) if excess is None else excess
                excess[place] = cut
        if not self._across:
            return Prepared(unit, excess, slab, around)
        stored = np.ascontiguousarray(unit.swapaxes(0, self._across))
        excess = None if excess is None else np.ascontiguousarray(excess.swapaxes(0, self._across))
        return Prepared(stored, excess, stored, list(range(read[0].start, read[0].stop)))

    def _slice(self, k: int, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """A part of slice k and its excess, if any; kept while the next slices have it as a neighbour."""
        if not self._neighbours:
            return self._prepared(k, rows, columns)
        key = (k, rows.start, rows.stop, columns.start, columns.stop)
        if key not in self._latest:
            self._latest[key] = self._prepared(k, rows, columns)
            while len(self._latest) > 2 * self._neighbours + 1:
                self._latest.popitem(last=False)
        return self._latest[key]

    def _prepared(self, k: int, *in_plane: slice) -> tuple[np.ndarray, np.ndarray | None]:
        """Grey values, blanks filled, to units of the window, smoothed; and what the window cuts off."""
        sizes = self._voxels.shape[1:]
        wide = tuple(  # with the surroundings that smoothing looks at
            slice(max(0, part.start - self._margin), min(length, part.stop + self._margin))
            for part, length in zip(in_plane, sizes, strict=True)
        )
        k = self._nearest_measured(k)
        raw = self._filler.fill(self._voxels[k].astype(self._type), k, *wide)
        cut = raw - np.clip(raw, self._window.lo, self._window.hi)
        unit = self._window.to_unit(raw)
        if self._smooth:
            kernel = (2 * self._margin + 1,) * 2
            unit = cv2.GaussianBlur(unit, kernel, self._smooth, borderType=cv2.BORDER_REPLICATE)
        inner = shift(in_plane, wide)
        return unit[inner], cut[inner] if cut.any() else None

    def _is_a_neighbour(self, k: int) -> bool:
        return self._are_near and 0 <= k < len(self._voxels) and not self._filler.is_blank(k)

    def _nearest_measured(self, k: int) -> int:
        """A slice without any data is like the nearest that has some."""
        last = len(self._voxels) - 1
        for distance in range(last + 1):
            for candidate in (k - distance, k + distance):
                if 0 <= candidate <= last and not self._filler.is_blank(candidate):
                    return candidate
        return k


def arithmetic_type(dtype: np.dtype, window: Window) -> np.dtype:
    """float32 where it holds every grey value of the type exactly enough, otherwise float64."""
    small = dtype.itemsize <= 2 or dtype == np.float32
    return np.dtype(np.float32 if small and window.width <= 2**20 else np.float64)
