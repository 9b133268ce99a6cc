"""Whether detail is true: agreement with the scan, structures that are not there, and what is made of plain noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..acquisition.anatomy import STANDARD_LEVELS
from ..acquisition.scanner import Acquisition
from .bone import bone_threshold

Enlarge = Callable[[np.ndarray], np.ndarray]
SEEDS = range(10)
EDGE = 64
AWAY_MM = 0.3


def consistency(
    enlarged: np.ndarray,
    truth: np.ndarray,
    coarse: np.ndarray,
    acquisition: Acquisition,
) -> float:
    """How far an enlarged image, degraded again, is from the scan it was made of, in units of the scan's noise.

    Parameters
    ----------
    enlarged, truth : ndarray, shape (k, j, i)
    coarse : ndarray
        The scan of `truth`, clipped to [0, 1].
    acquisition : Acquisition
        How `coarse` was made.

    Returns
    -------
    float
        1 for the truth; more: the scan is contradicted; less: its noise is copied. Pixels that the clipping may have
        touched do not count.
    """
    noise, noiseless = acquisition.noise, replace(acquisition, noise=0.0)
    clean = noiseless.degrade(truth)
    seen = (clean > 3 * noise) & (clean < 1 - 3 * noise)
    residual = noiseless.degrade(enlarged, clip=False) - coarse
    return float(np.sqrt(np.mean(np.square(residual[seen], dtype=np.float64)))) / noise


def spurious_bone(image: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, float, float]) -> float:
    """Pieces of bone where there is none, per cubic centimetre.

    A piece is a component of at least four voxels above the truth's Otsu threshold (the same for every method), all of
    them farther than `AWAY_MM` from bone of the truth.

    Parameters
    ----------
    image, truth : ndarray, shape (k, j, i)
    spacing_mm : (i, j, k)
    """
    threshold = bone_threshold(truth)
    bone = sitk.GetImageFromArray((truth > threshold).astype(np.uint8))
    bone.SetSpacing(spacing_mm)
    away = sitk.SignedMaurerDistanceMap(bone, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    found = sitk.ConnectedComponent(sitk.GetImageFromArray((image > threshold).astype(np.uint8)), True)
    labels = sitk.GetArrayViewFromImage(found).ravel()
    sizes = np.bincount(labels)
    nearest = np.full(len(sizes), np.inf)
    np.minimum.at(nearest, labels, sitk.GetArrayViewFromImage(away).ravel())
    pieces = np.count_nonzero((sizes[1:] >= 4) & (nearest[1:] > AWAY_MM))
    return pieces / (truth.size * float(np.prod(spacing_mm)) * 1e-3)


@dataclass(frozen=True)
class NoiseOnly:
    """What a method makes of homogeneous tissue with noise.

    Attributes
    ----------
    noise : float
        Standard deviation of the result, in units of the window; the largest over tissues and seeds.
    crossed : int
        Voxels beyond the midpoint to the tissue that it could be mistaken for; over all tissues and seeds.
    """

    noise: float
    crossed: int


def negative_control(enlarge: Enlarge, noise: float) -> NoiseOnly:
    """Flat soft tissue, marrow and dentin with noise, ten seeds each: nothing is there, so nothing may appear.

    The ten are the slices of one scan.
    """
    levels = STANDARD_LEVELS
    flat = {levels.soft: levels.bone, levels.marrow: levels.bone, levels.dentin: levels.pulp}
    largest, crossed = 0.0, 0
    for level, other in flat.items():
        midpoint = (level + other) / 2
        truth = np.full((1, 2 * EDGE, 2 * EDGE), level, np.float32)
        scan = np.concatenate([Acquisition(noise=noise).degrade(truth, seed) for seed in SEEDS])
        for result in np.clip(enlarge(scan), 0, 1):
            largest = max(largest, float(result.std()))
            crossed += int(np.count_nonzero((result - midpoint) * (level - midpoint) < 0))
    return NoiseOnly(largest, crossed)
