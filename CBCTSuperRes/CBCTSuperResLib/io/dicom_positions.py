"""Where the slices of a DICOM series lie: from the positions that they record, or in the order of their numbers.

What is lacking, doubled or uneven is refused with its reason; what rounding explains is taken. Worker-side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import InputError
from ..core.volume import Grid
from .dicom_frames import EXPORT, TRAITS, DicomFrame
from .folders import SHOWN

ORIENTATION_TOLERANCE = 1e-3  # of direction cosines; scanners write them with four to six decimals
EVEN = 0.02  # of the slice distance: how far a slice may be off an even grid without a word
USABLE = 0.1  # of the slice distance: further off, voxels would be visibly displaced
DOUBLED_MM = 1e-4
PART = "Export the whole series again, or give a folder with an evenly spaced part of it."
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
NO_NORMAL = "The volume may be mirrored: compare left and right with a scan that you know."


def placed(
    frames: Sequence[DicomFrame], spacing: Sequence[float] | None, warnings: list[str]
) -> tuple[list[DicomFrame], Grid]:
    """Frames that record where they are, sorted along their common normal, and their grid."""
    first = frames[0]
    if first.axes is None:
        lies_flat = not np.ptp([frame.position[:2] for frame in frames], axis=0).any()
        if not spacing or not lies_flat:
            raise InputError(
                "The slices do not record where they are (Image Orientation, Patient).",
                "Export them again; or, if they are axial, give their spacing x, y and z in mm (--spacing)."
                if lies_flat
                else "Export them again, or convert them with the scanner's software.",
            )
        warnings.append(f"The slices do not record how they lie; they were taken as axial. {NO_NORMAL}")
        frames = [replace(frame, axes=AXIAL) for frame in frames]
        first = frames[0]
    right, down, normal = _axes(first)
    frames, is_certain = _sorted(frames, normal)
    positions = np.array([frame.position for frame in frames])
    heights = positions @ normal
    decimals = np.where(np.ptp(positions, axis=0) > 0, np.min([frame.rounding for frame in frames], axis=0), 0)
    rounding = float(np.abs(normal) @ decimals)
    origin, step, off = _fitted_line(positions)
    fitted = float(np.linalg.norm(step))
    given = float(spacing[2]) if spacing and is_certain and _fits(heights, spacing[2], rounding) else None
    if given is None:
        _check_gaps(frames, heights, rounding)
        _check_line(frames, off, fitted, rounding, warnings)
    elif off.max() > EVEN * given:
        warnings.append(
            f"The positions of the slices are rounded to {2 * rounding:g} mm; the given {given:g} mm agree with them."
        )
    sideways = np.linalg.norm(step - (step @ normal) * normal)
    is_rounding = sideways * (len(frames) - 1) <= 2 * np.linalg.norm(decimals)
    if sideways <= ORIENTATION_TOLERANCE * (step @ normal) or is_rounding:
        step = (step @ normal) * normal
    else:
        angle = np.degrees(np.arctan2(sideways, step @ normal))
        warnings.append(
            f"The slices are tilted by {angle:.1f} degrees (gantry tilt); they keep their positions on a sheared grid."
        )
    distance = float(np.linalg.norm(step))
    return frames, Grid(
        size=(*first.size, len(frames)),
        spacing=(*_pixel_spacing(first, spacing), given or distance),
        origin=tuple(origin),
        direction=np.column_stack([right, down, step / distance]),
    )


def _sorted(frames: Sequence[DicomFrame], normal: np.ndarray) -> tuple[list[DicomFrame], bool]:
    """Frames along the normal; whether those that rounding puts at one place are in a certain order, by their numbers.

    Numbers may run up or down, as they do for the others.
    """
    heights = np.array([normal @ frame.position for frame in frames])
    numbers = np.array([(frame.file.instance_number or 0) + frame.index for frame in frames], float)
    upwards = 1 if (heights - heights.mean()) @ (numbers - numbers.mean()) >= 0 else -1
    order = np.lexsort((upwards * numbers, heights.round(6)))
    has_ties = bool((np.diff(heights[order]) < DOUBLED_MM).any())
    is_certain = not has_ties or bool((np.diff(upwards * numbers[order]) > 0).all())
    return [frames[n] for n in order], is_certain


def _axes(frame: DicomFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors along rows, along columns and normal to them; the rounding of the file's cosines is removed."""
    right, down = np.reshape(frame.axes, (2, 3))
    if abs(right @ down) > ORIENTATION_TOLERANCE or not np.allclose((right @ right, down @ down), 1, atol=0.01):
        raise InputError(f"The axes of {frame.name} are no unit vectors at right angles.", "Export the series again.")
    right = right / np.linalg.norm(right)
    down = down - (down @ right) * right
    down = down / np.linalg.norm(down)
    return right, down, np.cross(right, down)


def _pixel_spacing(frame: DicomFrame, given: Sequence[float] | None) -> tuple[float, float]:
    """(x, y) in mm, as recorded, or else as given."""
    can_be = frame.spacing and min(frame.spacing) > 0
    spacing = frame.spacing if can_be else given and given[:2]
    if not spacing:
        what = f"{frame.name} records a pixel spacing of {frame.spacing} mm"
        raise InputError(
            f"{what if frame.spacing else 'The slices do not record their pixel spacing'}.",
            "Give the spacing x, y and z in mm (--spacing).",
        )
    return tuple(spacing)


def _fitted_line(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First point and step of the line of evenly spaced points nearest to `positions`, and how far each is off it."""
    k = np.arange(len(positions)) - (len(positions) - 1) / 2
    middle = positions.mean(0)
    step = k @ (positions - middle) / (k @ k)
    return middle + k[0] * step, step, np.linalg.norm(positions - middle - k[:, None] * step, axis=1)


def _fits(heights: np.ndarray, distance: float, rounding: float) -> bool:
    """Whether rounding alone explains how the heights differ from those of slices so far apart."""
    off = heights - distance * np.arange(len(heights))
    return float(np.ptp(off)) <= 2 * rounding * 1.001 + 1e-9


def _check_gaps(frames: Sequence[DicomFrame], heights: np.ndarray, rounding: float) -> None:
    """Refuse doubled and missing slices."""
    gaps = np.diff(heights)
    doubled = np.flatnonzero(gaps < DOUBLED_MM)
    if len(doubled):
        raise InputError(*_doubled(frames, gaps, doubled, rounding))
    usual = float(np.median(gaps))
    near = np.abs(gaps - usual) <= max(0.5 * usual, 2 * rounding)
    usual = float(gaps[near].mean())  # the median of rounded gaps is rounded, too
    allowed = max(2 * USABLE * usual, 2 * rounding)
    odd = np.flatnonzero(np.abs(gaps - usual) > allowed)
    if len(odd):
        n = odd[0]
        missing = round(gaps[n] / usual) - 1
        cause = f"{missing} missing" if missing > 0 and abs(gaps[n] / usual - missing - 1) < 0.05 else "uneven spacing"
        more = f", and {len(odd) - 1} more such gaps" if len(odd) > 1 else ""
        raise InputError(
            f"The slices are not evenly spaced ({cause}): between {frames[n].name} and {frames[n + 1].name} "
            f"there are {gaps[n]:.4g} mm instead of {usual:.4g} mm{more}.",
            PART,
        )


def _doubled(frames: Sequence[DicomFrame], gaps: np.ndarray, doubled: np.ndarray, rounding: float) -> tuple[str, str]:
    """What is said of slices at one place, and why there may be several."""
    a, b = frames[doubled[0]], frames[doubled[0] + 1]
    count = "A slice is" if len(doubled) == 1 else f"{len(doubled)} slices are"
    what = f"{count} at the place of another one; the first are {a.name} and {b.name}."
    pairs = [(frames[n], frames[n + 1]) for n in doubled]
    if all(a.file is not b.file and a.file.uid and a.file.uid == b.file.uid for a, b in pairs):
        return f"{what} They are the same image twice (SOP Instance UID).", "Remove the copies."
    for part, words in enumerate(TRAITS):
        values = Counter(frame.traits[part] for frame in frames)
        if len(values) > 1 and all(a.traits[part] != b.traits[part] for a, b in pairs):
            counts = ", ".join(f"{value or 'none'}: {count}" for value, count in list(sorted(values.items()))[:SHOWN])
            return f"The series holds {len(values)} {words} ({counts} slices). {what}", "Export one of them."
    steps = gaps[gaps >= DOUBLED_MM]
    if len(steps) and 2 * rounding >= 0.5 * float(np.median(steps)):
        return (
            f"{what} All positions are rounded to {2 * rounding:g} mm.",
            "Give the true spacing x, y and z in mm (--spacing), or remove the doubles.",
        )
    return what, "Remove the doubles, or keep one time point or one reconstruction of the series."


def _check_line(
    frames: Sequence[DicomFrame], off: np.ndarray, distance: float, rounding: float, warnings: list[str]
) -> None:
    """Small deviations of each gap may still add up, and slices may shift sideways."""
    worst = int(np.argmax(off))
    if off[worst] > USABLE * distance:
        what = f"{frames[worst].name} is {off[worst]:.3g} mm off an even grid of {distance:.4g} mm"
        if off[worst] <= 2 * rounding:
            raise InputError(
                f"The slices are not evenly spaced: {what}. Their positions are rounded to {2 * rounding:g} mm.",
                "Give their true spacing x, y and z in mm (--spacing).",
            )
        raise InputError(
            f"The slices are not evenly spaced on a straight line (uneven spacing): {what}.",
            "Resample the volume to evenly spaced slices first.",
        )
    if off[worst] > EVEN * distance:
        warnings.append(
            f"The slices are up to {off[worst]:.2g} mm off an even grid of {distance:.4g} mm; it was taken."
        )


def unplaced(
    frames: Sequence[DicomFrame], spacing: Sequence[float] | None, warnings: list[str]
) -> tuple[list[DicomFrame], Grid]:
    """Frames that do not record where each of them is, in the order in which they are stored or numbered."""
    files = {frame.file.path: frame.file for frame in frames}
    if len(files) > 1:
        frames = _numbered(frames, spacing, warnings)
    elif frames[0].height is None and sorted(f.place_in_stack or 0 for f in frames) == list(range(1, len(frames) + 1)):
        frames = sorted(frames, key=lambda frame: frame.place_in_stack)
    first = frames[0]
    distance = _distance(frames, spacing, warnings)
    is_falling = first.height is not None and distance < 0
    if is_falling:  # the last frame is the lowest
        frames, distance = frames[::-1], -distance
    first = frames[0]
    right, down, normal = _axes(first if first.axes else replace(first, axes=AXIAL))
    corner = first.position or (0.0, 0.0, 0.0)
    if is_falling and first.position:
        corner = tuple(np.asarray(corner) - normal * distance * (len(frames) - 1))
    if first.position is None or first.axes is None:
        warnings.append("The file does not record where the volume lies; it was put at the origin, along x, y and z.")
    return list(frames), Grid(
        size=(*first.size, len(frames)),
        spacing=(*_pixel_spacing(first, spacing), distance),
        origin=tuple(corner),
        direction=np.column_stack([right, down, normal]),
    )


def _numbered(frames: Sequence[DicomFrame], spacing: Sequence[float] | None, warnings: list[str]) -> list[DicomFrame]:
    """Slice files without positions in the order of their instance numbers, where a spacing was given for them."""
    numbers = [frame.file.instance_number for frame in frames]
    are_slices = all(len(frame.file.frames) == 1 for frame in frames)
    if not are_slices or not spacing or None in numbers:
        helps = (
            "Give their spacing x, y and z in mm (--spacing), export them again" if are_slices else "Export it again"
        )
        raise InputError(
            "The slices do not record where they are (Image Position and Orientation, Patient).",
            f"{helps}, or convert it with the scanner's software.",
        )
    ordered = sorted(frames, key=lambda frame: frame.file.instance_number)
    gaps = np.diff(sorted(numbers))
    if not (gaps == gaps[0]).all() or gaps[0] == 0:
        n = int(np.flatnonzero((gaps != np.median(gaps)) | (gaps == 0))[0])
        raise InputError(
            "The slices do not record where they are, and their instance numbers have gaps or doubles: after "
            f"{ordered[n].name} ({ordered[n].file.instance_number}) comes {ordered[n + 1].name} "
            f"({ordered[n + 1].file.instance_number}).",
            EXPORT,
        )
    warnings.append(
        f"The slices do not record where they are; they were taken in the order of their numbers. {NO_NORMAL}"
    )
    return ordered


def _distance(frames: Sequence[DicomFrame], spacing: Sequence[float] | None, warnings: list[str]) -> float:
    """From frame to frame along the normal, in mm; negative where recorded heights fall."""
    heights = [frame.height for frame in frames]
    if heights[0] is not None:
        gaps = np.diff(heights)
        if np.abs(gaps - gaps.mean()).max() > USABLE * abs(gaps.mean()) or not gaps.mean():
            raise InputError(
                f"The frames are not evenly spaced: the distances run from {gaps.min():.4g} to {gaps.max():.4g} mm.",
                "Resample the volume to evenly spaced slices first.",
            )
        return float(gaps.mean())
    step = frames[0].step
    if step is not None and step < 0:
        raise InputError(
            f"The file records {step:g} mm between slices and no position for each of them: whether they run up or "
            "down is not certain.",
            "Export it with the position of each frame (Image Position, Patient).",
        )
    if not step and not spacing and frames[0].file.is_in_time:
        raise InputError(
            "The frames follow each other in time (Frame Time), and no distance between them is recorded.",
            "Choose a volume. If they are slices all the same, give their spacing x, y and z in mm (--spacing).",
        )
    if not step and not spacing:
        raise InputError(
            "The file does not record the distance of its slices.", "Give the spacing x, y and z in mm (--spacing)."
        )
    if len({frame.file.path for frame in frames}) == 1:
        is_stored_order = all(frame.index == n for n, frame in enumerate(frames))
        order = "as they are stored" if is_stored_order else "in the order of their In-Stack Position Numbers"
        warnings.append(
            f"The frames do not record where each of them is; they were taken {order}, "
            f"{step or spacing[2]:g} mm apart. {NO_NORMAL}"
        )
    return float(step or spacing[2])
