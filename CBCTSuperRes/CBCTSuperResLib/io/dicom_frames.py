"""DICOM files and their frames, as headers describe them: where each frame lies, and what tells it from the others.

A slice file is a file of one frame. Tags of the functional groups of enhanced files (PS3.3 C.7.6.16) win over those of
the whole file: per frame, then shared, then top level. Worker-side: needs pydicom.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from ..core.errors import InputError

EXPORT = "Export it again from the scanner's software."
PIXEL_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
TIMES = ("TemporalPositionIndex", "TemporalPositionTimeOffset", "TemporalPositionIdentifier", "TriggerTime")
TRAITS = {  # what tells images of one place apart: functional group, keyword
    "time points": ("FrameContentSequence", TIMES),
    "acquisitions": ("FrameContentSequence", ("AcquisitionNumber",)),
    "stacks": ("FrameContentSequence", ("StackID",)),
    "reconstruction kernels": ("CTReconstructionSequence", ("ConvolutionKernel",)),
    "tube voltages": ("CTXRayDetailsSequence", ("KVP",)),
    "echoes": ("MREchoSequence", ("EchoNumbers", "EffectiveEchoTime", "EchoTime")),
    "image types": ("CTImageFrameTypeSequence", ("FrameType", "ImageType")),
    "acquisition times": (
        "FrameContentSequence",
        ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"),
    ),
}
NO_ROUNDING = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PixelLayout:
    """How the pixels of a file are stored.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the cells in the file, whose low or middle `bits_stored` bits are the pixel.
    offset, nbytes : int
        Of the pixel data in the file; an `offset` of 0 says that they must be decoded first.
    """

    rows: int
    columns: int
    frames: int
    dtype: np.dtype
    bits_stored: int
    high_bit: int
    offset: int
    nbytes: int

    @property
    def frame_bytes(self) -> int:
        return self.rows * self.columns * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class DicomFile:
    """A DICOM image file, as its header describes it.

    Attributes
    ----------
    syntax : pydicom.uid.UID
        Transfer Syntax: how the file is encoded.
    lut : (int, ndarray) or None
        First stored value that is mapped, and the grey values (Modality LUT Sequence).
    is_in_time : bool
        Whether frames follow each other in time (Frame Increment Pointer).
    padding : int or None
        Pixel Padding Value as its 16 bits, see `padding_value`.
    patient, frame_of_reference : str
        ID of the patient; UID of the coordinate system of the positions.
    is_lossy : bool
        Whether detail was lost by compression, now or earlier.
    frames : tuple of DicomFrame
    """

    path: Path
    sop_class: str
    uid: str
    study: str
    series: str
    series_number: str
    description: str
    instance_number: int | None
    is_localizer: bool
    is_in_time: bool
    syntax: UID
    layout: PixelLayout
    lut: tuple[int, np.ndarray] | None
    padding: int | None
    patient: str = ""
    frame_of_reference: str = ""
    is_lossy: bool = False
    frames: tuple[DicomFrame, ...] = ()


@dataclass(frozen=True, eq=False)
class DicomFrame:
    """One slice: a file of one frame, or a frame of a file of many.

    Attributes
    ----------
    index : int
        In the file, from 0.
    position : tuple of 3 float, or None
        Image Position (Patient): LPS, mm, of the centre of the first pixel.
    is_placed : bool
        Whether that is its own position, not that of a whole file of many frames.
    rounding : tuple of 3 float
        Half a unit of the last decimal of each coordinate, mm.
    axes : tuple of 6 float, or None
        Image Orientation (Patient): unit vectors along rows and along columns.
    spacing : (x, y) in mm, or None
    height : float or None
        Along the normal, mm, where only that is recorded of a frame.
    step : float or None
        Spacing Between Slices as it is recorded, with its sign, mm.
    slope, intercept : float or None
        None where they are not recorded.
    place_in_stack : int or None
        In-Stack Position Number: the order of frames without positions.
    traits : tuple of str
        What tells the volumes of one series apart, in the order of `TRAITS`; "" where it is not recorded.
    """

    file: DicomFile
    index: int
    position: tuple[float, ...] | None
    is_placed: bool
    rounding: tuple[float, ...]
    axes: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    height: float | None
    step: float | None
    slope: float | None
    intercept: float | None
    place_in_stack: int | None
    traits: tuple[str, ...]
    is_localizer: bool

    @property
    def name(self) -> str:
        """For messages."""
        count = self.file.layout.frames
        return self.file.path.name if count == 1 else f"frame {self.index + 1} of {self.file.path.name}"

    @property
    def size(self) -> tuple[int, int]:
        return self.file.layout.columns, self.file.layout.rows


def frames_of(dataset: Dataset, file: DicomFile) -> tuple[DicomFrame, ...]:
    """The frames that the header of a file describes.

    Raises
    ------
    InputError
        If it contradicts itself.
    """
    count = file.layout.frames
    own = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    if own and len(own) != count:
        raise InputError(
            f"{file.path.name} contradicts itself: it has {count} frames and describes {len(own)}.", EXPORT
        )
    heights = _numbers(dataset, "SliceLocationVector", file.path)
    heights = heights or _numbers(dataset, "GridFrameOffsetVector", file.path)
    if heights and len(heights) != count:
        raise InputError(f"{file.path.name} has {count} frames and {len(heights)} places for them.", EXPORT)
    frames = []
    for index in range(count):
        groups = _Groups(own[index] if own else Dataset(), shared, dataset, file.path)
        position = groups.numbers("PlanePositionSequence", "ImagePositionPatient", 3)
        spacing = next(filter(None, (groups.numbers("PixelMeasuresSequence", key, 2) for key in PIXEL_SPACINGS)), None)
        is_own = count == 1 or "PlanePositionSequence" in groups.own
        frames.append(
            DicomFrame(
                file=file,
                index=index,
                position=position,
                is_placed=bool(position) and is_own,
                rounding=groups.rounding("PlanePositionSequence", "ImagePositionPatient") if position else NO_ROUNDING,
                axes=groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6),
                spacing=spacing and spacing[::-1],  # DICOM gives the distance of the rows first
                height=heights[index] if heights else None,
                step=groups.number("PixelMeasuresSequence", "SpacingBetweenSlices"),
                slope=groups.number("PixelValueTransformationSequence", "RescaleSlope"),
                intercept=groups.number("PixelValueTransformationSequence", "RescaleIntercept"),
                place_in_stack=whole_number(groups.text("FrameContentSequence", "InStackPositionNumber")),
                traits=tuple(
                    next(filter(None, (groups.text(group, key) for key in keys)), "") for group, keys in TRAITS.values()
                ),
                is_localizer="LOCALIZER" in groups.text("CTImageFrameTypeSequence", "FrameType"),
            )
        )
    return tuple(frames)


@dataclass(frozen=True)
class _Groups:
    """The functional groups that speak of a frame: its own, those of all frames, and the tags of the file."""

    own: Dataset
    shared: Dataset
    top: Dataset
    path: Path

    def holder(self, group: str, keyword: str) -> Dataset:
        for groups in (self.own, self.shared):
            sequence = groups.get(group)
            if sequence and keyword in sequence[0]:
                return sequence[0]
        return self.top

    def numbers(self, group: str, keyword: str, count: int) -> tuple[float, ...] | None:
        found = _numbers(self.holder(group, keyword), keyword, self.path)
        return found if len(found) == count else None

    def number(self, group: str, keyword: str) -> float | None:
        found = _numbers(self.holder(group, keyword), keyword, self.path)
        if len(set(found)) > 1:
            raise InputError(f"{self.path.name} records {keyword} as {len(found)} numbers: {found}.", EXPORT)
        return found[0] if found else None

    def text(self, group: str, keyword: str) -> str:
        return text_of(self.holder(group, keyword), keyword)

    def rounding(self, group: str, keyword: str) -> tuple[float, ...]:
        texts = [str(part) for part in self.holder(group, keyword)[keyword].value]
        exponents = [Decimal(text.strip()).normalize().as_tuple().exponent for text in texts]
        return tuple(0.5 * 10.0 ** min(0, exponent) for exponent in exponents)


def _numbers(dataset: Dataset, keyword: str, path: Path) -> tuple[float, ...]:
    """The numbers of a tag; empty if it is missing or without a value.

    Raises
    ------
    InputError
        If it holds something else.
    """
    if keyword not in dataset:
        return ()
    try:
        value = dataset[keyword].value
        many = value if isinstance(value, (list, tuple, MultiValue)) else [value]
        found = tuple(float(part) for part in many if part not in (None, ""))
    except (ValueError, TypeError, NotImplementedError, InvalidOperation) as error:
        raise InputError(f"{path.name} records {keyword} as what is no number ({error}).", EXPORT) from error
    if not np.isfinite(found).all():
        raise InputError(f"{path.name} records {keyword} as {found}.", EXPORT)
    return found


def text_of(dataset: Dataset, keyword: str) -> str:
    """A tag as printable text; "" if it is missing."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8", "replace").strip(" \0")


def whole_number(text: str) -> int | None:
    """A whole number; None where the text is none: no volume fails for what only counts its slices."""
    return int(text) if re.fullmatch(r"[-+]?[0-9]{1,12}", text) else None
