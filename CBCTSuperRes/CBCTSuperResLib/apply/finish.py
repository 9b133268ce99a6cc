"""From the network's output back to grey values, straight into the memory of the result.

output = lo + (hi - lo) * network + cubic(what the window cut off)

which is the cubic interpolation of the input plus what the network changes inside the window: air and metal beyond the
window survive, and without a change by the network nothing changes at all. A network that leads into another kind of
image has no such remainder: output = lo + (hi - lo) * network, of the model's output window, is all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..core.interpolate import REACH, cubic, enlarge_slice
from ..scan.blank_region import BlankRegion
from ..scan.window import Window
from .prepare import Prepared, arithmetic_type
from .tiles import Axis, Tile

OVERSHOOT = 0.02
BAND = 64  # rows that are worked on at a time, so that they stay in the processor's cache


class Finisher:
    """Writes finished tiles into the result.

    Parameters
    ----------
    output : ndarray, shape (k, j, i)
        The result's memory, of its final type.
    axes : three Axis
        From the volume to the result.
    window : Window
        Of the input.
    blanks : BlankRegion
    output_window : Window, optional
        Of the output, where the network leads into another kind of image; blanks become its lower bound.
    sharpness : float
        Share of what the network adds to cubic interpolation that is kept, 0 to 1.
    """

    def __init__(
        self,
        output: np.ndarray,
        axes: Sequence[Axis],
        window: Window,
        blanks: BlankRegion,
        output_window: Window | None = None,
        sharpness: float = 1.0,
    ) -> None:
        self._output, self._sharpness = output, sharpness
        self._axes = axes
        self._blanks = blanks
        self._window = output_window or window
        self._is_same_kind = output_window is None
        self._type = arithmetic_type(output.dtype, self._window)
        limits, slack = limits_of(output.dtype), OVERSHOOT * window.width if self._is_same_kind else np.inf
        self._range = _Range(self._window.lo - slack, self._window.hi + slack, limits)
        blank_value = (blanks.value or 0.0) if self._is_same_kind else self._window.lo
        self._blank_value = np.clip(blank_value, *limits)

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
        positions = [axis.positions(part) for axis, part in zip(self._axes, tile.write, strict=True)]
        inside = [p - read.start for p, read in zip(positions, tile.read, strict=True)]
        near = _slices_near(inside[0], len(prepared.unit))  # a band of a block needs few of what the block read
        inside[0] = inside[0] - near.start
        if self._sharpness < 1:
            smooth = _enlarged(prepared.unit[near], inside)
            estimate = smooth + np.float32(self._sharpness) * (estimate - smooth)
        has_outside = self._is_same_kind and prepared.excess is not None
        outside = _Outside(prepared.excess[near], inside, self._range) if has_outside else None
        target = self._output[tile.write]
        for place, k in enumerate(positions[0]):
            blank = self._blanks.fine_mask(float(k), *positions[1:])
            for top in range(0, target.shape[1], BAND):
                rows = slice(top, top + BAND)
                values = self._grey_values(estimate[place, rows], outside, place, rows)
                self._store(target[place, rows], values, None if blank is None else blank[rows])

    def add(self, tile: Tile, change: np.ndarray) -> None:
        """Add to a tile that is written, in units of the window; what is beyond the range stays where it is."""
        target, change = self._output[tile.write], self._sharpness * self._window.width * change
        places = self._axes[0].positions(tile.write[0])
        in_plane = [axis.positions(part) for axis, part in zip(self._axes[1:], tile.write[1:], strict=True)]
        for place in np.flatnonzero(change.any((1, 2))):
            there = target[place].astype(self._type)
            lowest, highest = (
                limit(there, bound)
                for limit, bound in zip((np.minimum, np.maximum), self._range.within(0.0, 0.0), strict=True)
            )
            values = np.clip(there + change[place].astype(self._type), lowest, highest)
            self._store(target[place], values, self._blanks.fine_mask(float(places[place]), *in_plane))

    def write_blank(self, tile: Tile) -> None:
        """Write one tile in which nothing was measured."""
        self._output[tile.write] = self._blank_value

    def _grey_values(self, unit: np.ndarray, outside: _Outside | None, place: int, rows: slice) -> np.ndarray:
        """Some rows of slice `place` of a tile, not far beyond the window and the input nearby."""
        values = self._window.from_unit(unit).astype(self._type, copy=False)
        if outside is None:
            return np.clip(values, *self._range.within(0.0, 0.0), out=values)
        values += outside.values[place, rows]
        lowest, highest = outside.range_nearby(place, rows)
        return np.minimum(np.maximum(values, lowest, out=values), highest, out=values)

    def _store(self, target: np.ndarray, values: np.ndarray, blank: np.ndarray | None) -> None:
        if target.dtype.kind != "f":
            np.rint(values, out=values)
        if blank is not None:
            np.copyto(values, self._blank_value, where=blank)
        np.copyto(target, values, casting="unsafe")


@dataclass(frozen=True)
class _Range:
    """Grey values that a result may have: from `lowest` to `highest` where the input is within the window."""

    lowest: float
    highest: float
    limits: tuple[float, float]

    def within(self, below: np.ndarray | float, above: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """The same where the input goes that far below (negative) and above the window; never beyond the type."""
        return np.clip(below + self.lowest, *self.limits), np.clip(above + self.highest, *self.limits)


class _Outside:
    """What the window cut off from a block, on the output's grid.

    Attributes
    ----------
    values : ndarray, shape (k, j, i) of the output
        The interpolated excess, in grey values.
    """

    def __init__(self, excess: np.ndarray, positions: Sequence[np.ndarray], allowed: _Range) -> None:
        self.values = _enlarged(excess, positions)
        self._slices, self._rows, columns = (
            np.clip(np.floor(p + 0.5).astype(np.intp), 0, n - 1) for p, n in zip(positions, excess.shape, strict=True)
        )
        below, above = _neighbourhood(excess)
        bounds = allowed.within(np.minimum(below, 0), np.maximum(above, 0))
        self._bounds = [bound.astype(excess.dtype, copy=False).take(columns, 2) for bound in bounds]

    def range_nearby(self, place: int, rows: slice) -> list[np.ndarray]:
        """Smallest and largest grey value that each voxel of some rows of an output slice may have."""
        k, j = self._slices[place], self._rows[rows]
        return [bound[k].take(j, 0) for bound in self._bounds]


def _slices_near(places: np.ndarray, count: int) -> slice:
    """Those of `count` slices that cubic interpolation at some places, and the neighbours of these, look at."""
    if count == 1 or not len(places):
        return slice(0, count)
    first, last = int(np.floor(places[0])), int(np.floor(places[-1]))
    return slice(max(0, first + 1 - REACH), min(count, last + 1 + REACH))


def _enlarged(block: np.ndarray, positions: Sequence[np.ndarray]) -> np.ndarray:
    """Cubic interpolation; of one whole slice, which is what nearly every piece is, by the fast way."""
    slices, *in_plane = positions
    if not len(block) == len(slices) == 1:
        return cubic(block, positions)
    size = tuple(len(p) for p in in_plane)
    whole = [(np.arange(m) + 0.5) * n / m - 0.5 for m, n in zip(size, block.shape[1:], strict=True)]
    if all(np.allclose(p, w, rtol=0, atol=1e-6) for p, w in zip(in_plane, whole, strict=True)):
        return enlarge_slice(block[0], size)[None]
    return cubic(block[0], in_plane)[None]


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


def limits_of(dtype: np.dtype) -> tuple[float, float]:
    """Smallest and largest value of a type that float64 can hold; the wide real types have none that matter."""
    if dtype.kind == "f" and dtype.itemsize > 2:
        return -np.inf, np.inf
    if dtype.kind == "f":
        return float(np.finfo(dtype).min), float(np.finfo(dtype).max)
    info = np.iinfo(dtype)
    return float(info.min), float(info.max if dtype.itemsize < 8 else np.nextafter(float(info.max), 0))
