"""The voxels of a pair: HR as measured, LR resampled; filled where nothing was measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk

from ...blanks import BlankRegion
from ...blanks.fill import BlankFiller
from ...grey.window import Window
from ...volume import Grid
from .grey import to_uint16
from .images import Scan, stop_if
from .region import Region
from .resample import LowResolution

_SLAB = 32


def sampled(
    sampler: LowResolution, region: Region, transform: sitk.Transform, cancelled: Callable[[], bool] | None
) -> np.ndarray:
    """The LR scan on the pair's grid, filled where nothing was measured; grey values, float32."""
    grid, filler = region.lr_grid, _filler(region.measured)
    grey = np.empty(grid.shape, np.float32)
    for first in range(0, len(grey), _SLAB):
        stop_if(cancelled)
        last = min(first + _SLAB, len(grey))
        grey[first:last] = sampler.sample(_slices(grid, first, last), transform)
    if filler:
        for k in range(len(grey)):
            grey[k] = filler.fill(grey[k], k)
    return grey


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


def _slices(grid: Grid, first: int, last: int) -> Grid:
    return grid.cropped((0, 0, first), (*grid.size[:2], last))
