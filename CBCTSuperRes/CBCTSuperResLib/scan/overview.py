"""An overview of a scan for a panel: where it is blank, its tissue levels and its histogram, from a lattice of voxels.

What is computed later looks at all voxels; the lattice is for what is shown before, in a tenth of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor

import numpy as np

from ..core.volume import Grid
from ..io.checks import check_voxels
from ..io.volume import Volume
from .blank_region import BlankRegion, Box
from .field_of_view import find_blanks
from .tissue import TissueLevels, levels_of, sample_voxels

MOST_VOXELS = 1_500_000
ROBUST = (0.1, 99.9)


@dataclass(frozen=True, eq=False)
class Overview:
    """What a lattice of a scan's voxels shows.

    Attributes
    ----------
    size : tuple of int
        Of the scan, along (i, j, k).
    step : int
        Every so many voxels along each axis are in the lattice.
    blanks : BlankRegion
        On the lattice.
    sample : ndarray of float, 1-D
        Grey values of the lattice that are not blank.
    lattice : ndarray, shape (k, j, i)
    """

    size: tuple[int, int, int]
    step: int
    blanks: BlankRegion
    sample: np.ndarray
    lattice: np.ndarray

    @cached_property
    def levels(self) -> TissueLevels:
        """Tissue levels in grey values.

        Raises
        ------
        InputError
            If all voxels that are not blank have the same value.
        """
        return levels_of(self.sample)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Grey values that leave out a thousandth of the sample at either end."""
        if not self.sample.size:
            return (0.0, 1.0)
        lo, hi = np.percentile(self.sample, ROBUST)
        return (float(lo), float(hi)) if lo < hi else (float(lo), float(lo) + 1.0)

    def histogram(self, lo: float, hi: float, bins: int) -> np.ndarray:
        """Counts of the sample between two grey values."""
        return np.histogram(self.sample, bins, (lo, hi))[0]

    def sample_within(self, roi: Box) -> np.ndarray:
        """Grey values of the lattice in a box of the scan, half-open along (i, j, k), that are not blank."""
        box = []
        for (start, stop), length in zip(roi[::-1], self.lattice.shape, strict=True):
            first = min(ceil(start / self.step), length - 1)
            box.append((first, max(first + 1, ceil(stop / self.step))))  # at least one of its voxels
        return sample_voxels(self.lattice, self.blanks, tuple(box))

    @property
    def measured(self) -> Box:
        """The voxels of the scan, half-open along (i, j, k), that enclose what is not blank; rather too many."""
        lattice = [-(-n // self.step) for n in self.size[::-1]]
        ranges = [list(pair) for pair in self.blanks.box] if self.blanks else [[0, n] for n in lattice]
        if self.blanks.axis is not None:
            across = [axis for axis in range(3) if axis != self.blanks.axis]
            for axis, centre, radius in zip(across, self.blanks.centre, self.blanks.radii, strict=True):
                ranges[axis][0] = max(ranges[axis][0], floor(centre - radius))
                ranges[axis][1] = min(ranges[axis][1], ceil(centre + radius) + 1)
        pairs = zip(ranges[::-1], self.size, strict=True)
        return tuple((max(0, (a - 1) * self.step + 1), min(n, b * self.step)) for (a, b), n in pairs)


def overview_of(volume: Volume, blank: str | float = "auto") -> Overview:
    """Look at every so many voxels of a scan.

    Parameters
    ----------
    volume : Volume
    blank : "auto", "none" or a grey value

    Raises
    ------
    InputError, OptionError
        If the scan holds no numbers, or the blank value is none.
    """
    step = 1
    while np.prod([-(-n // step) for n in volume.grid.size], dtype=np.int64) > MOST_VOXELS:
        step += 1
    voxels = np.ascontiguousarray(volume.voxels[::step, ::step, ::step])
    check_voxels(voxels)
    grid = Grid(voxels.shape[::-1], tuple(step * s for s in volume.spacing), volume.origin, volume.direction)
    blanks = find_blanks(Volume(voxels, grid, volume.padding_value), blank)
    return Overview(volume.grid.size, step, blanks, sample_voxels(voxels, blanks), voxels)
