"""What two registered scans have in common, as a box of the HR grid whose edges are also edges of LR voxels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError
from ..core.volume import Grid
from .images import (
    Scan,
    coarser,
    empty_image,
    stop_if,
    to_image,
)
from .options import PrepareOptions

_CELLS = 32  # along each axis; the search for the largest box is on blocks, its faces are then moved outwards
_LEAST_MEASURED = 0.5  # share of a slice of the whole region that both scans must show


@dataclass(frozen=True)
class Common:
    """Where both scans were measured.

    Attributes
    ----------
    measured : ndarray of bool, shape (k, j, i)
        On the lattice of LR voxels over the whole HR scan.
    lattice : Grid
        That lattice.
    overlap : float
        Share of the smaller scan's measured volume that both show.
    """

    measured: np.ndarray
    lattice: Grid
    overlap: float


@dataclass(frozen=True)
class Region:
    """The part of both scans that becomes the pair.

    Attributes
    ----------
    hr_grid, lr_grid : Grid
        Of the two images; they cover exactly the same extent.
    start, stop : tuple of int
        The box in voxels of the HR scan, along (i, j, k).
    measured : ndarray of bool, shape (k, j, i) of `lr_grid`
        Voxels that both scans measured; the others are filled.
    """

    hr_grid: Grid
    lr_grid: Grid
    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    measured: np.ndarray

    @property
    def filled_share(self) -> float:
        return float(1 - self.measured.mean())


def find_common(
    hr: Scan,
    lr: Scan,
    transform: sitk.Transform,
    factors: Sequence[int],
    cancelled: Callable[[], bool] | None = None,
) -> Common:
    """Where both scans were measured, on the lattice of voxels `factors` (i, j, k) times coarser than the HR scan's.

    Of the LR scan a rim of one voxel is left out, where interpolation would look beyond the field of view.
    """
    lattice = coarser(hr.grid, factors)
    fine = np.empty(lattice.shape, bool)
    along = factors[2]
    for k in range(lattice.shape[0]):
        stop_if(cancelled)
        block = np.logical_and.reduce([hr.measured(n) for n in range(k * along, (k + 1) * along)])
        nj, ni = lattice.shape[1:]
        block = block[: nj * factors[1], : ni * factors[0]]
        fine[k] = block.reshape(nj, factors[1], ni, factors[0]).all(axis=(1, 3))
    coarse = np.stack([lr.measured(k) for k in range(len(lr.volume.voxels))])
    inner = to_image(without_rim(coarse).astype(np.uint8), lr.grid)
    seen = sitk.Resample(inner, empty_image(lattice), transform, sitk.sitkNearestNeighbor, 0)
    both = fine & (sitk.GetArrayFromImage(seen) > 0)
    volumes = [m.sum() * np.prod(g.spacing) for m, g in ((fine, lattice), (coarse, lr.grid))]
    return Common(both, lattice, float(both.sum() * np.prod(lattice.spacing) / max(min(volumes), 1e-9)))


def find_region(common: Common, hr_grid: Grid, options: PrepareOptions) -> Region:
    """The box to keep: see `PrepareOptions.region`.

    Raises
    ------
    InputError
        If it is smaller than `min_size` or has fewer slices than `min_slices`.
    """
    factors = options.factors[::-1]
    least = [-(-n // f) for n, f in zip((options.min_slices, options.min_size, options.min_size), factors, strict=True)]
    box = _bounding_box(common.measured) if options.region == "whole" else largest_box(common.measured, least)
    size = [(b - a) * f for (a, b), f in zip(box, factors, strict=True)]
    if size[0] < options.min_slices or min(size[1:]) < options.min_size:
        raise InputError(
            f"The region that both scans show is only {size[2]} x {size[1]} voxels in {size[0]} slices of the HR scan; "
            f"at least {options.min_size} x {options.min_size} in {options.min_slices} are wanted.",
            'Lower min_size to the HR_size of your training, or choose the region "whole".'
            if options.region == "inside"
            else "Lower min_size to the HR_size of your training, or give scans that overlap more.",
        )
    start = tuple(a * f for (a, _), f in zip(box, factors, strict=True))[::-1]
    stop = tuple(b * f for (_, b), f in zip(box, factors, strict=True))[::-1]
    grid = hr_grid.cropped(start, stop)
    measured = common.measured[tuple(slice(a, b) for a, b in box)]
    return Region(grid, grid.resampled(measured.shape[::-1]), start, stop, measured)


def largest_box(mask: np.ndarray, least: Sequence[int] = (1, 1, 1)) -> list[tuple[int, int]]:
    """The largest box (first, end along each axis) of true voxels, those of at least the size `least` preferred.

    Exact for masks of up to 32 voxels along each axis; otherwise the largest box of blocks, its faces moved outwards.
    """
    steps = [max(1, -(-n // _CELLS)) for n in mask.shape]
    cells = mask  # whether all voxels of each block are true
    for axis, step in enumerate(steps):
        cells = np.logical_and.reduceat(cells, np.arange(0, cells.shape[axis], step), axis=axis)
    best, box = (False, 0), [(0, 0)] * 3
    for first in range(cells.shape[0]):
        flat = np.ones(cells.shape[1:], bool)
        for end in range(first + 1, cells.shape[0] + 1):
            flat &= cells[end - 1]
            if not flat.any():
                break
            for rows, columns in _maximal_rectangles(flat):
                sizes = [(b - a) * s for (a, b), s in zip(((first, end), rows, columns), steps, strict=True)]
                score = (all(n >= m for n, m in zip(sizes, least, strict=True)), int(np.prod(sizes)))
                if score > best:
                    best, box = score, [(first, end), rows, columns]
    return _grown(mask, [(a * s, min(b * s, n)) for (a, b), s, n in zip(box, steps, mask.shape, strict=True)])


def _maximal_rectangles(flat: np.ndarray) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Rectangles (rows, columns) of true pixels that cannot be made taller or wider, among others."""
    heights = np.zeros(flat.shape[1], int)
    for row, line in enumerate(flat):
        heights = np.where(line, heights + 1, 0)
        below = flat[row + 1] if row + 1 < len(flat) else None
        if below is not None and below[line].all():
            continue  # whatever ends here goes on below
        pending: list[tuple[int, int]] = []
        for column, height in enumerate([*heights.tolist(), 0]):
            left = column
            while pending and pending[-1][1] >= height:
                left, tall = pending.pop()
                if tall:
                    yield (row + 1 - tall, row + 1), (left, column)
            pending.append((left, height))


def _grown(mask: np.ndarray, box: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The box with every face moved outwards, in turn, as long as all voxels it gains are true."""
    if any(a >= b for a, b in box):
        return box
    grew = True
    while grew:
        grew = False
        for axis in range(3):
            for side, layer in ((0, box[axis][0] - 1), (1, box[axis][1])):
                face = [slice(a, b) for a, b in box]
                face[axis] = layer
                if 0 <= layer < mask.shape[axis] and mask[tuple(face)].all():
                    a, b = box[axis]
                    box[axis] = (a - 1, b) if side == 0 else (a, b + 1)
                    grew = True
    return box


def _bounding_box(mask: np.ndarray) -> list[tuple[int, int]]:
    """The box around all true voxels, without slices that are mostly false."""
    if not mask.any():
        return [(0, 0)] * 3
    rows, columns = (np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in (1, 2))
    box = [(0, 0), (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)]
    share = mask[:, slice(*box[1]), slice(*box[2])].mean(axis=(1, 2))
    good = share >= _LEAST_MEASURED * share.max()
    middle = int(np.argmax(share))
    first, end = middle, middle + 1
    while first > 0 and good[first - 1]:
        first -= 1
    while end < len(good) and good[end]:
        end += 1
    box[0] = (first, end)
    return box


def without_rim(mask: np.ndarray) -> np.ndarray:
    """The mask without voxels that have a false neighbour along an axis, or none."""
    inner = np.pad(mask, 1)
    for axis in range(3):
        inner = inner & np.roll(inner, 1, axis) & np.roll(inner, -1, axis)
    return inner[1:-1, 1:-1, 1:-1]
