"""A phantom from somebody's label map: its bones and teeth, with tissues and trabeculae drawn into them.

Label maps are coarser than the phantom. Their surfaces are taken half way between the labels' voxels, smoothed, and
interpolated as signed distances, so that the phantom has no stairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..core.errors import InputError, OptionError
from ..core.volume import Grid
from ..io.volume import Volume
from .anatomy import (
    STANDARD_LEVELS,
    STRUT_THRESHOLD,
    Levels,
    Struts,
    mix,
    share_inside,
)

BONE, TOOTH, CANAL = "bone", "tooth", "canal"
DENTAL_LABELS = {1: BONE, 2: BONE, 3: TOOTH, 4: TOOTH, 5: CANAL}  # of DentalSegmentator
CORTEX_MM = 1.2
ENAMEL_MM = 0.9
PULP_DEPTH_MM = 2.3  # of the pulp below the surface of a tooth
SKIN_MM = 8.0  # soft tissue around the bones
SMOOTH_VOXELS = 0.7
CANAL_WALL_MM = 0.3


def phantom_of_labels(
    labels: Volume,
    spacing_mm: float,
    *,
    centre_mm: Sequence[float] | None = None,
    shape: Sequence[int] = (64, 256, 256),
    meaning: Mapping[int, str] = DENTAL_LABELS,
    levels: Levels = STANDARD_LEVELS,
    seed: int = 0,
) -> tuple[np.ndarray, Grid]:
    """The true field of a piece of a label map.

    Bones get a compact shell and trabeculae; teeth get dentin and, on the side away from bone, enamel; canals a thin
    wall. What surrounds the bones is soft tissue, and air beyond.

    Parameters
    ----------
    labels : Volume
        Whole numbers.
    spacing_mm : float
        Voxels of the phantom.
    centre_mm : (x, y, z), optional
        Middle of the phantom in space (LPS); that of the teeth, or of all labels, if not given.
    shape : (k, j, i)
        Voxels of the phantom.
    meaning : mapping of int to "bone", "tooth" or "canal"
        Others are soft tissue.
    levels : Levels
    seed : int
        Of the trabeculae.

    Returns
    -------
    field : ndarray of float32, shape (k, j, i)
        In units of the window.
    grid : Grid

    Raises
    ------
    InputError
        If the map has none of the labels.
    OptionError
        If a label means something unknown.
    """
    if unknown := set(meaning.values()) - {BONE, TOOTH, CANAL}:
        raise OptionError(f"Labels cannot mean {', '.join(sorted(unknown))}.", "Use bone, tooth and canal.")
    kinds = {
        kind: np.isin(labels.voxels, [n for n, k in meaning.items() if k == kind]) for kind in (BONE, TOOTH, CANAL)
    }
    if not any(mask.any() for mask in kinds.values()):
        raise InputError("The label map has none of the labels of bone, teeth and canal.", "Say what its labels mean.")
    if centre_mm is None:  # where the teeth are, or all that is labelled
        mask = kinds[TOOTH] if kinds[TOOTH].any() else np.logical_or.reduce(list(kinds.values()))
        centre_mm = labels.grid.point([float(np.mean(places)) for places in np.nonzero(mask)][::-1])
    size = np.asarray(shape)[::-1]
    origin = np.asarray(centre_mm) - np.asarray(labels.grid.direction) @ ((size - 1) / 2 * spacing_mm)
    grid = Grid(tuple(int(n) for n in size), (spacing_mm,) * 3, tuple(origin), labels.grid.direction)
    bone, tooth, canal = (_distance_on(grid, labels.grid, mask) for mask in kinds.values())
    field = np.full(tuple(shape), levels.air, np.float32)
    mix(field, share_inside(np.minimum(bone, tooth) - SKIN_MM, spacing_mm), levels.soft)
    mix(field, share_inside(bone, spacing_mm), levels.bone)
    mix(field, share_inside(bone + CORTEX_MM, spacing_mm), _cancellous(grid, spacing_mm, levels, seed))
    mix(field, share_inside(canal - CANAL_WALL_MM, spacing_mm) * share_inside(bone, spacing_mm), levels.bone)
    mix(field, share_inside(canal, spacing_mm), levels.soft)
    mix(field, share_inside(tooth - 0.2, spacing_mm) * share_inside(bone, spacing_mm), levels.soft)
    mix(field, share_inside(tooth, spacing_mm), levels.dentin)
    in_crown = np.clip(bone / np.float32(3), 0, 1)  # enamel thins out towards the bone
    mix(field, share_inside(tooth, spacing_mm) * share_inside(-tooth - ENAMEL_MM * in_crown, spacing_mm), levels.enamel)
    mix(field, share_inside(tooth + PULP_DEPTH_MM, spacing_mm), levels.pulp)
    return field, grid


def read_label_map(path: str | Path) -> Volume:
    """Read a label map from a file of any format that SimpleITK reads.

    Raises
    ------
    InputError
        If it cannot be read, is no volume, or has voxels that are no whole numbers.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(f"{path} cannot be read: {reason}.", "Give a label map as NRRD, NIfTI or MHA.") from error
    voxels = sitk.GetArrayFromImage(image)
    if image.GetDimension() != 3 or voxels.ndim != 3 or voxels.dtype.kind not in "iu":
        raise InputError(f"{path} is no label map of whole numbers in three dimensions.", "Give another file.")
    direction = np.reshape(image.GetDirection(), (3, 3))
    return Volume(voxels, Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), direction))


def _distance_on(grid: Grid, where: Grid, mask: np.ndarray) -> np.ndarray:
    """Signed distance from a mask's surface in mm, negative inside, on another grid."""
    if not mask.any():
        return np.full(grid.size[::-1], np.float32(1e3))
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(where.spacing)
    image.SetOrigin(where.origin)
    image.SetDirection(np.asarray(where.direction).ravel().tolist())
    reach = max(2.0, SKIN_MM + 4)
    near = _cropped(image, grid, reach)
    away = sitk.SignedMaurerDistanceMap(near, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    away = sitk.SmoothingRecursiveGaussian(
        sitk.Cast(away, sitk.sitkFloat32), [SMOOTH_VOXELS * s for s in where.spacing]
    )
    target = sitk.ResampleImageFilter()
    target.SetSize([int(n) for n in grid.size])
    target.SetOutputSpacing(grid.spacing)
    target.SetOutputOrigin(grid.origin)
    target.SetOutputDirection(np.asarray(grid.direction).ravel().tolist())
    target.SetInterpolator(sitk.sitkBSpline)
    target.SetDefaultPixelValue(1e3)
    return sitk.GetArrayFromImage(target.Execute(away)).astype(np.float32) - np.float32(min(where.spacing) / 2)


def _cropped(image: sitk.Image, grid: Grid, margin_mm: float) -> sitk.Image:
    """The part of an image that a grid and its surroundings lie in."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid.size], indexing="ij")).reshape(3, -1)
    points = (grid.index_to_point @ np.vstack([corners, np.ones(8)]))[:3].T
    index = np.array([image.TransformPhysicalPointToContinuousIndex([float(x) for x in p]) for p in points])
    margin = np.ceil(margin_mm / np.array(image.GetSpacing()))
    first = np.clip(np.floor(index.min(axis=0) - margin), 0, None).astype(int)
    last = np.minimum(np.ceil(index.max(axis=0) + margin).astype(int) + 1, image.GetSize())
    if np.any(last - first < 4):
        raise InputError("The phantom would lie outside the label map.", "Choose another centre.")
    return sitk.RegionOfInterest(image, [int(n) for n in last - first], [int(n) for n in first])


def _cancellous(grid: Grid, spacing_mm: float, levels: Levels, seed: int) -> np.ndarray:
    """Marrow with trabeculae everywhere, shape (k, j, i)."""
    struts = Struts(np.random.default_rng([seed, 0x7B]))
    z, y, x = (np.arange(n, dtype=np.float32) * np.float32(spacing_mm) for n in grid.size[::-1])
    plane_y, plane_x = (p.ravel() for p in np.meshgrid(y, x, indexing="ij"))
    planes = [struts.excess(plane_x, plane_y, np.full_like(plane_x, height)) for height in z]
    distance = (np.stack(planes) - np.float32(STRUT_THRESHOLD)) / np.float32(1.5)
    share = share_inside(distance, spacing_mm).reshape(grid.size[::-1])
    return (levels.marrow + share * np.float32(levels.bone - levels.marrow)).astype(np.float32)
