"""Measures of bone: how much there is, how thick it is, and how far its surface is from where it should be.

All in mm. Bone is what lies above a threshold, which is chosen once, on the truth, and is the same for every method
(`bone_threshold`); so a method cannot look better by a threshold of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..core.thresholds import otsu_cuts

STEP = 1.18  # from one diameter to the next, the same in every image
COMPACT_MM = 0.6  # thicker bone counts as compact (cortical), thinner as trabecular


@dataclass(frozen=True)
class Thickness:
    """Thickness of an image's bone where the truth has bone of a kind.

    Attributes
    ----------
    truth_mm, image_mm : float
        Means over the voxels that are bone in both; NaN where there are none.
    voxels : int
    """

    truth_mm: float
    image_mm: float
    voxels: int

    @property
    def error(self) -> float:
        """Relative: +0.1 for bone that is 10 % too thick."""
        return self.image_mm / self.truth_mm - 1 if self.voxels else float("nan")


def bone_threshold(image: np.ndarray) -> float:
    """The threshold that separates bone from the rest best: Otsu's, from 256 bins over all values."""
    counts, edges = np.histogram(image, 256)
    return float(edges[otsu_cuts(counts, 2)[0]])


def bone_volume_fraction(bone: np.ndarray, region: np.ndarray | None = None) -> float:
    """BV/TV: share of bone among all voxels, or among those of a region."""
    return float(np.mean(bone if region is None else bone[region]))


def local_thickness(image: np.ndarray, threshold: float, spacing: Sequence[float]) -> np.ndarray:
    """Diameter of the largest ball inside the bone that contains a voxel (Hildebrand and Rueegsegger, 1997).

    The image is interpolated linearly to half the distance of its voxels before the threshold is applied, so that the
    result follows the grey values and not the voxels. Diameters are on a ladder with rungs `STEP` apart.

    Parameters
    ----------
    image : ndarray, 2-D or 3-D
    threshold : float
        Bone is above it.
    spacing : sequence of float
        Distance of the voxels along each axis of `image`, in mm.

    Returns
    -------
    ndarray of float32
        In mm; 0 outside the bone.
    """
    bone, fine = image > threshold, _at_half_steps(image) > threshold
    found = np.zeros(bone.shape, np.float32)
    if not bone.any():
        return found
    half, voxels = [step / 2 for step in spacing], (slice(None, None, 2),) * bone.ndim
    surface = min(half) / 2  # on average, half a fine step before the first point that is no bone
    smallest = min(half)
    radius = _with_peaks_between(_distance(~fine, half)) - np.float32(surface)
    radius[~np.isfinite(radius)] = sum(n * step for n, step in zip(bone.shape, spacing, strict=True)) / 2
    rungs = max(0, int(np.log(float(radius.max()) / smallest) / np.log(STEP) + 1e-6))
    for rung in smallest * STEP ** np.arange(rungs, -1, -1):
        reached = _distance(radius >= rung * (1 - 1e-6), half)[voxels] <= rung + surface
        found[bone & (found == 0) & reached] = rung * (1 + STEP)  # between this diameter and the next
    found[bone & (found == 0)] = smallest
    return found


def thickness_map(image: np.ndarray, threshold: float, spacing: Sequence[float], planes: bool = False) -> np.ndarray:
    """`local_thickness` of a volume (k, j, i); with `planes`, of discs in each slice instead of balls."""
    if not planes:
        return local_thickness(image, threshold, spacing)
    return np.stack([local_thickness(plane, threshold, spacing[1:]) for plane in image])


def thickness_between(
    image_map: np.ndarray, truth_map: np.ndarray, smallest_mm: float = 0.0, largest_mm: float = np.inf
) -> Thickness:
    """Compare two maps of thickness where the truth's is in a range, both ends included."""
    where = (image_map > 0) & (truth_map > 0) & (truth_map >= smallest_mm) & (truth_map <= largest_mm)
    if not where.any():
        return Thickness(float("nan"), float("nan"), 0)
    return Thickness(float(truth_map[where].mean()), float(image_map[where].mean()), int(np.count_nonzero(where)))


def dice(bone: np.ndarray, truth: np.ndarray) -> float:
    """Overlap 2 |A and B| / (|A| + |B|); 1 for two empty masks."""
    together = np.count_nonzero(bone) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(bone & truth) / together if together else 1.0


@dataclass(frozen=True)
class SurfaceDistance:
    """Distances between two surfaces, both ways, in mm; NaN if one of them does not exist.

    Attributes
    ----------
    mean, percentile95 : float
    """

    mean: float
    percentile95: float


def surface_distance(bone: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> SurfaceDistance:
    """How far the surface of bone is from that of the truth: mean, and the 95th percentile (HD95).

    Parameters
    ----------
    bone, truth : ndarray of bool
    spacing : sequence of float
        Along each axis, in mm.
    """
    shells = [_surface(mask) for mask in (bone, truth)]
    if not all(shell.any() for shell in shells):
        return SurfaceDistance(float("nan"), float("nan"))
    away = [_distance(shell, spacing)[other] for shell, other in (shells, shells[::-1])]
    both = np.concatenate(away)
    return SurfaceDistance(float(both.mean()), float(np.percentile(both, 95)))


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask with a neighbour, across a face, that is outside; the border of the array is no surface."""
    inner = np.ones_like(mask)
    for axis in range(mask.ndim):
        for ahead in (slice(1, None), slice(None, -1)):
            back = slice(None, -1) if ahead.start else slice(1, None)
            there = tuple(ahead if a == axis else slice(None) for a in range(mask.ndim))
            here = tuple(back if a == axis else slice(None) for a in range(mask.ndim))
            inner[here] &= mask[there]
    return mask & ~inner


def _at_half_steps(image: np.ndarray) -> np.ndarray:
    """The image with the points half way between its voxels, interpolated linearly."""
    for axis in range(image.ndim):
        image = np.moveaxis(image, axis, 0)
        fine = np.empty((2 * len(image) - 1, *image.shape[1:]), np.float32)
        fine[::2], fine[1::2] = image, (image[:-1] + image[1:]) / 2
        image = np.moveaxis(fine, 0, axis)
    return image


def _with_peaks_between(depth: np.ndarray) -> np.ndarray:
    """Depths in which a crest that runs between two points counts at the higher of them.

    The crest is where the slopes of both sides meet, each continued as it is on its own side.
    """
    higher = depth.copy()
    for axis in range(depth.ndim):
        for order in (1, -1):
            before, here, after = (np.moveaxis(depth, axis, 0)[::order][n : n - 2 or None] for n in range(3))
            with np.errstate(invalid="ignore"):
                peak = (here + after + (here - before)) / 2
                at_crest = (after <= here) & (before < here)
            target = np.moveaxis(higher, axis, 0)[::order][1:-1]
            np.copyto(target, np.maximum(target, peak), where=at_crest)
    return higher


def _distance(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance of every voxel from the nearest one of the mask, in mm; infinite if there is none."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(step) for step in spacing[::-1]])
    away = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return np.maximum(sitk.GetArrayFromImage(away), 0)
