"""The LR scan on the grid of the pair.

The HR scan is the truth that a network learns, so its voxels are kept as they were measured: the HR grid is cropped,
never resampled. The LR scan is resampled once, through the rigid transform, onto a grid that covers exactly the same
extent (outer faces coincide, not centres, as in `Grid.resampled`) and is `scale` times coarser in the slice plane; its
slices are at the HR slices' heights, so that a 2-D network sees pairs. The interpolation is a cubic B-spline, whose
frequency response is flat nearly up to the LR scan's own Nyquist frequency, so that it hardly blurs.

The ratio of the scans' own voxel sizes need not be `scale`. Where the LR scan is coarser than the grid, it is
interpolated and shows less than the grid could hold. Where it is finer, it is blurred first, so that a voxel is as wide
as it would have been measured: a Gaussian of the variance (coarse^2 - fine^2) / 12 that a wider box has in addition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ...volume import Grid
from .images import Scan, empty_image, to_image

_MARGIN = 12  # voxels; a B-spline's reach decays by a factor of 0.27 a voxel
_LEAST_SIGMA = 0.2  # voxels


def native_ratio(hr: Grid, lr: Grid, matrix: np.ndarray) -> tuple[float, float, float]:
    """LR spacing divided by HR spacing along the HR scan's (i, j, k), each with the LR axis nearest to it."""
    return tuple(lr.spacing[axis] / s for axis, s in zip(_nearest_axes(hr, lr, matrix), hr.spacing, strict=True))


def _nearest_axes(hr: Grid, lr: Grid, matrix: np.ndarray) -> list[int]:
    cosines = np.abs(lr.direction.T @ matrix[:3, :3] @ hr.direction)
    return [int(np.argmax(cosines[:, axis])) for axis in range(3)]


class LowResolution:
    """Samples the LR scan, blanks filled, at points of the HR scan's space.

    Keeps two float32 copies of the part of the LR scan that `target` needs.

    Parameters
    ----------
    lr : Scan
    target : Grid
        In the HR scan's space; no point outside it is asked for.
    matrices : sequence of ndarray, shape (4, 4)
        All transforms that will be asked for, from HR points to LR points, the final one first.
    """

    def __init__(self, lr: Scan, target: Grid, matrices: Sequence[np.ndarray]) -> None:
        start, stop = _needed(lr.grid, target, matrices)
        filler, (i, j) = lr.filler(), (slice(start[0], stop[0]), slice(start[1], stop[1]))
        part = np.stack(
            [filler.fill(lr.volume.voxels[k].astype(np.float32), k, j, i) for k in range(start[2], stop[2])]
        )
        image = _widened(to_image(part, lr.grid.cropped(start, stop)), target, lr.grid, matrices[0])
        self._outside = float(np.median(part))
        self._flat = min(image.GetSize()) < 4
        self._image = image if self._flat else sitk.BSplineDecomposition(image, 3)

    def sample(self, grid: Grid, transform: sitk.Transform) -> np.ndarray:
        """Grey values (k, j, i) on a grid, float32; beyond the LR scan, its median."""
        how = sitk.sitkLinear if self._flat else sitk.sitkBSplineResamplerOrder3
        image = sitk.Resample(self._image, empty_image(grid), transform, how, self._outside, sitk.sitkFloat32)
        return sitk.GetArrayFromImage(image)


def _needed(lr: Grid, target: Grid, matrices: Sequence[np.ndarray]) -> tuple[list[int], list[int]]:
    """The box of LR voxels (i, j, k) around everything that will be sampled; never empty."""
    ends = [(-0.5, n - 0.5) for n in target.size]
    corners = np.array([target.point((i, j, k)) for i in ends[0] for j in ends[1] for k in ends[2]])
    homogeneous = np.c_[corners, np.ones(8)].T
    to_index = np.linalg.inv(lr.index_to_point)
    places = np.concatenate([(to_index @ matrix @ homogeneous)[:3] for matrix in matrices], axis=1)
    size = np.array(lr.size)
    start = np.clip(np.floor(places.min(1)) - _MARGIN, 0, size - 1).astype(int)
    stop = np.clip(np.ceil(places.max(1)) + _MARGIN + 1, start + 1, size).astype(int)
    return start.tolist(), stop.tolist()


def _widened(image: sitk.Image, target: Grid, lr: Grid, matrix: np.ndarray) -> sitk.Image:
    """Blurred along the axes where the target is coarser than the LR scan."""
    variances = [0.0, 0.0, 0.0]
    for axis, coarse in zip(_nearest_axes(target, lr, matrix), target.spacing, strict=True):
        variances[axis] = max(0.0, coarse**2 - lr.spacing[axis] ** 2) / 12
    if all(v < (_LEAST_SIGMA * s) ** 2 for v, s in zip(variances, lr.spacing, strict=True)):
        return image
    return sitk.DiscreteGaussian(image, variances, maximumKernelWidth=64, maximumError=0.002, useImageSpacing=True)
