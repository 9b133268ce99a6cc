"""Is this a scan? Refuses, in plain words, arrays that super-resolution could only make worse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..core.errors import InputError

LABEL_VALUES = 16  # a noisy scan of any use has more grey values than this
LABEL_RANGE = 255
LABEL_REPEATS = 4  # voxels for each label, so that a handful of voxels is no label map
SLAB_BYTES = 32 * 1024 * 1024


def check_size(size: Sequence[int], components: int = 1) -> None:
    """Refuse what is not a scalar volume of at least two slices; `size` is in the order (i, j, k, ...).

    Raises
    ------
    InputError
    """
    if components > 1:
        raise InputError(
            f"There are {components} values in each voxel: a colour image, a vector field or a time series.",
            "Choose a volume of grey values, or extract one component of it.",
        )
    if 0 in size:
        raise InputError(f"The volume is empty: its size is {_times(size)}.", "Choose another file.")
    if len(size) < 3:
        raise InputError(
            f"This is a single image of {_times(size)} pixels, not a volume.",
            "Give the folder that holds all slices, or a volume file.",
        )
    if any(n > 1 for n in size[3:]):
        raise InputError(
            f"The data have {len(size)} dimensions ({_times(size)}): a time series or several volumes in one file.",
            "Save one of its volumes in a file of its own.",
        )
    if min(size[:3]) < 2:
        raise InputError(
            f"The volume has a single slice along one axis: its size is {_times(size[:3])}.",
            "Give the folder that holds all slices, or a volume with at least two voxels along each axis.",
        )


def check_voxels(voxels: np.ndarray) -> None:
    """Refuse types without grey values, NaN and infinity, constant volumes and label maps.

    Works slab by slab: the extra memory is about 32 MB whatever the volume's size.

    Parameters
    ----------
    voxels : ndarray, shape (k, j, i)

    Raises
    ------
    InputError
    """
    if voxels.dtype.kind not in "iuf":
        raise InputError(
            f"The voxels are of type {voxels.dtype}, which holds no grey values.",
            "Convert the volume to an integer or real type, for instance int16 or float32.",
        )
    check_size(voxels.shape[::-1])
    if voxels.dtype.kind == "f":
        _check_finite(voxels)
    if _is_constant(voxels):
        raise InputError(
            f"All voxels have the same value, {voxels.flat[0]}: nothing is in this volume.", "Choose another."
        )
    labels = _label_values(voxels)
    if labels is not None:
        raise InputError(
            f"This looks like a label map: its voxels have only {len(labels)} values, "
            f"from {labels[0]:g} to {labels[-1]:g}.",
            "Choose the scan that it was drawn on.",
        )


def slabs(voxels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """First slice and view of consecutive slabs of about 32 MB."""
    thickness = max(1, SLAB_BYTES // max(1, voxels[0].nbytes))
    for k in range(0, len(voxels), thickness):
        yield k, voxels[k : k + thickness]


def _check_finite(voxels: np.ndarray) -> None:
    bad, first = 0, None
    for k, slab in slabs(voxels):
        finite = np.isfinite(slab)
        if finite.all():
            continue
        bad += slab.size - int(np.count_nonzero(finite))
        if first is None:
            dk, j, i = np.unravel_index(int(np.argmin(finite)), slab.shape)
            first = (int(i), int(j), int(dk) + k)
    if bad:
        raise InputError(
            f"{bad} of {voxels.size} voxels are not finite numbers (NaN or infinity); "
            f"the first is at (i, j, k) = {first}.",
            "Replace them by the value of air, or crop them away.",
        )


def _is_constant(voxels: np.ndarray) -> bool:
    first = voxels.flat[0]
    return all(bool((slab == first).all()) for _, slab in slabs(voxels))


def _label_values(voxels: np.ndarray) -> np.ndarray | None:
    """The few, whole, close values of a label map; None as soon as a slab shows a scan."""
    values = np.empty(0, voxels.dtype)
    middle_first = sorted(slabs(voxels), key=lambda item: abs(item[0] - len(voxels) // 2))
    for _, slab in middle_first:
        for part in (slab[len(slab) // 2, ::8, ::8], slab):
            values = np.union1d(values, part)
            if len(values) > LABEL_VALUES:
                return None
    span = float(values[-1]) - float(values[0])
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    repeated = voxels.size >= LABEL_REPEATS * len(values)
    return values if whole and repeated and span <= LABEL_RANGE else None


def _times(size: Sequence[int]) -> str:
    return " x ".join(str(n) for n in size)
