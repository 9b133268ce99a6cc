"""A scan in memory: voxels and where they are in space.

Voxels are indexed (k, j, i), slice first. Spacing, origin and size are given in the order (i, j, k) that SimpleITK and
NRRD use; positions are in millimetres in the LPS frame (x to the patient's left, y to the back, z to the head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .errors import InputError

THICK = 1.5  # times the next coarser spacing: from here on slices are thick


@dataclass(frozen=True, eq=False)
class Grid:
    """Positions of the voxel centres of a volume.

    Attributes
    ----------
    size : tuple of int
        Number of voxels along (i, j, k).
    spacing : tuple of float
        Distance between neighbouring voxel centres along (i, j, k), in mm.
    origin : tuple of float
        LPS position of the centre of voxel (0, 0, 0), in mm.
    direction : ndarray, shape (3, 3)
        Column c is the unit vector along which index c grows. Left-handed and oblique frames are kept as they are.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        object.__setattr__(self, "spacing", tuple(float(s) for s in self.spacing))
        object.__setattr__(self, "origin", tuple(float(o) for o in self.origin))
        object.__setattr__(self, "direction", np.asarray(self.direction, dtype=np.float64).reshape(3, 3))
        if not (np.all(np.isfinite(self.spacing)) and min(self.spacing) > 0):
            raise InputError(
                f"The spacing {self.spacing} mm is not positive.", "Correct it in the file or with --spacing."
            )
        if not (np.all(np.isfinite(self.direction)) and abs(np.linalg.det(self.direction)) > 1e-6):
            raise InputError("The axes of the volume do not span space.", "Correct the direction cosines in the file.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in the order of the voxel array, (k, j, i)."""
        return self.size[::-1]

    @property
    def index_to_point(self) -> np.ndarray:
        """Matrix (4, 4) from (i, j, k, 1) to LPS millimetres."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    def point(self, index: Sequence[float]) -> np.ndarray:
        """LPS position in mm of a (possibly fractional) index (i, j, k)."""
        return (self.index_to_point @ [*index, 1.0])[:3]

    def resampled(self, size: Sequence[int]) -> Grid:
        """Grid of another size that covers exactly the same physical extent.

        spacing' = spacing * n_in / n_out and origin' = origin + direction @ ((spacing' - spacing) / 2), because the
        outer faces of the voxels coincide, not their centres.
        """
        spacing = np.asarray(self.spacing) * np.asarray(self.size) / np.asarray(size)
        origin = np.asarray(self.origin) + self.direction @ ((spacing - self.spacing) / 2)
        return Grid(tuple(size), tuple(spacing), tuple(origin), self.direction)

    def as_acquired(self, across: int) -> Grid:
        """The same places with k and another axis exchanged: `across`, 0 to 2 of (k, j, i), becomes k."""
        size, spacing = (as_acquired(values[::-1], across)[::-1] for values in (self.size, self.spacing))
        columns = as_acquired(self.direction.T[::-1], across)[::-1]
        return Grid(size, spacing, self.origin, np.stack(columns, 1))

    def cropped(self, start: Sequence[int], stop: Sequence[int]) -> Grid:
        """Grid of the voxels with start <= index < stop, both in the order (i, j, k)."""
        size = tuple(b - a for a, b in zip(start, stop, strict=True))
        return replace(self, size=size, origin=tuple(self.point(start)))


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels and their grid; `io.volume.Volume` is one that can also be read and written.

    Attributes
    ----------
    voxels : ndarray, shape (k, j, i)
        Grey values, of any integer or real type. May be a read-only view of memory owned by someone else.
    grid : Grid
        Where the voxels are.
    padding_value : float or None
        Value that the file declares to mean "nothing was measured here" (DICOM Pixel Padding Value, in grey values).
    report : dict
        What was done to obtain this volume; for one that was read, at most "warnings": sentences for the user.
    """

    voxels: np.ndarray
    grid: Grid
    padding_value: float | None = None
    report: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.voxels.ndim != 3:
            raise InputError(
                f"A volume has three dimensions; this one has {self.voxels.ndim}.",
                "Choose a scalar volume, not a single image, colour or time series.",
            )
        if self.voxels.shape != self.grid.shape:
            raise InputError(f"The voxels {self.voxels.shape} and the grid {self.grid.shape} differ in size.")

    @property
    def spacing(self) -> tuple[float, float, float]:
        return self.grid.spacing

    @property
    def origin(self) -> tuple[float, float, float]:
        return self.grid.origin

    @property
    def direction(self) -> np.ndarray:
        return self.grid.direction


def across_slices(spacing: Sequence[float]) -> int:
    """The axis, 0 to 2 of (k, j, i), across which a scan's slices are thick; 0 if they are not.

    A sagittal or coronal scan that was stored in the order of an axial one has them along i or j. `spacing` is along
    (i, j, k), in mm.
    """
    *_, second, widest = sorted(spacing)
    return list(spacing[::-1]).index(widest) if widest > THICK * second else 0


def as_acquired(values: Sequence, across: int) -> list:
    """What is known of the axes (k, j, i), with the axis across the slices first; twice, it is as it was."""
    turned = list(values)
    turned[0], turned[across] = turned[across], turned[0]
    return turned


def scaled_size(size: Sequence[int], scale: Sequence[float]) -> tuple[int, ...]:
    """Number of voxels after scaling, at least one, halves rounded up; both in the same axis order."""
    return tuple(max(1, int(np.floor(n * s + 0.5))) for n, s in zip(size, scale, strict=True))
