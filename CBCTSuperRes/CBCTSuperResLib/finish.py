"""From the network's output back to grey values, straight into the memory of the result.

output = lo + (hi - lo) * network + cubic(what the window cut off)

which is the cubic interpolation of the input plus what the network changes inside the window: air and metal beyond the
window survive, and without a change by the network nothing changes at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .blanks import BlankRegion
from .intensity import Window
from .interpolate import cubic, enlarge_slice
from .prepare import Prepared, arithmetic_type
from .tiles import Axis, Tile

OVERSHOOT = 0.02


class Finisher:
    """Writes finished tiles into the result.

    Parameters
    ----------
    output : ndarray, shape (k, j, i)
        The result's memory, of its final type.
    axes : three Axis
        From the volume to the result.
    window : Window
    blanks : BlankRegion
    """

    def __init__(self, output: np.ndarray, axes: Sequence[Axis], window: Window, blanks: BlankRegion) -> None:
        self._output = output
        self._axes = axes
        self._window = window
        self._blanks = blanks
        self._type = arithmetic_type(output.dtype, window)
        self._limits = _limits_of(output.dtype)

    def write(self, tile: Tile, estimate: np.ndarray, prepared: Prepared) -> None:
        """Write one tile.

        Parameters
        ----------
        tile : Tile
        estimate : ndarray of float32
            The network's output for `tile.write`, in units of the window.
        prepared : Prepared
            What `tile.read` held.
        """
        rest = self._rest(tile, prepared.excess)
        for place, k in enumerate(range(tile.write[0].start, tile.write[0].stop)):
            values = self._window.from_unit(estimate[place]).astype(self._type, copy=False)
            if rest is None:
                np.clip(values, *self._range(0.0, 0.0), out=values)
            else:
                outside, below, above = (part[place] for part in rest)
                values += outside
                np.clip(values, *self._range(below, above), out=values)
            self._store(k, tile, values)

    def write_blank(self, tile: Tile) -> None:
        """Write one tile in which nothing was measured."""
        self._output[tile.write] = self._blanks.value

    def _store(self, k: int, tile: Tile, values: np.ndarray) -> None:
        if self._limits:
            np.clip(np.rint(values, out=values), *self._limits, out=values)
        target = self._output[(k, *tile.write[1:])]
        np.copyto(target, values, casting="unsafe")
        at_k, *in_plane = (axis.positions(w) for axis, w in zip(self._axes, (slice(k, k + 1), *tile.write[1:]), strict=True))
        mask = self._blanks.fine_mask(float(at_k[0]), *in_plane)
        if mask is not None:
            np.copyto(target, self._blanks.value, where=mask, casting="unsafe")

    def _range(self, below: np.ndarray | float, above: np.ndarray | float) -> tuple:
        """The window and the input nearby, and a little beyond."""
        slack = OVERSHOOT * self._window.width
        return self._window.lo + below - slack, self._window.hi + above + slack

    def _rest(self, tile: Tile, excess: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """For each output voxel: the interpolated excess, and how far the input nearby is below and above the window."""
        if excess is None:
            return None
        inside = [axis.positions(w) - r.start for axis, w, r in zip(self._axes, tile.write, tile.read, strict=True)]
        nearest = [np.clip(np.floor(p + 0.5).astype(int), 0, n - 1) for p, n in zip(inside, excess.shape, strict=True)]
        below, above = _neighbourhood(excess)
        at = np.ix_(*nearest)
        return self._enlarged(excess, inside), np.minimum(below[at], 0), np.maximum(above[at], 0)

    def _enlarged(self, excess: np.ndarray, positions: Sequence[np.ndarray]) -> np.ndarray:
        slices_kept = len(positions[0]) == excess.shape[0] == 1
        factors = [axis.scale for axis in self._axes[1:]]
        covered = [len(p) == n * f for p, n, f in zip(positions[1:], excess.shape[1:], factors, strict=True)]
        if slices_kept and all(covered):
            return enlarge_slice(excess[0], tuple(len(p) for p in positions[1:]))[None]
        return cubic(excess, [None if slices_kept else positions[0], *positions[1:]])


def _neighbourhood(excess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest excess among each voxel and those around it."""
    square = np.ones((3, 3), np.uint8)
    low = np.stack([cv2.erode(image, square) for image in excess])
    high = np.stack([cv2.dilate(image, square) for image in excess])
    if len(excess) > 1:
        low = np.minimum.reduce(_with_neighbours(low))
        high = np.maximum.reduce(_with_neighbours(high))
    return low, high


def _with_neighbours(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    padded = np.pad(block, ((1, 1), (0, 0), (0, 0)), mode="edge")
    return padded[:-2], block, padded[2:]


def _limits_of(dtype: np.dtype) -> tuple[float, float] | None:
    """Smallest and largest value of an integer type that float64 can hold; None for the others."""
    if dtype.kind == "f":
        return None
    info = np.iinfo(dtype)
    return float(info.min), float(info.max if dtype.itemsize < 8 else np.nextafter(float(info.max), 0))
