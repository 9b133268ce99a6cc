"""A folder of DICOM slices, or one multi-frame DICOM file, as a volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..volume import Grid, Volume
from .dicom_geometry import DicomSlice, check_alike, grid_of_frames, sorted_slices
from .images import read_facts, read_voxels

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
