"""DICOM files as scanners and programs write them, built with pydicom for the tests of reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
WORD_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"  # multi-frame grayscale word secondary capture
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PIXEL = 0.25  # mm


def ramp(slices: int = 8, rows: int = 6, columns: int = 7, kind: str = "uint16") -> np.ndarray:
    """Voxels that are all different, so that each slice is told by any of its pixels."""
    return (np.arange(slices * rows * columns).reshape(slices, rows, columns) * 3 + 100).astype(kind)


def item(**values) -> Items:
    """A sequence of one item with these tags."""
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Items([dataset])


def image(pixels: np.ndarray, sop_class: str = CT, series: str = "1.2.3", study: str = "1.2") -> FileDataset:
    """A DICOM image of these pixels, (rows, columns) or (frames, rows, columns), without place, spacing or rescale."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, preamble=bytes(128), file_meta=meta)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, "1.2.9"
    dataset.Modality, dataset.PatientName, dataset.PatientID, dataset.SeriesNumber = "CT", "Doe^Jane", "P1", 4
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def save(dataset: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_slices(
    folder: Path,
    voxels: np.ndarray,
    z: Sequence[float | str],
    change: Callable[[int, FileDataset], None] = lambda k, dataset: None,
) -> list[Path]:
    """A file for each slice; slice k lies at z[k] mm. `change` may alter or take away any tag."""
    files = []
    for k, pixels in enumerate(voxels):
        dataset = image(pixels)
        dataset.ImagePositionPatient = ["-10", "-20", z[k] if isinstance(z[k], str) else f"{z[k]:.9g}"]
        dataset.ImageOrientationPatient, dataset.PixelSpacing = list(AXIAL), [PIXEL, PIXEL]
        dataset.InstanceNumber = k + 1
        change(k, dataset)
        files.append(save(dataset, folder / f"IM{k + 1:04d}.dcm"))
    return files


def enhanced(
    voxels: np.ndarray,
    positions: Sequence[Sequence[float]],
    change: Callable[[int, Dataset], None] = lambda n, frame: None,
    series: str = "1.2.3",
) -> FileDataset:
    """An Enhanced CT image; frame n lies at positions[n]. `change` may alter the functional groups of each frame."""
    dataset = image(voxels, ENHANCED_CT, series)
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[PIXEL, PIXEL], SliceThickness=PIXEL)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(AXIAL))
    shared.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")
    dataset.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for n, position in enumerate(positions):
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=[f"{x:.9g}" for x in position])
        frame.FrameContentSequence = item(StackID="1", InStackPositionNumber=n + 1)
        change(n, frame)
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Items(frames)
    return dataset


def heights(z: Sequence[float]) -> list[tuple[float, float, float]]:
    """Positions above each other, z in mm."""
    return [(-10.0, -20.0, float(height)) for height in z]
