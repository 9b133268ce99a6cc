"""Where scans can be compared: a box of the reference that all of them cover, and their grey values at its points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError
from ..core.volume import Grid
from ..io.volume import Volume
from ..scan.blank_region import BlankRegion

MOST = (48, 512, 512)  # voxels along (k, j, i): more would make the measures take hours
LEAST = (3, 32, 32)
SAME_POINT = 0.02  # voxels
BLANK_SLICES = 16

Box = tuple[tuple[int, int], ...]


def common_box(reference: Grid, others: Sequence[Grid], blanks: BlankRegion, most: Sequence[int] = MOST) -> Box:
    """A box (k, j, i) of the reference, in which all others have values and nothing is blank.

    Parameters
    ----------
    most : three int
        Largest extent along (k, j, i); of more, the middle is taken.

    Raises
    ------
    InputError
        If there is no such box worth comparing.
    """
    box = [(0, n) for n in reference.shape]
    for other in others:
        box = _covered(box, reference, other)
    box = _without_blanks(box, blanks)
    if any(stop - start < least for (start, stop), least in zip(box, LEAST, strict=True)):
        size = " x ".join(str(max(0, stop - start)) for start, stop in box[::-1])
        raise InputError(
            f"Only {size} voxels of the reference can be compared.",
            "The scans must show the same place; blank regions do not count. Register them, or choose others.",
        )
    starts = (start + max(0, stop - start - n) // 2 for (start, stop), n in zip(box, most, strict=True))
    return tuple((a, min(stop, a + n)) for a, (_, stop), n in zip(starts, box, most, strict=True))


def _covered(box: list[tuple[int, int]], reference: Grid, other: Grid) -> list[tuple[int, int]]:
    """The box, made smaller face by face until its corners lie within the other grid: both are convex."""

    def beyond(candidate: Sequence[tuple[int, int]]) -> np.ndarray:
        """How far each corner lies beyond the outermost voxel centres of the other grid, in its voxels."""
        index = _index_of(other, _corners(candidate, reference))
        return np.maximum(np.maximum(-index, index - (np.array(other.size) - 1)), 0)

    reach = _index_of(reference, _corners([(0, n) for n in other.shape], other))
    low, high = np.ceil(reach.min(0) - 0.5)[::-1], np.floor(reach.max(0) + 0.5)[::-1] + 1
    box = [(max(a, int(lo)), min(b, int(hi))) for (a, b), lo, hi in zip(box, low, high, strict=True)]
    allowed = 0.5 + SAME_POINT
    while all(stop > start for start, stop in box) and beyond(box).max() > allowed:
        faces = [(axis, *change) for axis in range(3) for change in ((1, 0), (0, -1))]
        smaller = [[(a + d * (n == axis), b + e * (n == axis)) for n, (a, b) in enumerate(box)] for axis, d, e in faces]
        box = min(smaller, key=lambda candidate: float(np.maximum(beyond(candidate) - allowed, 0).sum()))
    return box


def _without_blanks(box: list[tuple[int, int]], blanks: BlankRegion) -> list[tuple[int, int]]:
    """The box without empty slices, and then without the rows and columns that reach farthest into blank regions."""
    if not blanks or any(stop <= start for start, stop in box):
        return box
    (first, last), *in_plane = box
    part = tuple(slice(start, stop) for start, stop in in_plane)

    def mask_of(k: int) -> np.ndarray | None:
        mask = blanks.mask(k)
        return None if mask is None else mask[part]

    measured = [k for k in range(first, last) if (m := mask_of(k)) is None or not m.all()]
    if not measured:
        return [(first, first), *in_plane]
    first, last = measured[0], measured[-1] + 1
    step = max(1, (last - first) // BLANK_SLICES)
    masks = [m for k in measured[::step] if (m := mask_of(k)) is not None]
    if masks:
        rows, columns = _largest_free(np.logical_or.reduce(masks))
        in_plane = [(n + a, n + b) for (n, _), (a, b) in zip(in_plane, (rows, columns), strict=True)]
    return [(first, last), *in_plane]


def _largest_free(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """A rectangle without any True, found by leaving out the outermost line with the most of them again and again."""
    top, bottom, left, right = 0, mask.shape[0], 0, mask.shape[1]
    while top < bottom and left < right and mask[top:bottom, left:right].any():
        part = mask[top:bottom, left:right]
        shares = [part[0].mean(), part[-1].mean(), part[:, 0].mean(), part[:, -1].mean()]
        worst = int(np.argmax(shares))
        if shares[worst] == 0:  # blank spots inside: from the nearer side
            row = int(np.flatnonzero(part.any(1))[0])
            worst = 0 if row < part.shape[0] - row else 1
        top, bottom = top + (worst == 0), bottom - (worst == 1)
        left, right = left + (worst == 2), right - (worst == 3)
    return (top, bottom), (left, right)


def cropped(volume: Volume, box: Box) -> Volume:
    """A view of the voxels in a box (k, j, i)."""
    start, stop = ([pair[n] for pair in box[::-1]] for n in (0, 1))
    voxels = volume.voxels[tuple(slice(*pair) for pair in box)]
    return Volume(voxels, volume.grid.cropped(start, stop))


def have_the_same_points(a: Grid, b: Grid) -> bool:
    """Whether every voxel of the smaller grid has one of the larger at its place."""
    if not np.allclose(
        a.index_to_point[:3, :3],
        b.index_to_point[:3, :3],
        rtol=0,
        atol=SAME_POINT * min(a.spacing) / max(*a.size, *b.size),
    ):
        return False
    offset = _index_of(b, np.array([a.origin]))[0]
    return bool(np.abs(offset - np.rint(offset)).max() <= SAME_POINT)


def at_points(volume: Volume, grid: Grid) -> np.ndarray:
    """Grey values (k, j, i), float32, at the points of a grid within the volume.

    Taken as they are where the volume has these points, otherwise interpolated by cubic B-splines.
    """
    start = np.rint(_index_of(volume.grid, np.array([grid.origin]))[0]).astype(int)
    inside = np.all(start >= 0) and np.all(start + grid.size <= np.array(volume.grid.size))
    if inside and have_the_same_points(grid, volume.grid):
        box = tuple((int(s), int(s + n)) for s, n in zip(start[::-1], grid.shape, strict=True))
        return cropped(volume, box).voxels.astype(np.float32)
    image = sitk.GetImageFromArray(volume.voxels.astype(np.float32))
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction.ravel().tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(sitk.sitkBSpline)
    resampler.SetSize([int(n) for n in grid.size])
    resampler.SetOutputSpacing(grid.spacing)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction.ravel().tolist())
    resampler.SetDefaultPixelValue(float(volume.voxels.min()))
    return sitk.GetArrayFromImage(resampler.Execute(image))


def nearest_at_points(volume: Volume, grid: Grid) -> np.ndarray:
    """Grey values (k, j, i), float32, of the voxels nearest to the points of a grid."""
    to_index = np.linalg.inv(volume.grid.index_to_point) @ grid.index_to_point
    steps = [np.arange(n) for n in grid.size]
    parts = [[to_index[row, axis] * steps[axis] for axis in range(3)] for row in range(3)]
    index = [
        np.clip(
            np.rint(i[None, None, :] + j[None, :, None] + k[:, None, None] + to_index[row, 3]).astype(np.intp),
            0,
            volume.grid.size[row] - 1,
        )
        for row, (i, j, k) in enumerate(parts)
    ]
    return volume.voxels[index[2], index[1], index[0]].astype(np.float32)


def box_around(volume: Grid, region: Grid, margin: int) -> Box:
    """The voxels (i, j, k) of a volume that a region touches, and some more; half-open ranges."""
    index = _index_of(volume, _corners([(0, n) for n in region.shape], region))
    start = np.clip(np.floor(index.min(0)) - margin, 0, None).astype(int)
    stop = np.minimum(np.ceil(index.max(0)).astype(int) + 1 + margin, volume.size)
    return tuple((int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _index_of(grid: Grid, points: np.ndarray) -> np.ndarray:
    """Fractional indices (n, 3) in the order (i, j, k) of LPS points (n, 3)."""
    return np.linalg.solve(grid.index_to_point[:3, :3], (points - np.asarray(grid.origin)).T).T


def _corners(box: Sequence[tuple[int, int]], grid: Grid) -> np.ndarray:
    """LPS centres (8, 3) of the corner voxels of a box (k, j, i)."""
    indices = [corner[::-1] for corner in product(*((start, stop - 1) for start, stop in box))]
    return np.array([grid.point(index) for index in indices])
