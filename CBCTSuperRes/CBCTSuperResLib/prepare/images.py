"""Volumes as SimpleITK images: whole and filled, or reduced to what registration needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core.errors import Cancelled
from ..core.volume import Grid
from ..io.volume import Volume
from ..scan.blank_filling import BlankFiller
from ..scan.blank_region import BlankRegion

_OUTERMOST = (0.2, 99.8)  # percentiles; metal and clamped air beyond them would leave the histogram few bins for tissue


@dataclass(frozen=True)
class Scan:
    """A volume and its blank region.

    Attributes
    ----------
    volume : Volume
    blank : BlankRegion
    title : str
        "HR" or "LR", for messages.
    """

    volume: Volume
    blank: BlankRegion
    title: str

    @property
    def grid(self) -> Grid:
        return self.volume.grid

    def filler(self) -> BlankFiller:
        return BlankFiller(self.blank, self.volume.voxels.shape)

    def measured(self, k: int) -> np.ndarray:
        """Voxels of slice k that are not blank, bool (j, i)."""
        mask = self.blank.mask(k)
        return np.ones(self.volume.voxels.shape[1:], bool) if mask is None else ~mask


@dataclass(frozen=True)
class Working:
    """An image for registration and where it was measured; both of the same geometry."""

    image: sitk.Image
    mask: sitk.Image


def stop_if(cancelled: Callable[[], bool] | None) -> None:
    """Raise `Cancelled` if the user asked to stop."""
    if cancelled and cancelled():
        raise Cancelled("Cancelled; nothing was written.")


def to_image(array: np.ndarray, grid: Grid) -> sitk.Image:
    """A copy of an array (k, j, i) at its place in space."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array), isVector=False)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def empty_image(grid: Grid) -> sitk.Image:
    """One byte a voxel, for its geometry alone."""
    return to_image(np.zeros(grid.shape, np.uint8), grid)


def coarser(grid: Grid, factors: Sequence[int]) -> Grid:
    """Grid of blocks of `factors` (i, j, k) voxels; what is left over at the end is dropped."""
    size = [n // f for n, f in zip(grid.size, factors, strict=True)]
    return grid.cropped((0, 0, 0), [n * f for n, f in zip(size, factors, strict=True)]).resampled(size)


def block_means(array: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means of blocks of `factors` (i, j, k) voxels of an array (k, j, i), float32."""
    counts = [n // f for n, f in zip(array.shape, factors[::-1], strict=True)]
    whole = array[tuple(slice(0, n * f) for n, f in zip(counts, factors[::-1], strict=True))]
    split = [part for n, f in zip(counts, factors[::-1], strict=True) for part in (n, f)]
    return whole.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32)


def reduced(scan: Scan, spacing_mm: float, cancelled: Callable[[], bool] | None = None) -> Working:
    """Block means of a scan at about this spacing, blanks filled, scaled to [0, 1] by its own percentiles.

    Works slice by slice, so that no float copy of the whole scan is made.
    """
    factors = [min(n, max(1, round(spacing_mm / s))) for s, n in zip(scan.grid.spacing, scan.grid.size, strict=True)]
    grid = coarser(scan.grid, factors)
    image, mask = np.empty(grid.shape, np.float32), np.empty(grid.shape, bool)
    filler, thickness = scan.filler(), factors[2]
    for k in range(grid.shape[0]):
        stop_if(cancelled)
        slices = range(k * thickness, (k + 1) * thickness)
        filled = np.stack([filler.fill(scan.volume.voxels[n].astype(np.float32), n) for n in slices])
        measured = np.stack([scan.measured(n) for n in slices])
        image[k] = block_means(filled, factors)[0]
        mask[k] = block_means(measured, factors)[0] > 0.999
    lo, hi = np.percentile(image[mask] if mask.any() else image, _OUTERMOST)
    unit = np.clip((image - lo) / max(hi - lo, 1e-6), 0, 1)
    return Working(to_image(unit, grid), to_image(mask.astype(np.uint8), grid))


def shrunk(working: Working, spacing_mm: float) -> Working:
    """The same at a coarser spacing; a block is measured if nearly all of it was."""
    sizes = zip(working.image.GetSpacing(), working.image.GetSize(), strict=True)
    factors = [int(min(n, max(1, round(spacing_mm / s)))) for s, n in sizes]
    if max(factors) == 1:
        return working
    share = sitk.BinShrink(sitk.Cast(working.mask, sitk.sitkFloat32), factors)
    return Working(sitk.BinShrink(working.image, factors), sitk.Cast(share > 0.8, sitk.sitkUInt8))


def grid_of(image: sitk.Image) -> Grid:
    """The grid of an image."""
    direction = np.reshape(image.GetDirection(), (3, 3))
    return Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction)
