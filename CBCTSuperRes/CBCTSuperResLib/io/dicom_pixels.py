"""Stored pixels of DICOM files as grey values, as their tags say. Worker-side: needs pydicom.

Grey value = slope * stored + intercept, or the entry of the modality look-up table. Whether low values are shown bright
(MONOCHROME1) does not change them. Uncompressed pixels are taken from the file by its own layout. GDCM decodes JPEGs
only, from a copy that holds nothing but the pixels, so that nothing else can be interpreted on the way.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from ..core.crash_note import decoding
from ..core.errors import InputError, ResourceError
from .dicom_frames import EXPORT, DicomFile, DicomFrame
from .dicom_header import read_dataset
from .images import read_voxels

IO = "GDCMImageIO"
NEEDED = (
    *("Rows", "Columns", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
)
LARGEST_RATIO = 20_000  # of decoded to compressed bytes; even a black image takes more


def stack(frames: Sequence[DicomFrame]) -> np.ndarray:
    """The grey values of frames of one size, (k, j, i), whose type widens only when a frame needs it.

    The peak of memory is the volume and one frame; of a compressed file of many frames, its decoded pixels, too.

    Raises
    ------
    InputError
        If pixels cannot be decoded, or are not what their tags say.
    """
    first = frames[0].file.layout
    voxels = None
    for k, pixels in _grey_values(frames):
        if voxels is None:
            voxels = np.zeros((len(frames), first.rows, first.columns), pixels.dtype)
        wider = np.result_type(voxels.dtype, pixels.dtype)
        if wider != voxels.dtype:
            voxels = voxels.astype(wider)
        voxels[k] = pixels
    return voxels


def _grey_values(frames: Sequence[DicomFrame]) -> Iterator[tuple[int, np.ndarray]]:
    """(place in the stack, grey values), file by file."""
    places: dict[DicomFile, list[int]] = {}
    for k, frame in enumerate(frames):
        places.setdefault(frame.file, []).append(k)
    for file, inside in places.items():
        with _stored(file) as stored:
            for k in inside:
                yield k, grey_values(cleaned(stored(frames[k].index), frames[k]), frames[k])


@contextmanager
def _stored(file: DicomFile):
    """A function from the number of a frame to its cells as they lie in the file."""
    layout = file.layout
    shape = layout.rows, layout.columns
    if layout.offset:
        with open(file.path, "rb") as stream:

            def cells(index: int) -> np.ndarray:
                stream.seek(layout.offset + index * layout.frame_bytes)
                found = np.fromfile(stream, layout.dtype, layout.rows * layout.columns)
                if found.size < layout.rows * layout.columns:
                    raise InputError(f"{file.path.name} is incomplete.", "Copy or export it again.")
                return found.reshape(shape)

            yield cells
    else:
        decoded = _decoded(file)
        yield lambda index: decoded[index]


def _decoded(file: DicomFile) -> np.ndarray:
    """All frames of a compressed or deflated file, (frames, rows, columns).

    Raises
    ------
    InputError
    """
    layout, syntax = file.layout, file.syntax
    shape, needed = (layout.frames, layout.rows, layout.columns), layout.frames * layout.frame_bytes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = read_dataset(file.path, pixels=True)
            data = dataset.PixelData
            if syntax == DeflatedExplicitVRLittleEndian:
                return np.frombuffer(data, layout.dtype, needed // layout.dtype.itemsize).reshape(shape)
            if needed > LARGEST_RATIO * len(data):
                raise ValueError(f"{needed} bytes of pixels in {len(data)}")
            plain = _plain(dataset)
            if syntax == RLELossless:
                return plain.pixel_array.reshape(shape)
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "plain.dcm"
                pydicom.dcmwrite(copy, plain)
                with decoding(file.path):
                    return read_voxels(copy, IO).reshape(shape)
    except ResourceError:
        raise
    except Exception as error:  # what decoders raise on damaged pixels is of every kind
        what = f"The pixels of {file.path.name} cannot be decoded ({syntax.name})."
        raise InputError(what, "Decompress it, or export it again.") from error


def _plain(dataset: FileDataset) -> FileDataset:
    """A copy that says nothing but how the pixels are stored."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = "2.25.1"
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    plain = FileDataset(None, {}, preamble=bytes(128), file_meta=meta)
    if pydicom.__version_info__[0] == "2":
        plain.is_little_endian, plain.is_implicit_VR = True, False
    plain.SOPClassUID, plain.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    plain.PhotometricInterpretation, plain.SamplesPerPixel, plain.PixelRepresentation = "MONOCHROME2", 1, 0
    for keyword in NEEDED:
        if keyword in dataset:
            plain[keyword] = dataset[keyword]
    return plain


def cleaned(cells: np.ndarray, frame: DicomFrame) -> np.ndarray:
    """The stored values of cells: their bits up to the high bit, in native byte order.

    Raises
    ------
    InputError
        If other bits are set, and it is not the sign that they repeat.
    """
    layout = frame.file.layout
    cells = cells.astype(cells.dtype.newbyteorder("="), copy=False)
    if cells.dtype.kind == "f":
        return cells
    below = layout.high_bit + 1 - layout.bits_stored
    above = 8 * cells.dtype.itemsize - layout.high_bit - 1
    if not below and not above:
        return cells
    signed = layout.dtype.kind == "i"
    width = cells.dtype.itemsize
    bits = cells.view(f"u{width}") << np.array(above, f"u{width}")
    values = bits.view(f"{layout.dtype.kind}{width}") >> np.array(above + below, f"{layout.dtype.kind}{width}")
    plain = cells.view(f"u{width}") >> np.array(below, f"u{width}")
    repeated = values.view(f"u{width}") if not below else None
    strange = above and (plain >> np.array(layout.bits_stored, f"u{width}") != 0)
    if repeated is not None and signed:
        strange = strange & (cells.view(f"u{width}") != repeated)
    if np.any(strange) and not _has_overlay(frame.file):
        raise InputError(
            f"{frame.name} sets bits beyond the {layout.bits_stored} of {8 * width} that it announces (Bits Stored).",
            EXPORT,
        )
    if width == 4 and layout.bits_stored <= 16:
        return values.astype(np.int16 if signed else np.uint16)
    return values


def _has_overlay(file: DicomFile) -> bool:
    """Whether graphics are kept in the unused bits of the pixels, as files of old do: Overlay Bit Position."""
    dataset = read_dataset(file.path)
    return any(0x6000 <= e.tag.group <= 0x60FF and e.tag.element == 0x0102 and e.value for e in dataset)


def grey_values(stored: np.ndarray, frame: DicomFrame) -> np.ndarray:
    """Grey values of stored values, in a type no larger than they need."""
    if frame.file.lut:
        first, values = frame.file.lut
        return values[np.clip(stored.astype(np.int64) - first, 0, len(values) - 1)]
    slope = 1.0 if frame.slope is None else frame.slope
    intercept = 0.0 if frame.intercept is None else frame.intercept
    if stored.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return (stored * np.float64(slope) + intercept).astype(np.float32)
    if (slope, intercept) != (1, 0):
        stored = stored * np.int64(slope) + np.int64(intercept)
    elif stored.dtype.itemsize <= 2:
        return stored
    low, high = stored.min(), stored.max()
    for kind in (np.int16, np.int32, np.uint32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return stored.astype(kind)
    return stored.astype(np.float64)
