"""Where registration may start: as the scans are placed, from their centres or masses, or the best of all shifts."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .images import Working, empty_image, grid_of, shrunk
from .rigid import shift

_SEARCH_EDGE = 56  # voxels along the longer scan's longest edge
_SEARCH_OVERLAP = 0.4


def starts(hr: Working, lr: Working) -> dict[str, np.ndarray]:
    """Candidate transforms, matrices (4, 4) from HR points to LR points, by the words that describe them."""
    return {
        "the scans as their files place them": np.eye(4),
        "the centres of the fields of view": shift(_centre(lr, False) - _centre(hr, False)),
        "the centres of mass": shift(_centre(lr, True) - _centre(hr, True)),
        "the best of all shifts": shift(best_shift(hr, lr)),
    }


def _centre(working: Working, weighted: bool) -> np.ndarray:
    """Centre in mm of what was measured, of its grey values above their mean if weighted."""
    mask = sitk.GetArrayViewFromImage(working.mask) > 0
    weights = mask.astype(np.float64)
    if weighted:
        values = sitk.GetArrayViewFromImage(working.image)
        weights *= np.maximum(values - values[mask].mean(), 0) if mask.any() else 0
    if not weights.any():
        weights = np.ones(mask.shape)
    index = [np.average(np.arange(n), weights=weights.sum(tuple({0, 1, 2} - {a}))) for a, n in enumerate(mask.shape)]
    return grid_of(working.image).point(index[::-1])


def best_shift(hr: Working, lr: Working) -> np.ndarray:
    """The translation in mm, from HR points to LR points, of the highest correlation where both were measured.

    Masked normalised cross-correlation over all shifts of whole voxels of a coarse grid: D. Padfield, Masked object
    registration in the Fourier domain, IEEE Trans. Image Processing 21 (2012) 2706-2718, equations 4 and 15-21.
    """
    edges = [max(n * s for n, s in zip(w.image.GetSize(), w.image.GetSpacing(), strict=True)) for w in (hr, lr)]
    spacing = max(edges) / _SEARCH_EDGE
    fixed = shrunk(hr, spacing)
    moving = _on_axes_of(fixed, shrunk(lr, spacing))
    a, am = (sitk.GetArrayFromImage(part).astype(np.float64) for part in (fixed.image, fixed.mask))
    b, bm = (sitk.GetArrayFromImage(part).astype(np.float64) for part in (moving.image, moving.mask))
    scores = _masked_correlation(a * am, am, b * bm, bm)
    peak = np.unravel_index(int(np.argmax(scores)), scores.shape)
    lag = [p if p < n else p - total for p, n, total in zip(peak, b.shape, scores.shape, strict=True)]
    return grid_of(moving.image).point(lag[::-1]) - grid_of(fixed.image).point((0, 0, 0))


def _on_axes_of(fixed: Working, moving: Working) -> Working:
    """The moving scan, all of it, on a grid of the fixed scan's spacing and axes."""
    grid, frame = grid_of(moving.image), grid_of(fixed.image)
    ends = [(0, n - 1) for n in grid.size]
    corners = np.array([grid.point((i, j, k)) for i in ends[0] for j in ends[1] for k in ends[2]])
    places = (np.linalg.inv(frame.index_to_point) @ np.c_[corners, np.ones(8)].T)[:3]
    first, last = np.floor(places.min(1)).astype(int), np.ceil(places.max(1)).astype(int) + 1
    reference = empty_image(frame.cropped(first, last))
    image = sitk.Resample(moving.image, reference, sitk.Transform(), sitk.sitkLinear, 0.0)
    mask = sitk.Resample(moving.mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return Working(image, mask)


def _masked_correlation(a: np.ndarray, am: np.ndarray, b: np.ndarray, bm: np.ndarray) -> np.ndarray:
    """Correlation of a(x) with b(x + lag) for every lag (wrapped), -1 where too little of both was measured."""
    shape = [n + m - 1 for n, m in zip(a.shape, b.shape, strict=True)]

    def spectrum(values: np.ndarray) -> np.ndarray:
        return np.fft.rfftn(values, shape, axes=(0, 1, 2))

    def sums(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.fft.irfftn(np.conj(first) * second, shape, axes=(0, 1, 2))

    fa, fm, ga, gm = spectrum(a), spectrum(am), spectrum(b), spectrum(bm)
    count = np.maximum(np.rint(sums(fm, gm)), 1)
    sum_a, sum_b = sums(fa, gm), sums(fm, ga)
    var_a = np.maximum(sums(spectrum(a * a), gm) - sum_a**2 / count, 0)
    var_b = np.maximum(sums(fm, spectrum(b * b)) - sum_b**2 / count, 0)
    spread = np.sqrt(var_a * var_b)
    scores = (sums(fa, ga) - sum_a * sum_b / count) / np.maximum(spread, 1e-3 * spread.max() + 1e-12)
    scores[count < _SEARCH_OVERLAP * min(am.sum(), bm.sum())] = -1
    return scores
