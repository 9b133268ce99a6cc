"""Phantom scans: the same piece of jaw as a fine (reference) and as a coarse (scanned) volume, with known truth.

>>> fine, coarse = jaw_scans((64, 256, 256), 0.1, seed=0)
>>> coarse.grid.size, fine.grid.size
((128, 128, 64), (256, 256, 64))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.volume import Grid
from ..io.volume import Volume
from .anatomy import STANDARD_LEVELS, JawSection, Levels, Struts, Waves, share_inside
from .scanner import ALL_AXES, P2, Acquisition, block_mean, correlated_noise, gaussian_blur

WINDOW = (26000.0, 46000.0)
FINE_BLUR = 0.45  # voxels: how sharply a fine scan shows the object
SLAB_POINTS = 1 << 18


def jaw_phantom(
    shape: Sequence[int],
    spacing_mm: float | Sequence[float],
    seed: int = 0,
    *,
    levels: Levels = STANDARD_LEVELS,
    metal: bool = False,
    supersample: int = 1,
) -> np.ndarray:
    """The true field of a jaw section.

    Parameters
    ----------
    shape : (k, j, i)
    spacing_mm : float or (i, j, k)
        Voxel size.
    seed : int
    levels : Levels
        Grey levels in units of the window.
    metal : bool
        Put a metal crown onto one tooth.
    supersample : int
        Points along each edge of a voxel. Boundaries are anti-aliased already with one; more is exacter for structures
        thinner than a voxel.

    Returns
    -------
    ndarray, shape (k, j, i), float32
        In units of the window [26000, 46000]; not clipped.
    """
    spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
    section = JawSection(seed, tuple(spacing * np.asarray(shape)[::-1]), levels, metal)
    counts = np.asarray(shape) * supersample
    z, y, x = (
        ((np.arange(n) - (n - 1) / 2) * step / supersample).astype(np.float32)
        for n, step in zip(counts, spacing[::-1], strict=True)
    )
    plane_y, plane_x = (p.ravel() for p in np.meshgrid(y, x, indexing="ij"))
    edge = float(np.cbrt(np.prod(spacing))) / supersample
    field = np.empty(tuple(shape), np.float32)
    step = max(1, SLAB_POINTS // (plane_x.size * supersample))
    for start in range(0, shape[0], step):
        heights = z[start * supersample : (start + step) * supersample]
        points = (np.tile(plane_x, len(heights)), np.tile(plane_y, len(heights)), np.repeat(heights, plane_x.size))
        slab = section.values(*points, edge).reshape(len(heights), len(y), len(x))
        field[start : start + step] = block_mean(slab, ALL_AXES, supersample) if supersample > 1 else slab
    return field


def trabecular_phantom(shape: Sequence[int], spacing_mm: float, seed: int = 0) -> np.ndarray:
    """Trabecular bone that fills the picture: struts 0.6 to 1 mm apart, from sparse to dense, of uneven mineral.

    Parameters
    ----------
    shape : (k, j, i)
    spacing_mm : float
        Edge of a voxel.
    seed : int

    Returns
    -------
    ndarray, shape (k, j, i), float32
        In units of the window.
    """
    rng = np.random.default_rng([seed, 0xCA])
    axes = ((np.arange(n) * spacing_mm).astype(np.float32) for n in shape)
    z, y, x = (place.ravel() for place in np.meshgrid(*axes, indexing="ij"))
    apart = float(rng.uniform(0.6, 1.0))
    dense = rng.uniform(0.12, 0.25) * (1 + 0.2 * Waves(rng, 3.0)(x, y, z))
    share = share_inside((Struts(rng, apart).excess(x, y, z) - dense * apart) / np.float32(1.45), spacing_mm)
    marrow, bone = rng.uniform(0.1, 0.3), rng.uniform(0.7, 0.95)
    mineral = bone + 0.05 * Waves(rng, apart)(x, y, z)
    return (marrow + share * (mineral - marrow)).reshape(tuple(shape)).astype(np.float32)


def oblique_grid(shape: Sequence[int], spacing_mm: float | Sequence[float], seed: int = 0) -> Grid:
    """A grid of this shape (k, j, i), centred on the origin, turned by up to 15 degrees about each axis."""
    spacing = np.broadcast_to(np.asarray(spacing_mm, np.float64), 3)
    direction = np.eye(3)
    for axis, angle in enumerate(np.random.default_rng([seed, 0x0B]).uniform(-np.pi / 12, np.pi / 12, 3)):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        direction = turn @ direction
    size = np.asarray(shape)[::-1]
    origin = -direction @ (spacing * (size - 1) / 2)
    return Grid(tuple(size), tuple(spacing), tuple(origin), direction)


def cylinder(shape: Sequence[int], fill: float = 0.98) -> np.ndarray:
    """Mask (j, i) of a centred disc whose diameter is `fill` times the shorter side."""
    rows, columns = shape[-2:]
    y = (np.arange(rows) - (rows - 1) / 2)[:, None]
    x = np.arange(columns) - (columns - 1) / 2
    return np.hypot(y, x) <= fill * min(rows, columns) / 2


def to_grey(field: np.ndarray, window: Sequence[float] = WINDOW, dtype: str = "uint16") -> np.ndarray:
    """Window units to grey values, rounded and clamped to the range of an integer `dtype`."""
    grey = window[0] + (window[1] - window[0]) * field.astype(np.float64)
    if np.issubdtype(np.dtype(dtype), np.floating):
        return grey.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(grey), limits.min, limits.max).astype(dtype)


def as_scan(image: np.ndarray, grid: Grid, blank: float | None = 0, **grey) -> Volume:
    """An image in window units as a scan: grey values (see `to_grey`), and one value outside a cylinder, or None."""
    voxels = to_grey(image, **grey)
    if blank is not None:
        voxels[:, ~cylinder(voxels.shape)] = blank
    return Volume(voxels, grid)


def reference_scan(
    field: np.ndarray,
    grid: Grid,
    seed: int = 0,
    *,
    blur: float = FINE_BLUR,
    noise: float = 0.004,
    blank: float | None = 0,
) -> Volume:
    """The fine scan of a field: its own slight blur and noise, grey values, and a blank cylinder outside.

    Parameters
    ----------
    field : ndarray, shape (k, j, i)
        Window units.
    grid : Grid
        Of the same shape.
    seed : int
        Of the noise.
    blur, noise : float
        Standard deviations, in voxels and in units of the window; 0 for the bare truth.
    blank : float or None
        Grey value outside the cylindrical field of view; None for none.
    """
    image = gaussian_blur(field, blur, ALL_AXES) if blur > 0 else field.copy()
    if noise > 0:
        image += correlated_noise(image.shape, noise, 0.5, ALL_AXES, seed + 1)
    return as_scan(image, grid, blank)


def coarse_scan(
    field: np.ndarray, grid: Grid, seed: int = 0, acquisition: Acquisition = P2, blank: float | None = 0, **grey
) -> Volume:
    """The scan of the same object with half the samples.

    It covers the same extent in space as `grid`, so its origin lies half a fine voxel further in along each halved
    axis.
    """
    image = acquisition.degrade(field, seed, clip=False)
    return as_scan(image, grid.resampled(image.shape[::-1]), blank, **grey)


def jaw_scans(
    shape: Sequence[int] = (64, 256, 256),
    spacing_mm: float | Sequence[float] = 0.1,
    seed: int = 0,
    *,
    planes: str = "axial",
    metal: bool = False,
    noise: float = 0.02,
    blank: float | None = 0,
) -> tuple[Volume, Volume]:
    """The fine and the coarse scan of one procedural jaw section, with oblique direction cosines.

    Both see the object through the fine scan's slight blur, so that the fine scan is what an ideal super-resolution of
    the coarse one would give. The halved extents of `shape` (k, j, i) must be even.
    """
    field = gaussian_blur(jaw_phantom(shape, spacing_mm, seed, metal=metal), FINE_BLUR, ALL_AXES)
    grid = oblique_grid(shape, spacing_mm, seed)
    fine = reference_scan(field, grid, seed, blur=0, blank=blank)
    return fine, coarse_scan(field, grid, seed, Acquisition(planes, noise=noise), blank)
