"""DICOM as volumes: which images belong together, in which order and where, or why that cannot be told.

Slices and frames of files of many frames are judged by the same rules: by the positions that they record, frame by
frame, never by names or by the order in which they are stored. Worker-side: needs pydicom.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.volume import Grid, Volume
from . import dicom_pixels
from .checks import check_size
from .dicom_frames import EXPORT, DicomFile, DicomFrame
from .dicom_header import read_file, uids_of
from .dicom_positions import ORIENTATION_TOLERANCE, placed, unplaced
from .folders import LeftOut, is_dicom

NEIGHBOURS = 2  # folders on either side that are looked at for more slices of a series
STRANGER = "Remove the images that do not belong to the volume, for instance scout views."


@dataclass(frozen=True)
class DicomSeries:
    """The images of a folder that belong together.

    Attributes
    ----------
    notes : tuple of str
        What was noticed when they were put together.
    lost : int
        Files with its UID that could not be read.
    """

    uid: str
    files: tuple[DicomFile, ...]
    notes: tuple[str, ...] = ()
    lost: int = 0

    @property
    def frames(self) -> list[DicomFrame]:
        return [frame for file in self.files for frame in file.frames]

    @property
    def number(self) -> str:
        return self.files[0].series_number

    @property
    def title(self) -> str:
        """For lists: description, number of slices, series number and UID."""
        description = self.files[0].description or "without description"
        number = f", number {self.number}" if self.number else ""
        return f"{description}: {len(self.frames)} slices{number}, UID {self.uid}"


@dataclass(frozen=True)
class DicomStack:
    """Slices in the order of k, where they are, and what was noticed.

    Attributes
    ----------
    grid : Grid
        With the spacing that the files record; where they record none, the one that was given.
    padding_value : float or None
        In grey values.
    """

    frames: tuple[DicomFrame, ...]
    grid: Grid
    padding_value: float | None
    warnings: tuple[str, ...]

    def read(self) -> Volume:
        """The volume in grey values, in the stored type, or int16 where that holds all; see `dicom_pixels.stack`."""
        return Volume(dicom_pixels.stack(self.frames), self.grid, self.padding_value)


def find_series(folder: Path, besides: Sequence[str] = ()) -> tuple[list[DicomSeries], list[LeftOut]]:
    """The series in a folder (not in its subfolders), and all else that lies there.

    Files with an extension of `besides` are not looked at. Hidden files are passed over.
    """
    found = defaultdict(list)
    others: list[LeftOut] = []
    lost: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            others.append(LeftOut(path, "a subfolder"))
        elif path.suffix.lower() in besides:
            others.append(LeftOut(path, "no DICOM file"))
        else:
            try:
                file = read_file(path)
            except InputError as error:
                others.append(LeftOut(path, _reason(path, error), is_alarming=_is_alarming(path)))
                lost[uids_of(path)[0]] += 1
            else:
                found[file.series].append(file)
    series = [DicomSeries(uid, tuple(files), lost=lost[uid] if uid else 0) for uid, files in sorted(found.items())]
    return _with_scattered_joined(series), others


def beside(folder: Path, series: DicomSeries) -> list[Path]:
    """The neighbours of a folder, in the order of names, whose first DICOM file is another image of the series."""
    here, images = folder.resolve(), {file.uid for file in series.files}
    found = []
    try:
        folders = sorted(path for path in here.parent.iterdir() if path.is_dir())
        at = folders.index(here)
        for path in folders[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]:
            first = next(filter(is_dicom, sorted(path.iterdir())), None)
            uid, image = uids_of(first) if first else ("", "")
            if uid and uid == series.uid and image not in images:
                found.append(path)
    except (OSError, ValueError):
        return []
    return found


def _reason(path: Path, error: InputError) -> str:
    """Why a file was passed over, without its own name at the beginning."""
    return error.what.removeprefix(f"{path.name} ").removeprefix("is ").rstrip(".")


def _is_alarming(path: Path) -> bool:
    """Whether a file that could not be read may be a slice of the scan."""
    return path.name != "DICOMDIR" and (is_dicom(path) or path.suffix.lower() in ("", ".dcm", ".ima", ".dicom"))


def _with_scattered_joined(series: list[DicomSeries]) -> list[DicomSeries]:
    """Some programs give each slice a series of its own: those of one study that are alike are one volume."""
    if len(series) < 3 or any(len(one.frames) > 1 or not one.frames[0].is_placed for one in series):
        return series
    groups = defaultdict(list)
    for one in series:
        frame = one.frames[0]
        axes = tuple(np.round(frame.axes or (), 2))
        groups[one.files[0].study, frame.size, frame.spacing, axes, frame.is_localizer].append(one)
    joined = []
    for alike in groups.values():
        if len(alike) < 3:
            joined += alike
            continue
        note = f"Each of {len(alike)} slices has a series UID of its own; as they are alike, they were taken as one."
        joined.append(DicomSeries(alike[0].uid, tuple(one.files[0] for one in alike), (note,)))
    return joined


def series_of_file(path: Path) -> DicomSeries:
    """A file as a series of its own.

    Raises
    ------
    InputError
        If it is not readable, or a single slice.
    """
    file = read_file(path)
    if len(file.frames) == 1:
        raise InputError(f"{path} is a single slice.", "Give the folder that holds all slices of the series.")
    return DicomSeries(file.series, (file,))


def choose_series(available: Sequence[DicomSeries], wanted: str | None) -> DicomSeries:
    """The series with this UID, unique beginning of a UID, or series number; without one, the only volume.

    Raises
    ------
    InputError
        If no series or more than one fits; the message lists all of them.
    """
    if wanted is None:
        fitting = [s for s in available if len(s.frames) > 1] or list(available)
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

    Parameters
    ----------
    spacing : (x, y, z) in mm, optional
        Taken where the files record none, or where theirs is the same but for the rounding of their positions.

    Raises
    ------
    InputError
        If slices are missing, doubled, unevenly spaced or unlike, or it cannot be told where they are.
    """
    if series.lost >= len(series.files):  # fewer are told, and missed where they leave a gap
        count = series.lost + len(series.files)
        raise InputError(f"{series.lost} of the {count} files of the series could not be read.", EXPORT)
    warnings = list(series.notes)
    frames = _without_localizers(series.frames, warnings)
    if len(frames) == 1:
        check_size((*frames[0].size, 1))
    _check_alike(frames)
    _check_one_patient(frames)
    _check_rescale(frames)
    if any(frame.file.is_lossy for frame in frames):
        warnings.append("The images were compressed with loss: what it left in them may be enlarged as detail.")
    with_position = [frame for frame in frames if frame.is_placed]
    if len(with_position) == len(frames) > 2 and len({(frame.position, frame.traits[0]) for frame in frames}) == 1:
        what = "All slices record the same position (Image Position, Patient)"
        if not spacing:
            raise InputError(
                f"{what}.",
                "Export them again; or give their spacing x, y and z in mm (--spacing), which orders them by number.",
            )
        warnings.append(f"{what}; it was not believed.")
        with_position, frames = [], [replace(frame, position=None) for frame in frames]
    if len(with_position) == len(frames):
        frames, grid = placed(frames, spacing, warnings)
    elif with_position:
        missing = next(frame for frame in frames if not frame.is_placed)
        raise InputError(
            f"{len(frames) - len(with_position)} of {len(frames)} slices do not record where they are (Image Position, "
            f"Patient), for instance {missing.name}.",
            "Remove them if they do not belong to the volume, or export the series again.",
        )
    else:
        frames, grid = unplaced(frames, spacing, warnings)
    padding = {_padding_value(frame) for frame in frames}
    if len(padding) > 1:
        warnings.append("The slices declare different padding values; none of them is used.")
    return DicomStack(tuple(frames), grid, padding.pop() if len(padding) == 1 else None, tuple(warnings))


def _without_localizers(frames: list[DicomFrame], warnings: list[str]) -> list[DicomFrame]:
    scouts = [frame for frame in frames if frame.is_localizer or frame.file.is_localizer]
    if not scouts or len(scouts) == len(frames):
        return frames
    warnings.append(f"Scout views (LOCALIZER) were left out: {len(scouts)}, for instance {scouts[0].name}.")
    return [frame for frame in frames if frame not in scouts]


def _check_alike(frames: Sequence[DicomFrame]) -> None:
    """Refuse slices that differ in size, pixel spacing or orientation from the first."""
    first = frames[0]
    for frame in frames:
        if frame.size != first.size:
            raise InputError(
                f"The slices differ in size: {first.name} has {first.size} pixels, {frame.name} has {frame.size}.",
                STRANGER,
            )
        if not _alike(frame.spacing, first.spacing, 1e-4):
            raise InputError(f"{frame.name} has another pixel spacing than {first.name}.", STRANGER)
        if first.axes and not frame.axes:
            raise InputError(f"{frame.name} does not record its orientation, and {first.name} does.", STRANGER)
        if not _alike(frame.axes, first.axes, ORIENTATION_TOLERANCE):
            raise InputError(f"{frame.name} is oriented unlike {first.name}.", STRANGER)


def _alike(a: Sequence[float] | None, b: Sequence[float] | None, tolerance: float) -> bool:
    a, b = a or (), b or ()
    return len(a) == len(b) and np.allclose(a, b, rtol=0, atol=tolerance)


def _check_one_patient(frames: Sequence[DicomFrame]) -> None:
    """Refuse what some programs put into one series: images of several patients or coordinate systems."""
    files = {frame.file.path: frame.file for frame in frames}.values()
    for part, words in (("patient", "patients (Patient ID)"), ("frame_of_reference", "frames of reference")):
        known = [file for file in files if getattr(file, part)]
        count = len({getattr(file, part) for file in known})
        if 1 < count < len(known):  # one of its own for each image is a program's habit
            other = next(file for file in known if getattr(file, part) != getattr(known[0], part))
            raise InputError(
                f"The series holds images of {count} {words}, for instance {known[0].path.name} and {other.path.name}.",
                "Keep the images of one of them in a folder.",
            )


def _check_rescale(frames: Sequence[DicomFrame]) -> None:
    """Refuse what would give some slices other grey values than the rest, and slopes that leave none."""
    for part, words, neutral in (("slope", "Rescale Slope", 1), ("intercept", "Rescale Intercept", 0)):
        values = [getattr(frame, part) for frame in frames]
        lacking = [frame for frame, value in zip(frames, values, strict=True) if value is None]
        if lacking and any(value not in (None, neutral) for value in values):
            raise InputError(
                f"{len(lacking)} of {len(frames)} slices have no {words}, and the others have; the first without is "
                f"{lacking[0].name}.",
                EXPORT,
            )
    flat = next((frame for frame in frames if frame.slope == 0), None)
    if flat:
        raise InputError(f"{flat.name} has the Rescale Slope 0: all its grey values would be the same.", EXPORT)
    tables = [frame for frame in frames if frame.file.lut]
    if tables and len(tables) < len(frames):
        raise InputError(f"Only {len(tables)} of {len(frames)} slices have a modality look-up table.", EXPORT)


def _padding_value(frame: DicomFrame) -> float | None:
    """Pixel Padding Value in grey values.

    It is signed exactly if the pixels are (Pixel Representation).
    """
    bits = frame.file.padding
    if bits is None or frame.file.lut:
        return None
    signed = frame.file.layout.dtype.kind == "i"
    value = bits - 0x10000 if signed and bits >= 0x8000 else bits
    return value * (1.0 if frame.slope is None else frame.slope) + (frame.intercept or 0.0)
