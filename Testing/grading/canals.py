"""Root canals: how many thin ones a method shows, and how often it shows one in a root that has none.

A cross-section is one canal in one slice. It is found if a voxel within 0.15 mm of the canal's true centre is darker
than the midpoint of dentin and pulp. In a root without a canal, two connected voxels that dark are a false one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from CBCTSuperResLib.acquisition.anatomy import JawSection, Tooth
from CBCTSuperResLib.acquisition.phantom import FINE_BLUR
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, gaussian_blur

WIDTHS_MM = (0.2, 0.4)
NEAR_MM = 0.15
DENTIN_LEFT_MM = 0.4  # the outer part of a root, next to the dark periodontal gap, is not searched for false canals
DEPTHS = (0.35, 0.95)  # of the roots, in shares of their length: below the furcation, above the apex
EXTENT_MM = (34.0, 34.0, 30.0)


@dataclass(frozen=True)
class CrossSection:
    """One root in one slice.

    Attributes
    ----------
    slice : int
    centre : (row, column)
        Of the root and its canal, in voxels.
    radius : float
        Around the centre, in voxels: within it there is nothing but dentin and, perhaps, the canal.
    width_mm : float
        Of the canal; 0 in a root without one.
    """

    slice: int
    centre: tuple[float, float]
    radius: float
    width_mm: float


@dataclass(frozen=True)
class CanalPhantom:
    """Roots whose canals are known.

    Attributes
    ----------
    truth : ndarray, shape (k, j, i)
        Window units, with the slight blur of a fine scan.
    spacing_mm : float
    sections : tuple of CrossSection
    midpoint : float
        Between dentin and pulp.
    """

    truth: np.ndarray
    spacing_mm: float
    sections: tuple[CrossSection, ...]
    midpoint: float


@dataclass(frozen=True)
class CanalCounts:
    """Attributes
    ----------
    found, canals : int
        Cross-sections of canals that are shown, and that there are.
    false, free : int
        Cross-sections without a canal in which one is shown, and those there are.
    """

    found: int
    canals: int
    false: int
    free: int

    @property
    def sensitivity(self) -> float:
        return self.found / self.canals if self.canals else float("nan")

    @property
    def false_rate(self) -> float:
        return self.false / self.free if self.free else float("nan")


def canal_phantom(seed: int, spacing_mm: float = 0.125, slices: int = 48, edge: int = 256) -> CanalPhantom:
    """Roots of a jaw, every second tooth without canals.

    Parameters
    ----------
    seed : int
    spacing_mm : float
        Of the fine scan; a coarse one has twice of it in the slices.
    slices, edge : int
        Extent of the phantom, in voxels.
    """
    section = JawSection(seed, EXTENT_MM)
    section.teeth = [replace(tooth, canals=number % 2 == 0) for number, tooth in enumerate(section.teeth)]
    roots = np.array([section.position(tooth, 0, 0, -0.6 * tooth.root_length) for tooth in section.teeth])
    in_view = np.abs(roots[:, 0]) < edge * spacing_mm / 2
    x = (np.arange(edge) - (edge - 1) / 2) * spacing_mm
    y = x + roots[in_view, 1].mean()
    z = roots[in_view, 2].mean() + (np.arange(slices) - (slices - 1) / 2) * spacing_mm
    plane_y, plane_x = (p.ravel().astype(np.float32) for p in np.meshgrid(y, x, indexing="ij"))
    truth = np.stack(
        [section.values(plane_x, plane_y, np.full_like(plane_x, h), spacing_mm).reshape(edge, edge) for h in z]
    )
    found = [c for tooth in section.teeth for c in _cross_sections(section, tooth, z, (y[0], x[0]), spacing_mm, edge)]
    levels = section.levels
    blurred = np.clip(gaussian_blur(truth, FINE_BLUR, ALL_AXES), 0, 1)
    return CanalPhantom(blurred, spacing_mm, tuple(found), (levels.dentin + levels.pulp) / 2)


def count_canals(image: np.ndarray, phantom: CanalPhantom) -> CanalCounts:
    """Count the canals that an image of the phantom shows, on the phantom's grid and in its units."""
    dark = image < phantom.midpoint
    counts = {"found": 0, "canals": 0, "false": 0, "free": 0}
    for section in phantom.sections:
        if section.width_mm:
            counts["canals"] += 1
            counts["found"] += bool((dark[section.slice] & _disc(section, NEAR_MM / phantom.spacing_mm, dark)).any())
        else:
            counts["free"] += 1
            counts["false"] += _largest_piece(dark[section.slice] & _disc(section, section.radius, dark)) >= 2
    return CanalCounts(**counts)


def _cross_sections(
    section: JawSection, tooth: Tooth, z: np.ndarray, first: Sequence[float], step: float, edge: int
) -> Iterator[CrossSection]:
    """Those of a tooth's roots that have a canal of the widths that count, or would have it, and lie in the view."""
    for number, height in enumerate(z):
        below = float(height - section.position(tooth, 0, 0, 0)[2])
        depth = -below / tooth.root_length
        width = 2 * float(tooth.canal_radius_at(np.float32(below)))
        if not DEPTHS[0] < depth < DEPTHS[1] or not WIDTHS_MM[0] <= width <= WIDTHS_MM[1]:
            continue
        for u, v in tooth.root_centres(np.float32(below)):
            x, y, _ = section.position(tooth, float(u), float(v), below)
            centre = ((y - first[0]) / step, (x - first[1]) / step)
            radius = _dentin_around(tooth, u, v, np.float32(below)) / step
            if radius > 1 and all(radius + 2 < c < edge - radius - 3 for c in centre):
                yield CrossSection(number, centre, radius, width if tooth.canals else 0.0)


def _dentin_around(tooth: Tooth, u: np.float32, v: np.float32, height: np.float32) -> float:
    """Radius, in mm, of the disc around a root's centre that stays away from its surface."""
    radii, angles = np.meshgrid(np.arange(0.1, 3, 0.05, np.float32), np.arange(0, 2 * np.pi, np.pi / 8, np.float32))
    surface = tooth.surface(u + radii * np.cos(angles), v + radii * np.sin(angles), np.full_like(radii, height))
    outside = (surface > -DENTIN_LEFT_MM).any(axis=0)
    return float(radii[0, np.argmax(outside)]) if outside.any() else 0.0


def _disc(section: CrossSection, radius: float, like: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(n) - c for n, c in zip(like.shape[1:], section.centre, strict=True))
    return np.hypot(rows[:, None], columns) <= radius


def _largest_piece(mask: np.ndarray) -> int:
    if not mask.any():
        return 0
    pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
    return int(np.bincount(pieces.ravel())[1:].max())
