"""How well two images of one grid are aligned, measured apart from what aligned them.

Blocks of the HR image are looked for in the LR image: the shift of the highest normalised cross-correlation, by a
parabola to a fraction of a voxel. Registration maximised mutual information of the whole; a wrong maximum, a bent scan
or a wrong spacing shows here as blocks that lie elsewhere. Blocks without structure along some axis say nothing and are
left out.

Then the judgement: what plainly failed is refused, and of the rest is said what the user should know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np

from ..acquisition.scanner import ALL_AXES, gaussian_blur
from ..core.errors import InputError
from ..core.volume import Grid
from .images import stop_if
from .options import PrepareOptions
from .region import without_rim
from .register import Registration, angle_deg

_EDGES = 8, 16  # in-plane voxels along a block, least and most
_SMOOTH = 0.7  # voxels; noise would hide the structure of a small block
_REACH = 3  # in-plane voxels that are searched to either side
_MOST_BLOCKS = 150
_SLAB, _MARGIN = 32, 5  # slices
_LEAST_SCORE = 0.5
_LEAST_CURVATURE = 0.02  # of the correlation, per in-plane voxel squared
_LEAST_CONTRAST = 0.02  # standard deviation of a block, in units of the window
_LEAST_MATCHED = 0.7  # share of the blocks with structure that must be found again
_RATIO_TOLERANCE = 1.15
ADVICE = (
    "Check that both are of one patient. If they are, align them roughly in Slicer (Transforms, or Landmark "
    "Registration) and give the transform of the LR volume as the initial transform."
)


@dataclass(frozen=True)
class Alignment:
    """What was measured.

    Attributes
    ----------
    median_mm, p95_mm : float
        Of the lengths of the blocks' displacements.
    mean_mm : tuple of float
        Mean displacement along the HR scan's (i, j, k): what a better translation would remove.
    blocks, matched : int
        Blocks with structure, and those of them that were found again.
    correlation, gradient_correlation : float
        Of the grey values, and of the gradient magnitudes of both images after a slight blur.
    """

    median_mm: float
    p95_mm: float
    mean_mm: tuple[float, float, float]
    blocks: int
    matched: int
    correlation: float
    gradient_correlation: float

    def to_json(self) -> dict:
        return asdict(self)


def measure_alignment(
    hr: np.ndarray,
    lr: np.ndarray,
    measured: np.ndarray,
    spacing: tuple[float, float, float],
    cancelled: Callable[[], bool] | None = None,
) -> Alignment:
    """Compare two images in units of the window.

    Parameters
    ----------
    hr, lr : ndarray of float32, shape (k, j, i)
        The HR image reduced to the LR image's grid, and the LR image.
    measured : ndarray of bool, same shape
    spacing : tuple
        Of that grid along (i, j, k), in mm.
    """
    steps = np.asarray(spacing[::-1])
    found, blocks = [], 0
    for corner, edge, reach in _blocks(measured, steps):
        stop_if(cancelled)
        around = tuple(slice(c - r, c + e + r) for c, e, r in zip(corner, edge, reach, strict=True))
        fine, coarse = (gaussian_blur(image[around], _SMOOTH, ALL_AXES) for image in (hr, lr))
        template = fine[tuple(slice(r, r + e) for e, r in zip(edge, reach, strict=True))]
        if template.std() < _LEAST_CONTRAST:
            continue
        scores = _scores(template, coarse)
        shift, certain = _peak(scores, steps[-1] / steps)
        if certain is None:
            continue
        blocks += 1
        if certain:
            found.append(shift * steps)
    shifts = np.array(found) if found else np.full((1, 3), np.nan)
    lengths = np.linalg.norm(shifts, axis=1)
    return Alignment(
        median_mm=float(np.median(lengths)),
        p95_mm=float(np.percentile(lengths, 95)),
        mean_mm=tuple(float(s) for s in shifts.mean(0)[::-1]),
        blocks=blocks,
        matched=len(found),
        correlation=_correlation((a[m], b[m]) for a, b, m in zip(hr, lr, measured, strict=True)),
        gradient_correlation=_correlation(_gradient_sizes(hr, lr, measured, steps)),
    )


def _blocks(measured: np.ndarray, steps: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Corners, edges and reaches (k, j, i) of blocks whose surroundings were all measured; evenly chosen if many."""
    shape = np.array(measured.shape)
    reach = np.maximum(1, np.rint(_REACH * steps[-1] / steps)).astype(int)
    reach = np.minimum(reach, (shape - 4) // 4)
    if reach.min() < 1:
        return
    in_plane = float(np.clip(np.min(shape * steps) / steps[-1] / 3, *_EDGES))
    edge = np.minimum(np.maximum(4, np.rint(in_plane * steps[-1] / steps)).astype(int), shape - 2 * reach)
    places = [
        np.unique(np.linspace(r, n - e - r, max(1, 2 * (n - 2 * r) // e - 1)).round().astype(int))
        for n, e, r in zip(shape, edge, reach, strict=True)
    ]
    corners = [
        np.array(corner)
        for corner in product(*places)
        if measured[tuple(slice(c - r, c + e + r) for c, e, r in zip(corner, edge, reach, strict=True))].all()
    ]
    chosen = np.linspace(0, len(corners) - 1, min(len(corners), _MOST_BLOCKS)).round().astype(int)
    for number in chosen:
        yield corners[number], edge, reach


def _scores(template: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Normalised cross-correlation of a block with every block of its size in a window around it."""
    axes = (0, 1, 2)
    centred = template.astype(np.float64) - template.mean()
    centred /= max(float(np.linalg.norm(centred)), 1e-9)
    window = window.astype(np.float64) - window.mean()
    spectrum = np.fft.rfftn(window, axes=axes) * np.conj(np.fft.rfftn(centred, window.shape, axes=axes))
    products = np.fft.irfftn(spectrum, window.shape, axes=axes)
    products = products[tuple(slice(0, n - e + 1) for n, e in zip(window.shape, template.shape, strict=True))]
    variance = _box_sums(window**2, template.shape) - _box_sums(window, template.shape) ** 2 / template.size
    return products / np.sqrt(np.maximum(variance, 1e-9))


def _box_sums(array: np.ndarray, edge: tuple[int, ...]) -> np.ndarray:
    """Sums over every box of this size that lies within the array."""
    for axis, n in enumerate(edge):
        sums = np.cumsum(np.moveaxis(array, axis, 0), axis=0)
        sums = np.concatenate([np.zeros_like(sums[:1]), sums])
        array = np.moveaxis(sums[n:] - sums[:-n], 0, axis)
    return array


def _peak(scores: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, bool | None]:
    """Shift of the maximum, and whether it is one: None where the block has no structure along some axis."""
    peak = np.array(np.unravel_index(int(np.argmax(scores)), scores.shape))
    middle = np.array(scores.shape) // 2
    if scores[tuple(peak)] < _LEAST_SCORE or (peak == 0).any() or (peak == 2 * middle).any():
        return (peak - middle).astype(float), False
    shift, curvatures = (peak - middle).astype(float), np.empty(3)
    for axis in range(3):
        before, after = (scores[tuple(peak + side * np.eye(3, dtype=int)[axis])] for side in (-1, 1))
        bend = 2 * scores[tuple(peak)] - before - after
        curvatures[axis] = bend * ratio[axis] ** 2
        shift[axis] += 0.5 * (after - before) / max(bend, 1e-9)
    return (shift, None) if curvatures.min() < _LEAST_CURVATURE else (shift, True)


def _correlation(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Pearson correlation of values that come in parts, pair by pair; 0 if one side is constant."""
    sums = np.zeros(6)
    for a, b in parts:
        a, b = a.astype(np.float64), b.astype(np.float64)
        sums += [a.size, a.sum(), b.sum(), a @ a, b @ b, a @ b]
    n, a, b, aa, bb, ab = sums
    spread = (aa - a * a / max(n, 1)) * (bb - b * b / max(n, 1))
    return float((ab - a * b / max(n, 1)) / np.sqrt(spread)) if spread > 0 else 0.0


def _gradient_sizes(
    hr: np.ndarray, lr: np.ndarray, measured: np.ndarray, steps: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gradient magnitudes of both images, slab by slab: whole images of gradients would fill the memory."""
    if min(hr.shape) < 2:
        return
    inner = without_rim(without_rim(measured))
    inner = inner if inner.any() else measured
    for first in range(0, len(hr), _SLAB):
        last = min(first + _SLAB, len(hr))
        wide = slice(max(0, first - _MARGIN), min(len(hr), last + _MARGIN))
        own = slice(first - wide.start, last - wide.start)
        slopes = (np.gradient(gaussian_blur(image[wide], _SMOOTH, ALL_AXES), *steps) for image in (hr, lr))
        yield tuple(np.sqrt(sum(g**2 for g in slope))[own][inner[first:last]] for slope in slopes)


def check_movement(found: Registration, hr: Grid, options: PrepareOptions) -> None:
    """Refuse a movement that went nowhere or too far.

    Raises
    ------
    InputError
    """
    if found.metric >= 0:
        raise InputError("Registration failed: the scans do not overlap where it started.", ADVICE)
    if found.metric > found.metric_at_start:
        raise InputError(
            f"Registration failed: the mutual information ({-found.metric:.3f}) is not better than at the start "
            f"({-found.metric_at_start:.3f}).",
            ADVICE,
        )
    turned, moved = movement(found)
    furthest = options.max_shift_mm
    if furthest is None:
        furthest = float(np.linalg.norm(np.asarray(hr.size) * hr.spacing) / 2)
    if turned > options.max_rotation_deg or moved > furthest:
        raise InputError(
            f"Registration failed: it turned the LR scan by {turned:.1f} degrees and moved it by {moved:.1f} mm, "
            f"beyond the limits of {options.max_rotation_deg:g} degrees and {furthest:.1f} mm.",
            ADVICE,
        )


def movement(found: Registration) -> tuple[float, float]:
    """Degrees, and mm at the centre of the HR scan, from the start to the end."""
    centre = np.r_[found.centre, 1.0]
    moved = float(np.linalg.norm((found.matrix @ centre - found.start @ centre)[:3]))
    return angle_deg(found.matrix @ np.linalg.inv(found.start)), moved


def check_overlap(overlap: float, options: PrepareOptions) -> None:
    """Refuse scans that show too little in common.

    Raises
    ------
    InputError
    """
    if overlap < options.min_overlap:
        raise InputError(
            f"The scans have only {overlap:.0%} of the smaller one's field of view in common; "
            f"at least {options.min_overlap:.0%} are wanted.",
            ADVICE,
        )


def check_alignment(alignment: Alignment, lr_voxel_mm: float, options: PrepareOptions) -> list[str]:
    """Refuse misaligned images; the return value is what the user should know of those that are not refused.

    Raises
    ------
    InputError
    """
    failed = "Registration failed: " if options.register else "The scans are not aligned: "
    advice = ADVICE if options.register else "Let them be registered, or give the transform that aligns them."
    if alignment.blocks == 0:
        raise InputError(
            f"{failed}no part of the region has enough structure to tell whether the images fit.",
            "Give scans with more bone or teeth in common, or a narrower window.",
        )
    if alignment.matched < _LEAST_MATCHED * alignment.blocks:
        raise InputError(
            f"{failed}only {alignment.matched} of {alignment.blocks} blocks of the HR image were found again in the "
            "LR image.",
            advice,
        )
    if alignment.median_mm > options.max_residual * lr_voxel_mm:
        raise InputError(
            f"{failed}a residual misalignment of {alignment.median_mm:.3g} mm (median) remains, more than "
            f"{options.max_residual:g} LR voxels of {lr_voxel_mm:.3g} mm.",
            advice,
        )
    if min(alignment.correlation, alignment.gradient_correlation) < options.min_correlation:
        raise InputError(
            f"{failed}the images correlate by {alignment.correlation:.2f} and their gradients by "
            f"{alignment.gradient_correlation:.2f}; at least {options.min_correlation:g} is wanted.",
            advice,
        )
    if alignment.p95_mm <= lr_voxel_mm:
        return []
    return [
        f"One block in twenty is displaced by more than {alignment.p95_mm:.2g} mm, where an LR voxel is "
        f"{lr_voxel_mm:.2g} mm: the patient may have moved during a scan. Look at the checkerboard."
    ]


def warn_of_ratio(ratio: tuple[float, float, float], options: PrepareOptions, hr: Grid) -> list[str]:
    """What it means that the scans' own voxel sizes are not `scale` apart."""
    axes = range(3) if options.planes == "isotropic" else range(2)
    share = float(np.exp(np.mean([np.log(ratio[axis] / options.scale) for axis in axes])))
    if 1 / _RATIO_TOLERANCE <= share <= _RATIO_TOLERANCE:
        return []
    own = f"The LR scan's voxels are {share * options.scale:.2f} times as wide as the HR scan's, not {options.scale}: "
    if share > 1:
        wanted = share * hr.spacing[0]
        return [
            f"{own}its slices were interpolated and show less than a scan of their pixel size would. A network that is "
            f"trained on them sharpens too much; resampling the HR scan to {wanted:.3g} mm first avoids that."
        ]
    return [
        f"{own}its slices were averaged to wider pixels and show less noise than a scan of their pixel size would. "
        "A network that is trained on them expects smoother scans than the scanner gives."
    ]
