"""Rigid transforms: from files, from matrices, as matrices. They map points of the HR scan to points of the LR scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import InputError

_RIGID = 2e-3
ADVICE = "Save a rigid transform (rotation and translation only) of the LR volume onto the HR volume from Slicer."


def rigid(matrix: np.ndarray, centre: Sequence[float]) -> sitk.Euler3DTransform:
    """The transform of a rigid matrix (4, 4), turning about a centre in mm."""
    centre = np.asarray(centre, np.float64)
    u, _, v = np.linalg.svd(matrix[:3, :3])
    rotation = u @ v
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetMatrix(rotation.ravel().tolist(), 1e-6)
    transform.SetTranslation((matrix[:3, :3] @ centre + matrix[:3, 3] - centre).tolist())
    return transform


def matrix_of(transform: sitk.Transform) -> np.ndarray:
    """Matrix (4, 4) of a transform that is linear."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    for axis, point in enumerate(np.eye(3) * 100):
        matrix[:3, axis] = (np.array(transform.TransformPoint(point.tolist())) - origin) / 100
    return matrix


def shift(vector: Sequence[float]) -> np.ndarray:
    """Matrix (4, 4) of a translation in mm."""
    matrix = np.eye(4)
    matrix[:3, 3] = vector
    return matrix


def angle_deg(matrix: np.ndarray) -> float:
    """Rotation angle of a rigid matrix (4, 4)."""
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))


def read_rigid(path: str | Path) -> np.ndarray:
    """Matrix (4, 4) of a transform file (.tfm, .txt, .h5, .mat).

    Slicer saves every linear transform as an affine one; it is taken if its matrix is a rotation.

    Raises
    ------
    InputError
        If the file is no transform, is not linear, or scales, shears or mirrors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"The initial transform {path} does not exist.", "Check the name and the folder.")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise InputError(f"{path.name} cannot be read as a transform.", ADVICE) from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise InputError(f"{path.name} is no linear transform of space.", ADVICE)
    matrix = matrix_of(transform)
    rotation = matrix[:3, :3]
    if not np.isfinite(matrix).all() or np.abs(rotation.T @ rotation - np.eye(3)).max() > _RIGID:
        raise InputError(f"{path.name} scales or shears; scans of one patient differ by a rigid movement.", ADVICE)
    if np.linalg.det(rotation) < 0:
        raise InputError(f"{path.name} mirrors.", ADVICE)
    return matrix
