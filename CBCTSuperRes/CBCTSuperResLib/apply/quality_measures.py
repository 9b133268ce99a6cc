"""What is measured of a result for its quality card, slice by slice against the scan; quality.py says it in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..measure.slice_pairs import (
    SlicePair,
    edge_widths,
    in_grey_values_of_the_scan,
    noise_of,
    noise_pieces,
    residual,
    slab_weights,
)
from .tiles import Axis

if TYPE_CHECKING:
    from ..io.volume import Volume
    from ..scan.blank_region import BlankRegion
    from ..scan.window import Window

SLICES = 8
MARGIN = 3  # coarse pixels next to blank regions and borders that are not compared
LEAST_NOISE = 0.005  # of the window: less is taken for this much


@dataclass(frozen=True)
class Measured:
    """What was measured on the slices that were looked at.

    Attributes
    ----------
    slices : list of int
    blur : (k, j, i)
        That is assumed, in pixels of the result.
    noise : (before, after) in grey values, or None
    residual : float or None
        Root mean square, in grey values, of what the result, blurred again, leaves to the scan.
    edge_widths : ndarray, shape (2, n)
        In mm, before and after, of the clear edges.
    floor : float
        The scan's noise in grey values, or the least that is taken for noise.
    """

    slices: list[int]
    blur: Sequence[float]
    noise: tuple[float, float] | None
    residual: float | None
    edge_widths: np.ndarray
    floor: float


def measure(
    volume: Volume,
    result: np.ndarray,
    axes: Sequence[Axis],
    window: Window,
    blanks: BlankRegion,
    blur: Sequence[float],
    is_comparable: bool,
) -> Measured:
    """Compare a result with its scan; of noise and edges nothing is known where they are not the same kind of image."""
    pairs = list(pairs_of(volume.voxels, result, axes, blanks, (window.lo, window.hi), blur[0]))
    sigma = [sd if axis.scale > 1 else 0.0 for sd, axis in zip(blur[1:], axes[1:], strict=True)]
    if not is_comparable:
        brought = in_grey_values_of_the_scan([pair for _, pair in pairs], sigma)
        pairs = [(k, pair) for (k, _), pair in zip(pairs, brought, strict=False)]
    pieces = [noise_pieces(pair) for _, pair in pairs]
    noise = noise_of(np.concatenate(pieces, axis=1)) if pieces else None
    floor = max(noise[0] if noise else 0.0, LEAST_NOISE * window.width)
    least = max(0.1 * window.width, 6 * floor)
    pixel, seen = volume.spacing[1::-1], [pair for _, pair in pairs]
    is_thinner = axes[0].scale > 1 and axes[1].scale == axes[2].scale == 1  # only across slices did edges change
    if pairs and is_thinner:
        pixel, seen = volume.spacing[2::-2], _seen_from_the_side(volume.voxels, result, axes, blanks, window)
    seen = seen if is_comparable else []
    widths = [edge_widths(pair, least, pixel=pixel, only_across_rows=is_thinner) for pair in seen]
    return Measured(
        slices=[k for k, _ in pairs],
        blur=blur,
        noise=noise,
        residual=residual([pair for _, pair in pairs], sigma, floor),
        edge_widths=np.concatenate(widths, axis=1) if widths else np.empty((2, 0)),
        floor=floor,
    )


def pairs_of(
    voxels: np.ndarray,
    result: np.ndarray,
    axes: Sequence[Axis],
    blanks: BlankRegion,
    window: tuple[float, float],
    blur: float,
) -> Iterator[tuple[int, SlicePair]]:
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
        yield k, SlicePair(coarse, neighbour, result[part], weights, inside & measured, window)


def _seen_from_the_side(
    voxels: np.ndarray, result: np.ndarray, axes: Sequence[Axis], blanks: BlankRegion, window: Window
) -> list[SlicePair]:
    """Up to `SLICES` coronal slices (k, i) of a scan whose slices alone became thinner, each with what became of it."""
    k, j, i = (slice(axis.start, axis.stop) for axis in axes)
    masks = [blanks.mask(number) for number in range(k.start, k.stop)]
    pairs = []
    for row in _spread(range(j.start, j.stop)):
        coarse, beside = (voxels[k, n, i].astype(np.float32) for n in (row, row + 1 if row + 1 < j.stop else row - 1))
        measured = np.ones(coarse.shape, np.uint8)
        for number, mask in enumerate(masks):
            if mask is not None:
                measured[number] = ~mask[row, i]
        measured = cv2.erode(measured, np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
        fine = result[:, row - j.start][None]
        pairs.append(SlicePair(coarse, beside, fine, np.ones(1), measured, (window.lo, window.hi)))
    return pairs


def _spread(slices: Sequence[int]) -> list[int]:
    """Up to `SLICES` of them, evenly, none at the very ends if there are enough."""
    if len(slices) <= SLICES:
        return list(slices)
    places = (np.arange(SLICES) + 0.5) * len(slices) / SLICES
    return [slices[int(place)] for place in places]


def _is_empty(blanks: BlankRegion, k: int) -> bool:
    mask = blanks.mask(k)
    return mask is not None and bool(mask.all())
