"""Where the slices of a DICOM series are: in order, evenly spaced, on one grid, or refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..volume import Grid
from .checks import check_size
from .images import ImageFacts

ORIENTATION_TOLERANCE = 1e-3  # of direction cosines; scanners write them with four to six decimals
GAP_TOLERANCE = 0.01  # of the slice distance
ROUNDING_MM = 0.0015  # positions are often written with three decimals
STRANGER = "Remove the images that do not belong to the volume, for instance scout views."


@dataclass(frozen=True)
class DicomSlice:
    """One file of a series, as its header describes it."""

    path: Path
    facts: ImageFacts

    @property
    def frames(self) -> int:
        return self.facts.size[2] if len(self.facts.size) > 2 else 1

    def tag(self, key: str) -> str:
        return self.facts.metadata.get(key, "")

    def numbers(self, key: str) -> list[float]:
        """The numbers of a tag; empty if it is missing or no list of numbers."""
        with suppress(ValueError):
            return [float(part) for part in self.tag(key).split("\\")]
        return []


def grid_of_frames(image: DicomSlice, spacing: Sequence[float] | None) -> Grid:
    """The grid of a file of many frames."""
    check_size(image.facts.size, image.facts.components)
    return image.facts.grid(spacing)


def check_alike(slices: Sequence[DicomSlice]) -> None:
    """Refuse slices that differ in size, pixel spacing or orientation from the first, and colour images."""
    first = slices[0]
    for image in slices:
        if image.facts.components > 1:
            raise InputError(f"{image.path.name} is a colour image.", "Choose a series of grey values.")
        if image.frames > 1:
            raise InputError(
                f"The series mixes slices and files of many ({image.path.name}).", "Give one of the files."
            )
        if image.facts.size != first.facts.size:
            raise InputError(
                f"The slices differ in size: {first.path.name} has {first.facts.size[:2]} pixels, "
                f"{image.path.name} has {image.facts.size[:2]}.",
                STRANGER,
            )
        if not _alike(image.numbers("0028|0030"), first.numbers("0028|0030"), 1e-4):
            raise InputError(f"{image.path.name} has another pixel spacing than {first.path.name}.", STRANGER)
        if not _alike(image.numbers("0020|0037"), first.numbers("0020|0037"), ORIENTATION_TOLERANCE):
            raise InputError(f"{image.path.name} is oriented unlike {first.path.name}.", STRANGER)


def _alike(a: Sequence[float], b: Sequence[float], tolerance: float) -> bool:
    return len(a) == len(b) and np.allclose(a, b, rtol=0, atol=tolerance)


def sorted_slices(
    slices: Sequence[DicomSlice], spacing: Sequence[float] | None, warnings: list[str]
) -> tuple[list[DicomSlice], Grid]:
    """Slices sorted along their common normal, and their grid; what is unusual but usable goes into `warnings`.

    Raises
    ------
    InputError
        If positions are not recorded, or slices are missing, doubled or unevenly spaced.
    """
    first = slices[0]
    axes = first.numbers("0020|0037")
    if len(axes) != 6 or any(len(image.numbers("0020|0032")) != 3 for image in slices):
        raise InputError(
            "The slices do not record where they are (Image Position and Orientation, Patient).",
            "Export them as TIFF slices and give their spacing, or convert them with the scanner's software.",
        )
    right, down, normal = _frame(axes, first)
    slices = sorted(slices, key=lambda image: float(normal @ image.numbers("0020|0032")))
    positions = np.array([image.numbers("0020|0032") for image in slices])
    _check_gaps(slices, positions @ normal)
    _check_line(slices, positions)

    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    sideways = np.linalg.norm(step - (step @ normal) * normal)
    if sideways <= ORIENTATION_TOLERANCE * (step @ normal):
        step = (step @ normal) * normal
    else:
        angle = np.degrees(np.arctan2(sideways, step @ normal))
        warnings.append(
            f"The slices are tilted by {angle:.1f} degrees (gantry tilt); they keep their positions on a sheared grid."
        )
    distance = float(np.linalg.norm(step))
    if not spacing:
        spacing = (*_pixel_spacing(first), distance)
    grid = Grid(
        size=(*first.facts.size[:2], len(slices)),
        spacing=tuple(spacing),
        origin=tuple(positions[0]),
        direction=np.column_stack([right, down, step / distance]),
    )
    return slices, grid


def _frame(axes: Sequence[float], image: DicomSlice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors along rows, along columns and normal to them; the rounding of the file's cosines is removed."""
    right, down = np.reshape(axes, (2, 3))
    if abs(right @ down) > ORIENTATION_TOLERANCE or not np.allclose((right @ right, down @ down), 1, atol=0.01):
        raise InputError(
            f"The axes of {image.path.name} are no unit vectors at right angles.", "Export the series again."
        )
    right = right / np.linalg.norm(right)
    down = down - (down @ right) * right
    down = down / np.linalg.norm(down)
    return right, down, np.cross(right, down)


def _pixel_spacing(image: DicomSlice) -> tuple[float, float]:
    """(x, y) in mm; DICOM gives the distance between rows first."""
    rows_columns = image.numbers("0028|0030") or image.numbers("0018|1164")
    if len(rows_columns) != 2:
        raise InputError(
            "The slices do not record their pixel spacing.", "Give the spacing x, y and z in mm (--spacing)."
        )
    return rows_columns[1], rows_columns[0]


def _check_gaps(slices: Sequence[DicomSlice], heights: np.ndarray) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    doubled = np.flatnonzero(gaps < 1e-4)
    if len(doubled):
        a, b = slices[doubled[0]], slices[doubled[0] + 1]
        raise InputError(
            f"{len(doubled)} slices are at the place of another one; the first are {a.path.name} and {b.path.name}.",
            "Remove the doubles, or keep one time point or one reconstruction of the series.",
        )
    tolerance = max(GAP_TOLERANCE * usual, min(ROUNDING_MM, 0.1 * usual))
    odd = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if len(odd):
        n = odd[0]
        missing = round(gaps[n] / usual) - 1
        cause = f"{missing} missing" if missing > 0 and abs(gaps[n] / usual - missing - 1) < 0.05 else "uneven spacing"
        more = f", and {len(odd) - 1} more such gaps" if len(odd) > 1 else ""
        raise InputError(
            f"The slices are not evenly spaced ({cause}): between {slices[n].path.name} and {slices[n + 1].path.name} "
            f"there are {gaps[n]:.4g} mm instead of {usual:.4g} mm{more}.",
            "Export the whole series again, or give a folder with an evenly spaced part of it.",
        )


def _check_line(slices: Sequence[DicomSlice], positions: np.ndarray) -> None:
    """Small deviations of each gap may still add up, and slices may shift sideways."""
    line = np.linspace(positions[0], positions[-1], len(positions))
    off = np.linalg.norm(positions - line, axis=1)
    worst = int(np.argmax(off))
    if off[worst] > 0.5 * np.linalg.norm(line[1] - line[0]):
        raise InputError(
            f"The slices are not on a straight line: {slices[worst].path.name} is {off[worst]:.3g} mm beside it.",
            "Resample the volume to evenly spaced slices first.",
        )
