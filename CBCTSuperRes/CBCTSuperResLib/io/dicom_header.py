"""The header of a DICOM file, read and checked: what kind of image it is, and how its pixels are stored.

What it says of each frame is read in dicom_frames.py. Worker-side: needs pydicom.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
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
from .dicom_frames import EXPORT, DicomFile, PixelLayout, frames_of, text_of, whole_number

NO_SCANS = {
    **dict.fromkeys(("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"), "a segmentation"),
    "1.2.840.10008.5.1.4.1.1.481.2": "a dose distribution (RT Dose)",
}
DECODED = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless}
DECODED |= {JPEG2000Lossless, JPEG2000, RLELossless}
LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless}
PIXEL_DATA, FLOAT_PIXELS, DOUBLE_PIXELS = 0x7FE00010, 0x7FE00008, 0x7FE00009
LONG_VR = ("OB", "OW", "OF", "OD", "OL", "OV", "UN")
FRAME_TIMES = (0x00181063, 0x00181065)  # Frame Time, Frame Time Vector
UNDEFINED = 0xFFFFFFFF
ITEM_BYTES = 8  # that a compressed frame takes at least
MOST_FRAMES = 65535
PIECE_BYTES = 1 << 20


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
            return tuple(text_of(found, keyword) for keyword in keywords)
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
        series_number=text_of(dataset, "SeriesNumber"),
        description=text_of(dataset, "SeriesDescription"),
        instance_number=whole_number(text_of(dataset, "InstanceNumber")),
        is_localizer="LOCALIZER" in text_of(dataset, "ImageType"),
        is_in_time=dataset.get("FrameIncrementPointer") in FRAME_TIMES,
        syntax=syntax,
        layout=layout,
        lut=_modality_lut(dataset, path),
        padding=_padding(dataset),
        patient=text_of(dataset, "PatientID"),
        frame_of_reference=text_of(dataset, "FrameOfReferenceUID"),
        is_lossy=text_of(dataset, "LossyImageCompression") == "01" or syntax in LOSSY,
    )
    object.__setattr__(file, "frames", frames_of(dataset, file))
    return file


def _check_photometric(dataset: Dataset, path: Path) -> None:
    """MONOCHROME1 and 2 differ in how they are shown, not in their grey values; all others hold none."""
    photometric = text_of(dataset, "PhotometricInterpretation")
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
    tag, vr, offset, nbytes = _find_pixels(path, stream, syntax)
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


def _find_pixels(path: Path, stream: BinaryIO, syntax: UID) -> tuple[int, str, int, int]:
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
