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
from .dicom_header import EXPORT, TRAITS, DicomFile, DicomFrame, read_file, uids_of
from .folders import SHOWN, LeftOut, is_dicom

ORIENTATION_TOLERANCE = 1e-3  # of direction cosines; scanners write them with four to six decimals
EVEN = 0.02  # of the slice distance: how far a slice may be off an even grid without a word
USABLE = 0.1  # of the slice distance: further off, voxels would be visibly displaced
DOUBLED_MM = 1e-4
NEIGHBOURS = 2  # folders on either side that are looked at for more slices of a series
STRANGER = "Remove the images that do not belong to the volume, for instance scout views."
PART = "Export the whole series again, or give a folder with an evenly spaced part of it."
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
NO_NORMAL = "The volume may be mirrored: compare left and right with a scan that you know."


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
    placed = [frame for frame in frames if frame.is_placed]
    if len(placed) == len(frames) > 2 and len({(frame.position, frame.traits[0]) for frame in frames}) == 1:
        what = "All slices record the same position (Image Position, Patient)"
        if not spacing:
            raise InputError(
                f"{what}.",
                "Export them again; or give their spacing x, y and z in mm (--spacing), which orders them by number.",
            )
        warnings.append(f"{what}; it was not believed.")
        placed, frames = [], [replace(frame, position=None) for frame in frames]
    if len(placed) == len(frames):
        frames, grid = _placed(frames, spacing, warnings)
    elif placed:
        missing = next(frame for frame in frames if not frame.is_placed)
        raise InputError(
            f"{len(frames) - len(placed)} of {len(frames)} slices do not record where they are (Image Position, "
            f"Patient), for instance {missing.name}.",
            "Remove them if they do not belong to the volume, or export the series again.",
        )
    else:
        frames, grid = _unplaced(frames, spacing, warnings)
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


def _placed(
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
    right, down, normal = _frame(first)
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


def _frame(frame: DicomFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _unplaced(
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
    right, down, normal = _frame(first if first.axes else replace(first, axes=AXIAL))
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
