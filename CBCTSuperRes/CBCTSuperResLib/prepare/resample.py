"""The voxels of a pair: the HR scan as measured, the LR scan resampled; windows, and what they cut off.

The HR scan is the truth that a network learns, so its voxels are kept as they were measured: the HR grid is cropped,
never resampled. The LR scan is resampled once, through the rigid transform, onto a grid that covers exactly the same
extent (outer faces coincide, not centres, as in `Grid.resampled`) and is `scale` times coarser in the slice plane; its
slices are at the HR slices' heights, so that a 2-D network sees pairs. The interpolation is a cubic B-spline, whose
frequency response is flat nearly up to the LR scan's own Nyquist frequency, so that it hardly blurs.

The ratio of the scans' own voxel sizes need not be `scale`. Where the LR scan is coarser than the grid, it is
interpolated and shows less than the grid could hold. Where it is finer, it is blurred first, so that a voxel is as wide
as it would have been measured: a Gaussian of the variance (coarse^2 - fine^2) / 12 that a wider box has in addition.

What neither scan measured is filled alike in both images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError
from ..core.volume import Grid
from ..scan.blank_filling import BlankFiller
from ..scan.blank_region import BlankRegion
from ..scan.window import Window
from .images import Scan, block_means, empty_image, stop_if, to_image
from .options import PrepareOptions
from .region import Region

UINT16 = 65535
_SLAB = 32  # slices that are resampled at a time
_MARGIN = 12  # voxels; a B-spline's reach decays by a factor of 0.27 a voxel
_LEAST_SIGMA = 0.2  # voxels
_TOLERANCE = 0.02  # of the window: below it two scans count as of one grey scale
_SHARE = 0.1  # of the voxels, those farthest from the line, that it disregards


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

    def sample_region(
        self, region: Region, transform: sitk.Transform, cancelled: Callable[[], bool] | None
    ) -> np.ndarray:
        """Grey values (k, j, i) on the pair's grid, float32; filled where nothing was measured."""
        grid, filler = region.lr_grid, _filler(region.measured)
        grey = np.empty(grid.shape, np.float32)
        for first in range(0, len(grey), _SLAB):
            stop_if(cancelled)
            last = min(first + _SLAB, len(grey))
            grey[first:last] = self.sample(grid.cropped((0, 0, first), (*grid.size[:2], last)), transform)
        if filler:
            for k in range(len(grey)):
                grey[k] = filler.fill(grey[k], k)
        return grey


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


@dataclass(frozen=True)
class Line:
    """LR grey value = gain * HR grey value + offset, as far as both show the same."""

    gain: float
    offset: float
    correlation: float


def fit_line(hr: np.ndarray, lr: np.ndarray, measured: np.ndarray) -> Line:
    """The line through the grey values of two aligned images of one grid, without the tenth that fits worst.

    Both are averaged over blocks first: their different sharpness would tilt the line. The line is that of the first
    principal axis of the standardised values, so that noise in either does not.

    Raises
    ------
    InputError
        If one of them is constant.
    """
    steps = [max(1, min(4, n // 6)) for n in hr.shape[::-1]]
    blocks = [block_means(part, steps) for part in (hr, lr, measured)]
    inside = blocks[2] > 0.999
    x, y = blocks[0][inside].astype(np.float64), blocks[1][inside].astype(np.float64)
    if x.size < 8 or min(np.ptp(x), np.ptp(y)) == 0:
        raise InputError("The region that both scans show is of one grey value.", "Check that the scans were read.")
    keep = np.ones(x.size, bool)
    for _ in range(3):
        gain = np.std(y[keep]) / np.std(x[keep])
        offset = np.mean(y[keep]) - gain * np.mean(x[keep])
        residual = np.abs(y - gain * x - offset)
        keep = residual <= np.quantile(residual, 1 - _SHARE)
    return Line(float(gain), float(offset), float(np.corrcoef(x, y)[0, 1]))


def window_of_lr(window: Window, line: Line, options: PrepareOptions) -> tuple[Window, str]:
    """The window of the LR scan, given the HR scan's, and a sentence for the user."""
    matched = Window(*(line.gain * bound + line.offset for bound in (window.lo, window.hi)), source="matched")
    apart = max(abs(matched.lo - window.lo), abs(matched.hi - window.hi)) / window.width
    if options.intensity == "same" or (options.intensity == "auto" and apart <= _TOLERANCE):
        return window, "Both scans have the same window."
    return matched, (
        f"The LR scan's grey values are {line.gain:.4g} times the HR scan's {line.offset:+.4g}, "
        f"so its window is [{matched.lo:.5g}, {matched.hi:.5g}]."
    )


def to_uint16(values: np.ndarray, window: Window) -> np.ndarray:
    """Grey values with 0 and 65535 at the window's bounds."""
    return np.rint(window.to_unit(values) * np.float32(UINT16)).astype(np.uint16)


def hr_voxels(
    hr: Scan, region: Region, window: Window, cancelled: Callable[[], bool] | None
) -> tuple[np.ndarray, float]:
    """The HR scan's part of the pair, uint16, and the share of its measured voxels that the window cut off."""
    box = [slice(a, b) for a, b in zip(region.start, region.stop, strict=True)]
    repeats = [a // b for a, b in zip(region.hr_grid.shape, region.measured.shape, strict=True)]
    voxels = np.empty(region.hr_grid.shape, np.uint16)
    clipped = 0.0
    for k in range(len(voxels)):
        stop_if(cancelled)
        values = hr.volume.voxels[box[2].start + k, box[1], box[0]].astype(np.float32)
        measured = region.measured[k // repeats[0]]
        if not measured.all():
            measured = np.repeat(np.repeat(measured, repeats[1], 0), repeats[2], 1)
            values = _filler(measured[None]).fill(values, 0)
        clipped += window.clipped_share(values)
        voxels[k] = to_uint16(values, window)
    return voxels, clipped / len(voxels)


def _filler(measured: np.ndarray) -> BlankFiller | None:
    """Fills what is not measured; None where everything is."""
    if measured.all():
        return None
    region = BlankRegion("values", "", 1.0, voxels=(~measured).astype(np.uint8))
    return BlankFiller(region, measured.shape)
