"""When a registration plainly failed, and what the user should know of one that did not."""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ...volume import Grid
from .options import PrepareOptions
from .register import Registration
from .residual import Alignment
from .rigid import angle_deg

_LEAST_MATCHED = 0.7  # share of the blocks with structure that must be found again
_RATIO_TOLERANCE = 1.15
ADVICE = (
    "Check that both are of one patient. If they are, align them roughly in Slicer (Transforms, or Landmark "
    "Registration) and give the transform of the LR volume as the initial transform."
)


def check_movement(found: Registration, hr: Grid, options: PrepareOptions) -> None:
    """Refuse a movement that went nowhere or too far.

    Raises
    ------
    InputError
    """
    if found.metric >= 0:
        raise InputError("Registration failed: the scans do not overlap where it started.", ADVICE)
    if found.metric > found.metric_at_start:
        raise InputError(
            f"Registration failed: the mutual information ({-found.metric:.3f}) is not better than at the start "
            f"({-found.metric_at_start:.3f}).",
            ADVICE,
        )
    turned, moved, furthest = *movement(found), limit_mm(hr, options)
    if turned > options.max_rotation_deg or moved > furthest:
        raise InputError(
            f"Registration failed: it turned the LR scan by {turned:.1f} degrees and moved it by {moved:.1f} mm, "
            f"beyond the limits of {options.max_rotation_deg:g} degrees and {furthest:.1f} mm.",
            ADVICE,
        )


def movement(found: Registration) -> tuple[float, float]:
    """Degrees, and mm at the centre of the HR scan, from the start to the end."""
    centre = np.r_[found.centre, 1.0]
    moved = float(np.linalg.norm((found.matrix @ centre - found.start @ centre)[:3]))
    return angle_deg(found.matrix @ np.linalg.inv(found.start)), moved


def limit_mm(hr: Grid, options: PrepareOptions) -> float:
    """How far registration may move the LR scan, in mm."""
    half = float(np.linalg.norm(np.asarray(hr.size) * hr.spacing) / 2)
    return half if options.max_shift_mm is None else options.max_shift_mm


def check_overlap(overlap: float, options: PrepareOptions) -> None:
    """Raises
    ------
    InputError
    """
    if overlap < options.min_overlap:
        raise InputError(
            f"The scans have only {overlap:.0%} of the smaller one's field of view in common; "
            f"at least {options.min_overlap:.0%} are wanted.",
            ADVICE,
        )


def check_alignment(alignment: Alignment, lr_voxel_mm: float, options: PrepareOptions) -> list[str]:
    """Refuse misaligned images; the return value is what the user should know of those that are not refused.

    Raises
    ------
    InputError
    """
    failed = "Registration failed: " if options.register else "The scans are not aligned: "
    advice = ADVICE if options.register else "Let them be registered, or give the transform that aligns them."
    if alignment.blocks == 0:
        raise InputError(
            f"{failed}no part of the region has enough structure to tell whether the images fit.",
            "Give scans with more bone or teeth in common, or a narrower window.",
        )
    if alignment.matched < _LEAST_MATCHED * alignment.blocks:
        raise InputError(
            f"{failed}only {alignment.matched} of {alignment.blocks} blocks of the HR image were found again in the "
            "LR image.",
            advice,
        )
    if alignment.median_mm > options.max_residual * lr_voxel_mm:
        raise InputError(
            f"{failed}a residual misalignment of {alignment.median_mm:.3g} mm (median) remains, more than "
            f"{options.max_residual:g} LR voxels of {lr_voxel_mm:.3g} mm.",
            advice,
        )
    if min(alignment.correlation, alignment.gradient_correlation) < options.min_correlation:
        raise InputError(
            f"{failed}the images correlate by {alignment.correlation:.2f} and their gradients by "
            f"{alignment.gradient_correlation:.2f}; at least {options.min_correlation:g} is wanted.",
            advice,
        )
    if alignment.p95_mm <= lr_voxel_mm:
        return []
    return [
        f"One block in twenty is displaced by more than {alignment.p95_mm:.2g} mm, where an LR voxel is "
        f"{lr_voxel_mm:.2g} mm: the patient may have moved during a scan. Look at the checkerboard."
    ]


def warn_of_ratio(ratio: tuple[float, float, float], options: PrepareOptions, hr: Grid) -> list[str]:
    """What it means that the scans' own voxel sizes are not `scale` apart."""
    axes = range(3) if options.planes == "isotropic" else range(2)
    share = float(np.exp(np.mean([np.log(ratio[axis] / options.scale) for axis in axes])))
    if 1 / _RATIO_TOLERANCE <= share <= _RATIO_TOLERANCE:
        return []
    own = f"The LR scan's voxels are {share * options.scale:.2f} times as wide as the HR scan's, not {options.scale}: "
    if share > 1:
        wanted = share * hr.spacing[0]
        return [
            f"{own}its slices were interpolated and show less than a scan of their pixel size would. A network that is "
            f"trained on them sharpens too much; resampling the HR scan to {wanted:.3g} mm first avoids that."
        ]
    return [
        f"{own}its slices were averaged to wider pixels and show less noise than a scan of their pixel size would. "
        "A network that is trained on them expects smoother scans than the scanner gives."
    ]
