"""Where the slices of a DICOM series are: in order, evenly spaced, on one grid, or refused with the reason.

A folder of DICOM slices, or one multi-frame DICOM file, as a volume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.volume import Grid, Volume
from .checks import check_size
from .images import ImageFacts, read_facts, read_voxels

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


IO = "GDCMImageIO"


@dataclass(frozen=True)
class DicomSeries:
    """The images of a folder that belong together."""

    uid: str
    slices: tuple[DicomSlice, ...]

    @property
    def frames(self) -> int:
        return sum(image.frames for image in self.slices)

    @property
    def number(self) -> str:
        return self.slices[0].tag("0020|0011")

    @property
    def title(self) -> str:
        """For lists: description, number of slices, series number and UID."""
        description = self.slices[0].tag("0008|103e") or "without description"
        number = f", number {self.number}" if self.number else ""
        return f"{description}: {self.frames} slices{number}, UID {self.uid}"


@dataclass(frozen=True)
class DicomStack:
    """Slices in the order of k, where they are, and what was noticed.

    Attributes
    ----------
    padding_value : float or None
        In grey values.
    """

    slices: tuple[DicomSlice, ...]
    grid: Grid
    padding_value: float | None
    warnings: tuple[str, ...]

    def read(self) -> Volume:
        """The volume in grey values, with rescale slope and intercept applied; the peak of memory is it and one slice.

        The type is SimpleITK's, or int16 where that holds all grey values; a fractional slope gives float32.
        """
        frames = self.slices[0].frames > 1
        voxels = _settled(read_voxels(self.slices[0].path, IO)) if frames else _stack(self.slices)
        return Volume(voxels, self.grid, self.padding_value)


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM mark behind its 128 bytes of preamble."""
    with suppress(OSError), open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"
    return False


def find_series(folder: Path, besides: Sequence[str] = ()) -> tuple[list[DicomSeries], list[Path]]:
    """The series in a folder (not in its subfolders), and its DICOM files that are no images, such as DICOMDIR.

    Files with an extension of `besides` are not looked at.
    """
    found = defaultdict(list)
    others = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() in besides or not path.is_file():
            continue
        try:
            image = DicomSlice(path, read_facts(path, IO))
        except InputError:
            if is_dicom(path):
                others.append(path)
            continue
        found[image.tag("0020|000e")].append(image)
    return [DicomSeries(uid, tuple(images)) for uid, images in sorted(found.items())], others


def series_of_file(path: Path) -> DicomSeries:
    """A file as a series of its own.

    Raises
    ------
    InputError
        If it is not readable, or a single slice.
    """
    image = DicomSlice(path, read_facts(path, IO))
    if image.frames == 1:
        raise InputError(f"{path} is a single slice.", "Give the folder that holds all slices of the series.")
    return DicomSeries(image.tag("0020|000e"), (image,))


def choose_series(available: Sequence[DicomSeries], wanted: str | None) -> DicomSeries:
    """The series with this UID, unique beginning of a UID, or series number; without one, the only volume.

    Raises
    ------
    InputError
        If no series or more than one fits; the message lists all of them.
    """
    if wanted is None:
        fitting = [s for s in available if s.frames > 1] or list(available)
    else:
        fitting = _fitting(available, str(wanted).strip())
    if len(fitting) == 1:
        return fitting[0]
    listed = "There are:" + "".join(f"\n  {s.title}" for s in available)
    advice = "\nChoose one by its UID, the beginning of it or its series number (--series)."
    if not fitting:
        raise InputError(f"No series here is {wanted!r}. {listed}", advice)
    if wanted is None:
        raise InputError(f"This folder holds more than one series. {listed}", advice)
    raise InputError(f"{wanted!r} fits {len(fitting)} series. {listed}", advice)


def _fitting(available: Sequence[DicomSeries], wanted: str) -> list[DicomSeries]:
    exact = [s for s in available if s.uid == wanted]
    return exact or [s for s in available if s.number == wanted] or [s for s in available if s.uid.startswith(wanted)]


def arrange(series: DicomSeries, spacing: Sequence[float] | None = None) -> DicomStack:
    """Put the slices in the order of their positions.

    The third axis runs from the first slice to the last, so slices of a tilted gantry keep their true positions on a
    sheared grid.

    Raises
    ------
    InputError
        If slices are missing, doubled, unevenly spaced or unlike, or positions are not recorded.
    """
    warnings: list[str] = []
    if len(series.slices) == 1:
        slices, grid = series.slices, grid_of_frames(series.slices[0], spacing)
    else:
        check_alike(series.slices)
        slices, grid = sorted_slices(series.slices, spacing, warnings)
    padding = {_padding_value(image) for image in slices}
    if len(padding) > 1:
        warnings.append("The slices declare different padding values; none of them is used.")
    return DicomStack(tuple(slices), grid, padding.pop() if len(padding) == 1 else None, tuple(warnings))


def _padding_value(image: DicomSlice) -> float | None:
    """Pixel Padding Value (0028,0120) in grey values.

    The tag holds 16 stored bits that are signed exactly if Pixel Representation (0028,0103) is 1, but writers and
    readers confuse the two value representations, so the sign is set here.
    """
    stored = image.numbers("0028|0120")
    if not stored:
        return None
    bits = int(stored[0]) & 0xFFFF
    signed = image.tag("0028|0103") == "1"
    value = bits - 0x10000 if signed and bits >= 0x8000 else bits
    slope = (image.numbers("0028|1053") or [1.0])[0]
    intercept = (image.numbers("0028|1052") or [0.0])[0]
    return value * slope + intercept


def _stack(slices: Sequence[DicomSlice]) -> np.ndarray:
    """All slices in one array, whose type widens only when a slice needs it."""
    size = slices[0].facts.size
    voxels = None
    for k, image in enumerate(slices):
        pixels = _settled(read_voxels(image.path, IO).reshape(size[1], size[0]))
        if voxels is None:
            voxels = np.zeros((len(slices), size[1], size[0]), pixels.dtype)
        wider = np.result_type(voxels.dtype, pixels.dtype)
        if wider != voxels.dtype:
            voxels = voxels.astype(wider)
        voxels[k] = pixels
    return voxels


def _settled(pixels: np.ndarray) -> np.ndarray:
    """Grey values in a type no larger than they need: rescaling makes int32 and float64 of 16 stored bits."""
    if pixels.dtype == np.float64:
        return pixels.astype(np.float32)
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 2:
        limits = np.iinfo(np.int16)
        if pixels.min() >= limits.min and pixels.max() <= limits.max:
            return pixels.astype(np.int16)
    return pixels
