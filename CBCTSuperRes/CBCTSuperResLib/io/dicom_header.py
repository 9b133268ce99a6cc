"""What the header of a DICOM file says of each of its frames: where it lies, and what its stored pixels mean.

A slice file is a file of one frame. Tags of the functional groups of enhanced files (PS3.3 C.7.6.16) win over those of
the whole file: per frame, then shared, then top level. Worker-side: needs pydicom.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from ..core.errors import InputError
from ..core.memory import available_memory, readable

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
NO_SCANS = {
    **dict.fromkeys(("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"), "a segmentation"),
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose distribution (RT Dose)",
}
DECODED = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless}
DECODED |= {JPEG2000Lossless, JPEG2000, RLELossless}
LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless}
NO_ROUNDING = (0.0, 0.0, 0.0)
PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS = 0x7FE00010, 0x7FE00008, 0x7FE00009
LONG_VR = ("OB", "OW", "OF", "OD", "OL", "OV", "UN")
FRAME_TIMES = (0x00181063, 0x00181065)  # Frame Time, Frame Time Vector
UNDEFINED = 0xFFFFFFFF
ITEM_BYTES = 8  # that a compressed frame takes at least
MOST_FRAMES = 65535
PIECE_BYTES = 1 << 20


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


def read_dataset(path: Path, pixels: bool = False) -> Dataset:
    """All tags of a file, those of its pixels only if wanted.

    Raises
    ------
    InputError
        If it is no DICOM file, or a damaged one.
    """
    with open(path, "rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _parsed(stream, path, stop_before_pixels=not pixels)


def read_file(path: Path) -> DicomFile:
    """The header of a DICOM image file, checked against the file's length.

    Raises
    ------
    InputError
        If it is no DICOM image of grey values, damaged, or its pixels cannot be understood; says which and why.
    """
    try:
        with open(path, "rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = _parsed(stream, path, stop_before_pixels=True)
            return _described(dataset, path, stream)
    except InputError:
        raise
    except Exception as error:  # what pydicom raises on damaged files is of every kind
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path.name} cannot be read: {error.strerror}.", "Check the file.") from error
        raise InputError(f"{path.name} is damaged ({type(error).__name__}: {error}).", EXPORT) from error


def uids_of(path: Path) -> tuple[str, str]:
    """UIDs of series and image of a file, even of one that cannot be read otherwise; "" where it tells none."""
    keywords = ("SeriesInstanceUID", "SOPInstanceUID")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
            return tuple(_text(found, keyword) for keyword in keywords)
    except Exception:  # what pydicom raises on damaged files is of every kind
        return "", ""


def _parsed(stream: BinaryIO, path: Path, stop_before_pixels: bool) -> Dataset:
    start = stream.read(132)
    stream.seek(0)
    if not start:
        raise InputError(f"{path.name} is an empty file.", "Copy or export it again.")
    has_mark = start[128:] == b"DICM"
    if not has_mark and start[:2] not in (b"\x02\0", b"\x08\0"):  # files of old have no preamble
        raise InputError(f"{path.name} is no DICOM file.", "Give DICOM files.")
    try:
        if has_mark and read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            _check_deflated(path)
        return pydicom.dcmread(stream, stop_before_pixels=stop_before_pixels, force=not has_mark)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path.name} is damaged or incomplete ({error}).", EXPORT) from error


def _check_deflated(path: Path) -> None:
    """Refuse a deflated file that would not fit into memory: a few bytes can unpack to a thousand times as many."""
    room, found = available_memory() // 3, 0
    with open(path, "rb") as stream:
        stream.seek(132)
        unpack = zlib.decompressobj(-zlib.MAX_WBITS)
        stream.seek(144 + int.from_bytes(stream.read(12)[8:], "little"))  # behind the group 2, whose length is first
        while found <= room and not unpack.eof and (piece := unpack.unconsumed_tail or stream.read(PIECE_BYTES)):
            found += len(unpack.decompress(piece, PIECE_BYTES))
    if found > room:
        raise InputError(f"{path.name} unpacks to more than {readable(room)}.", "Convert it to explicit little endian.")


def _described(dataset: Dataset, path: Path, stream: BinaryIO) -> DicomFile:
    sop_class = UID(str(dataset.get("SOPClassUID", "")))
    if sop_class in NO_SCANS:
        raise InputError(f"{path.name} is no scan, but {NO_SCANS[sop_class]}.", "Give the images that it was made of.")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise InputError(f"{path.name} is no image ({sop_class.name or 'of an unknown kind'}).", "Give DICOM images.")
    _check_photometric(dataset, path)
    syntax = UID(str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ImplicitVRLittleEndian)))
    if syntax.is_private or not syntax.is_transfer_syntax:
        raise InputError(f"{path.name} is encoded in an unknown way (Transfer Syntax {syntax}).", EXPORT)
    if syntax.is_compressed and syntax not in DECODED and syntax != DeflatedExplicitVRLittleEndian:
        raise InputError(f"{path.name} is encoded as {syntax.name}, which is not read.", "Decompress it.")
    layout = _layout(dataset, path, stream, syntax)
    file = DicomFile(
        path=path,
        sop_class=str(sop_class),
        uid=str(dataset.get("SOPInstanceUID", "")),
        study=str(dataset.get("StudyInstanceUID", "")),
        series=str(dataset.get("SeriesInstanceUID", "")),
        series_number=_text(dataset, "SeriesNumber"),
        description=_text(dataset, "SeriesDescription"),
        instance_number=_whole(_text(dataset, "InstanceNumber")),
        is_localizer="LOCALIZER" in _text(dataset, "ImageType"),
        is_in_time=dataset.get("FrameIncrementPointer") in FRAME_TIMES,
        syntax=syntax,
        layout=layout,
        lut=_modality_lut(dataset, path),
        padding=_padding(dataset),
        patient=_text(dataset, "PatientID"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        is_lossy=_text(dataset, "LossyImageCompression") == "01" or syntax in LOSSY,
    )
    object.__setattr__(file, "frames", _frames(dataset, file))
    return file


def _check_photometric(dataset: Dataset, path: Path) -> None:
    """MONOCHROME1 and 2 differ in how they are shown, not in their grey values; all others hold none."""
    photometric = _text(dataset, "PhotometricInterpretation")
    if int(dataset.get("SamplesPerPixel") or 1) > 1 or photometric.startswith(("RGB", "YBR", "HSV", "ARGB", "CMYK")):
        raise InputError(
            f"{path.name} is a colour image ({photometric or 'several samples per pixel'}).",
            "Choose a series of grey values.",
        )
    if photometric not in ("MONOCHROME1", "MONOCHROME2", ""):
        raise InputError(
            f"{path.name} has the photometric interpretation {photometric}: its pixels are no grey values.",
            "Choose a series of grey values.",
        )


def _layout(dataset: Dataset, path: Path, stream: BinaryIO, syntax: UID) -> PixelLayout:
    """The layout, after the file's length has been compared with it."""
    big = syntax == ExplicitVRBigEndian
    tag, vr, offset, nbytes = _find_pixels(dataset, path, stream, syntax)
    allocated = int(dataset.get("BitsAllocated") or 0)
    if tag == PIXEL_DATA:
        if allocated not in (8, 16, 32):
            raise InputError(f"{path.name} has {allocated} bits for each pixel; 8, 16 or 32 can be read.", EXPORT)
        if big and allocated == 8 and vr == "OW":
            raise InputError(f"{path.name} has bytes in big-endian words.", "Convert it to explicit little endian.")
        kind = "i" if int(dataset.get("PixelRepresentation") or 0) else "u"
        stored = int(dataset.get("BitsStored") or allocated)
        high = int(dataset.get("HighBit", stored - 1))
    else:
        kind, allocated = "f", 32 if tag == FLOAT_PIXELS else 64
        stored, high = allocated, allocated - 1
    if not 0 < stored <= high + 1 <= allocated:
        raise InputError(
            f"{path.name} contradicts itself: {allocated} bits allocated, {stored} stored, the high bit is {high}.",
            EXPORT,
        )
    layout = PixelLayout(
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frames=max(1, int(dataset.get("NumberOfFrames") or 1)),
        dtype=np.dtype(f"{'>' if big else '<'}{kind}{allocated // 8}"),
        bits_stored=stored,
        high_bit=high,
        offset=offset,
        nbytes=nbytes,
    )
    if layout.rows * layout.columns == 0:
        raise InputError(f"{path.name} has no pixels: {layout.columns} x {layout.rows}.", EXPORT)
    if layout.frames > MOST_FRAMES:
        raise InputError(f"{path.name} claims {layout.frames} frames.", EXPORT)
    if not offset and layout.frames * ITEM_BYTES > nbytes:
        raise InputError(f"{path.name} claims {layout.frames} frames in {nbytes} bytes of pixels.", EXPORT)
    if offset:
        _check_length(layout, path)
    elif high != stored - 1:
        raise InputError(f"{path.name} is compressed and its high bit is {high} for {stored} bits.", "Decompress it.")
    return layout


def _check_length(layout: PixelLayout, path: Path) -> None:
    needed = layout.frame_bytes * layout.frames
    there = min(layout.nbytes, path.stat().st_size - layout.offset)
    if there < needed:
        raise InputError(
            f"{path.name} is incomplete: {there} of {needed} bytes of pixels are there.", "Copy or export it again."
        )
    if layout.nbytes - needed >= max(2, layout.frame_bytes):
        raise InputError(
            f"{path.name} contradicts itself: it says {layout.frames} frames, and its pixels are those of "
            f"{layout.nbytes // layout.frame_bytes}.",
            EXPORT,
        )


def _find_pixels(dataset: Dataset, path: Path, stream: BinaryIO, syntax: UID) -> tuple[int, str, int, int]:
    """Tag, value representation, offset (0 if encapsulated or deflated) and length of the pixels.

    The stream stands where pydicom stopped: before them.
    """
    if syntax == DeflatedExplicitVRLittleEndian:
        return PIXEL_DATA, "OW", 0, len(read_dataset(path, pixels=True).PixelData)
    start = stream.tell()
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    head = stream.read(12)
    if len(head) < 12:
        raise InputError(f"{path.name} has no pixels, or ends before them.", "Copy or export it again.")
    group, element = struct.unpack_from(order + "HH", head)
    tag = group << 16 | element
    if tag not in (PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS):
        raise InputError(f"{path.name} has no pixels.", EXPORT)
    vr = head[4:6].decode("latin-1")
    if vr in LONG_VR:
        offset, nbytes = start + 12, struct.unpack_from(order + "I", head, 8)[0]
    else:  # implicit
        vr, offset, nbytes = "OW", start + 8, struct.unpack_from(order + "I", head, 4)[0]
    is_packed = nbytes == UNDEFINED or getattr(syntax, "is_compressed", False)
    return (tag, vr, 0, path.stat().st_size - offset) if is_packed else (tag, vr, offset, nbytes)


def _modality_lut(dataset: Dataset, path: Path) -> tuple[int, np.ndarray] | None:
    """(0028,3000), PS3.3 C.11.1; a look-up table and a rescale exclude each other."""
    if not dataset.get("ModalityLUTSequence"):
        return None
    table = dataset.ModalityLUTSequence[0]
    count, first, bits = (int(n) for n in table.LUTDescriptor)
    count = count or 65536
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u1" if bits <= 8 and len(data) < 2 * count else "<u2")
    values = np.asarray(data).astype(np.int64) & 0xFFFF
    if len(values) < count:
        raise InputError(f"The look-up table of {path.name} has {len(values)} of {count} entries.", EXPORT)
    if int(dataset.get("PixelRepresentation") or 0) and first >= 0x8000:
        first -= 0x10000
    identity = float(dataset.get("RescaleSlope", None) or 1) == 1 and not float(dataset.get("RescaleIntercept") or 0)
    if not identity:
        raise InputError(f"{path.name} has both a look-up table and a rescale; which holds is not certain.", EXPORT)
    values = values[:count]
    return first, values.astype(np.int16 if values.max() < 0x8000 else np.uint16)


def _padding(dataset: Dataset) -> int | None:
    """Pixel Padding Value (0028,0120) as its 16 bits, because writers and readers confuse its two representations."""
    if "PixelPaddingValue" not in dataset or dataset.PixelPaddingValue in (None, ""):
        return None
    value = dataset.PixelPaddingValue
    value = value[0] if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else value
    if isinstance(value, bytes):
        return int.from_bytes(value[:2], "little")
    return int(value) & 0xFFFF


def _frames(dataset: Dataset, file: DicomFile) -> tuple[DicomFrame, ...]:
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
                place_in_stack=_whole(groups.text("FrameContentSequence", "InStackPositionNumber")),
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
        return _text(self.holder(group, keyword), keyword)

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


def _text(dataset: Dataset, keyword: str) -> str:
    """A tag as printable text; "" if it is missing."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8", "replace").strip(" \0")


def _whole(text: str) -> int | None:
    """A whole number; None where the text is none: no volume fails for what only counts its slices."""
    return int(text) if re.fullmatch(r"[-+]?[0-9]{1,12}", text) else None
