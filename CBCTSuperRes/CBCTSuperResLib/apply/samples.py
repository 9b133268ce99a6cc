"""Slices of a scan together with what became of them: the sample on which a result is judged.

Noise, edges and agreement with the scan, on pairs of slices before and after; numpy and OpenCV.

Nothing here needs a truth. All grey values and masks are those of single slices, (rows, columns); whatever is said of
a fine slice is measured at the same places as in the coarse one, wherever those are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from .tiles import Axis

if TYPE_CHECKING:
    from ..scan.blank_region import BlankRegion


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


FEWEST_PIXELS = 200
BLOCK = 8  # coarse pixels along the edge of a piece in which noise is measured
FLAT_SHARE = 0.2
FEWEST_BLOCKS = 4
REACH = 4.0  # coarse pixels on either side of an edge
STEP = 0.125
CELL = 6  # at most one edge in a square of so many coarse pixels
LOW, HIGH = 0.2, 0.8


def noise_pieces(pair: Pair) -> np.ndarray:
    """Noise of small square pieces of a slice before and after, and how lively the neighbour is there.

    Returns
    -------
    ndarray, shape (3, pieces)
        Standard deviations about a plane, in grey values: of the neighbour, the coarse and the fine slice.
    """
    usable = pair.usable
    corners = [
        (row, column)
        for row in range(0, pair.coarse.shape[0] - BLOCK + 1, BLOCK)
        for column in range(0, pair.coarse.shape[1] - BLOCK + 1, BLOCK)
        if usable[row : row + BLOCK, column : column + BLOCK].all()
    ]
    if not corners:
        return np.empty((3, 0))
    edges = [max(2, round(BLOCK * factor)) for factor in pair.scale]
    fine_corners = [tuple(round(c * f) for c, f in zip(corner, pair.scale, strict=True)) for corner in corners]
    return np.stack(
        [
            _deviations(pair.neighbour, corners, (BLOCK, BLOCK)),
            _deviations(pair.coarse, corners, (BLOCK, BLOCK)),
            _deviations(pair.fine, fine_corners, edges),
        ]
    )


def noise_of(pieces: np.ndarray) -> tuple[float, float] | None:
    """Noise before and after, in grey values, from the pieces (3, n) of all slices; None if there are too few.

    The fifth of the pieces whose neighbours vary least counts as flat; the median over them is the noise. Pieces
    without any variation, padding for instance, do not count where there are others.
    """
    lively = pieces[:, pieces[0] > 0]
    pieces = lively if lively.shape[1] >= FEWEST_BLOCKS else pieces
    if pieces.shape[1] < FEWEST_BLOCKS:
        return None
    count = max(FEWEST_BLOCKS, int(FLAT_SHARE * pieces.shape[1]))
    flat = np.argpartition(pieces[0], count - 1)[:count]
    return float(np.median(pieces[1, flat])), float(np.median(pieces[2, flat]))


def degraded(pair: Pair, sigma: Sequence[float]) -> np.ndarray:
    """The result as the scanner would have seen it: blurred, then averaged over the coarse pixels; float32.

    Parameters
    ----------
    sigma : (rows, columns)
        Standard deviation of the blur in fine pixels; that across the slices is in the pair's weights.
    """
    image = np.tensordot(pair.weights.astype(np.float32), pair.slab.astype(np.float32, copy=False), axes=1)
    kernels = [gaussian(s) for s in sigma]
    blurred = cv2.sepFilter2D(image, cv2.CV_32F, kernels[1], kernels[0], borderType=cv2.BORDER_REFLECT)
    return cv2.resize(blurred, pair.coarse.shape[::-1], interpolation=cv2.INTER_AREA)


def residual(pairs: Sequence[Pair], sigma: Sequence[float], noise: float) -> float | None:
    """Root mean square of the degraded result minus the scan, in grey values; None if nothing can be compared.

    Parameters
    ----------
    sigma : (rows, columns)
        Assumed blur in fine pixels.
    noise : float
        Of the scan, in grey values: pixels that it may have carried beyond the window do not count.
    """
    total, count = 0.0, 0
    for pair in pairs:
        seen = degraded(pair, sigma)
        low, high = pair.window
        valid = cv2.erode(pair.usable.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
        valid &= (seen > low + 3 * noise) & (seen < high - 3 * noise)
        valid[[0, -1]] = False
        difference = (seen - pair.coarse)[valid]
        total += float(np.square(difference, dtype=np.float64).sum())
        count += difference.size
    return float(np.sqrt(total / count)) if count >= FEWEST_PIXELS else None


def edge_widths(pair: Pair, least_contrast: float, most: int = 300) -> np.ndarray:
    """Distance in which the strongest edges rise from 20 to 80 %, before (cubic interpolation) and after.

    What lies outside the window counts as its nearest bound.

    Parameters
    ----------
    least_contrast : float
        Edges must go over at least so many grey values.

    Returns
    -------
    ndarray, shape (2, edges)
        In coarse pixels; only edges that are clear both before and after.
    """
    coarse, fine = (np.clip(image, *pair.window) for image in (pair.coarse, pair.fine))
    places, normals = strongest_edges(coarse, pair.measured, most)
    if not len(places):
        return np.empty((2, 0))
    before = profiles_across(coarse, places, normals)
    after = profiles_across(fine, places, normals, pair.scale)
    widths = np.stack([_rise(before, least_contrast), _rise(after, least_contrast)])
    return widths[:, np.isfinite(widths).all(0)]


def _deviations(image: np.ndarray, corners: Sequence[tuple[int, int]], edges: Sequence[int]) -> np.ndarray:
    """Standard deviation of each piece of an image about its own plane."""
    rows, columns = edges
    pieces = np.stack([image[r : r + rows, c : c + columns].ravel() for r, c in corners]).astype(np.float64)
    y, x = (a.ravel() for a in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
    plane = np.linalg.qr(np.stack([np.ones_like(x), y, x], axis=1))[0]
    rest = pieces - (pieces @ plane) @ plane.T
    return np.sqrt((rest**2).sum(1) / (rows * columns - 3))


def strongest_edges(image: np.ndarray, measured: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (row, column) and unit normals of the strongest edges, at most one in a small square."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    down, right = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((0, 1), (1, 0)))
    margin = int(REACH) + 2
    allowed = cv2.erode(measured.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8), borderValue=0)
    strength = np.hypot(down, right) * allowed
    rows, columns = (n // CELL for n in strength.shape)
    cells = strength[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).swapaxes(1, 2)
    cells = cells.reshape(rows * columns, CELL * CELL)
    if not cells.size:
        return np.empty((0, 2)), np.empty((0, 2))
    best, height = cells.argmax(1), cells.max(1)
    chosen = np.argsort(-height, kind="stable")[:most]
    chosen = chosen[height[chosen] > 0]
    row = chosen // columns * CELL + best[chosen] // CELL
    column = chosen % columns * CELL + best[chosen] % CELL
    normals = np.stack([down[row, column], right[row, column]], axis=1) / strength[row, column][:, None]
    return np.stack([row, column], axis=1).astype(np.float64), normals


def profiles_across(
    image: np.ndarray,
    places: np.ndarray,
    normals: np.ndarray,
    ratio: Sequence[float] = (1.0, 1.0),
    reach: float = REACH,
) -> np.ndarray:
    """Grey values (edges, points) along each normal, every `STEP`, the mean over three parallel lines.

    Parameters
    ----------
    places, normals : ndarray, shape (edges, 2)
        In coarse pixels; rows first.
    ratio : (rows, columns)
        Pixels of the image in a coarse one.
    reach : float
        Coarse pixels on either side.
    """
    along = np.arange(-reach, reach + STEP / 2, STEP)
    tangents = np.stack([-normals[:, 1], normals[:, 0]], axis=1)
    total = 0.0
    for aside in (-1.0, 0.0, 1.0):
        points = (places + aside * tangents)[:, None, :] + along[:, None] * normals[:, None, :]
        rows, columns = np.moveaxis((points + 0.5) * np.asarray(ratio) - 0.5, -1, 0).astype(np.float32)
        total = total + cv2.remap(image, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return total / 3


def _rise(profiles: np.ndarray, least_contrast: float) -> np.ndarray:
    """Distance from 20 to 80 % of each profile, in coarse pixels; NaN where it is no clear step."""
    end, middle = profiles.shape[1] // 8, profiles.shape[1] // 2
    low, high = profiles[:, :end].mean(1), profiles[:, -end:].mean(1)
    contrast = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = (profiles - low[:, None]) / contrast[:, None]
        low_at = _last_crossing(rise[:, : middle + end], LOW)
        high_at = profiles.shape[1] - 1 - _last_crossing(1 - rise[:, ::-1][:, : middle + end], 1 - HIGH)
    clear = (contrast >= least_contrast) & (np.abs(rise - 0.5).max(1) < 0.9) & (high_at > low_at)
    return np.where(clear, (high_at - low_at) * STEP, np.nan)


def _last_crossing(rise: np.ndarray, level: float) -> np.ndarray:
    """Where each row last lies below a level, interpolated; NaN where it does not or stays there."""
    below = rise <= level
    last = below.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)
    found = below.any(1) & (last < below.shape[1] - 1)
    last = np.minimum(last, below.shape[1] - 2)
    rows = np.arange(len(rise))
    before, after = rise[rows, last], rise[rows, last + 1]
    return np.where(found, last + (level - before) / (after - before), np.nan)
