"""What can be measured without a truth: a slice of a scan against what became of it.

Noise, and agreement with the scan. All grey values and masks are those of single slices, (rows, columns); whatever is
said of a fine slice is measured at the same places as in the coarse one, wherever those are. Worker-side: OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..acquisition.scanner import gaussian_kernel
from .edges import profiles_across, rise_distances, strongest_edges

FEWEST_PIXELS = 200
BLOCK = 8  # coarse pixels along the edge of a piece in which noise is measured
FLAT_SHARE = 0.2
FEWEST_BLOCKS = 4


@dataclass(frozen=True, eq=False)
class SlicePair:
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
    kernel = gaussian_kernel(sigma)
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


def noise_pieces(pair: SlicePair) -> np.ndarray:
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


def _deviations(image: np.ndarray, corners: Sequence[tuple[int, int]], edges: Sequence[int]) -> np.ndarray:
    """Standard deviation of each piece of an image about its own plane."""
    rows, columns = edges
    pieces = np.stack([image[r : r + rows, c : c + columns].ravel() for r, c in corners]).astype(np.float64)
    y, x = (a.ravel() for a in np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j])
    plane = np.linalg.qr(np.stack([np.ones_like(x), y, x], axis=1))[0]
    rest = pieces - (pieces @ plane) @ plane.T
    return np.sqrt((rest**2).sum(1) / (rows * columns - 3))


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


def degraded(pair: SlicePair, sigma: Sequence[float]) -> np.ndarray:
    """The result as the scanner would have seen it: blurred, then averaged over the coarse pixels; float32.

    Parameters
    ----------
    sigma : (rows, columns)
        Standard deviation of the blur in fine pixels; that across the slices is in the pair's weights.
    """
    image = np.tensordot(pair.weights.astype(np.float32), pair.slab.astype(np.float32, copy=False), axes=1)
    kernels = [gaussian_kernel(s) for s in sigma]
    blurred = cv2.sepFilter2D(image, cv2.CV_32F, kernels[1], kernels[0], borderType=cv2.BORDER_REFLECT)
    return cv2.resize(blurred, pair.coarse.shape[::-1], interpolation=cv2.INTER_AREA)


def residual(pairs: Sequence[SlicePair], sigma: Sequence[float], noise: float) -> float | None:
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


def in_grey_values_of_the_scan(pairs: Sequence[SlicePair], sigma: Sequence[float]) -> list[SlicePair]:
    """The pairs, their results brought to the scan's grey values by one straight line: that which brings the degraded
    results nearest, by least squares. None where too little can be compared.

    Parameters
    ----------
    sigma : (rows, columns)
        Assumed blur in fine pixels.
    """
    seen, wanted = [np.empty(0)], [np.empty(0)]
    for pair in pairs:
        seen.append(degraded(pair, sigma)[pair.usable])
        wanted.append(pair.coarse[pair.usable])
    x, y = (np.concatenate(values).astype(np.float64) for values in (seen, wanted))
    if x.size < FEWEST_PIXELS:
        return []
    gain = np.cov(x, y)[0, 1] / x.var() if x.var() > 0 else 0.0
    offset = y.mean() - gain * x.mean()
    return [replace(pair, slab=np.float32(gain) * pair.slab.astype(np.float32) + np.float32(offset)) for pair in pairs]


def edge_widths(
    pair: SlicePair,
    least_contrast: float,
    most: int = 300,
    pixel: tuple[float, float] = (1.0, 1.0),
    only_across_rows: bool = False,
) -> np.ndarray:
    """Distance in which the strongest edges rise from 20 to 80 %, before (cubic interpolation) and after.

    What lies outside the window counts as its nearest bound.

    Parameters
    ----------
    least_contrast : float
        Edges must go over at least so many grey values.
    pixel : (rows, columns)
        Extent of a coarse pixel, in mm for instance.
    only_across_rows : bool
        Leave out edges that are crossed rather along the rows than from row to row.

    Returns
    -------
    ndarray, shape (2, edges)
        In units of `pixel`, across each edge; only edges that are clear both before and after.
    """
    coarse, fine = (np.clip(image, *pair.window) for image in (pair.coarse, pair.fine))
    places, normals = strongest_edges(coarse, pair.measured, most)
    if only_across_rows:
        across = np.abs(normals[:, 0]) > np.abs(normals[:, 1])
        places, normals = places[across], normals[across]
    if not len(places):
        return np.empty((2, 0))
    before = profiles_across(coarse, places, normals)
    after = profiles_across(fine, places, normals, pair.scale)
    widths = np.stack([rise_distances(before, least_contrast), rise_distances(after, least_contrast)])
    widths /= np.hypot(*(normals / pixel).T)  # a line across the edge in pixels is slanted where these are not square
    return widths[:, np.isfinite(widths).all(0)]
