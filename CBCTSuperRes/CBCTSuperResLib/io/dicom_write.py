"""A volume as a derived DICOM series of CT images: whose it is, what it was made of, and where every voxel is.

PS3.3 A.3 (CT Image). Only known tags of a source are carried over, none of its private ones. Worker-side.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import PersonName, format_number_as_ds

from ..core.atomic import flush_file, replacing_folder
from ..core.errors import Cancelled, OptionError, OutputError
from ..core.volume import Grid, Volume
from . import dicom_pixels
from .dicom import DicomStack, arrange, choose_series, find_series, series_of_file
from .dicom_frames import DicomFrame
from .dicom_header import read_dataset
from .folders import is_dicom
from .write import POSITION_TOLERANCE_MM, check_disk, check_folder

SOFTWARE = "CBCT Super-Resolution"
OF_PATIENT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSize"),
    *("PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod"),
)
OF_STUDY = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    "StudyDescription",
)
OF_SERIES = (
    *("BodyPartExamined", "Laterality", "PatientPosition", "FrameOfReferenceUID", "PositionReferenceIndicator", "KVP"),
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionNumber", "RescaleType", "WindowCenter", "WindowWidth"),
    *("WindowCenterWidthExplanation", "LossyImageCompression", "LossyImageCompressionRatio"),
    "LossyImageCompressionMethod",
)
OF_SCANNER = (
    *("Manufacturer", "InstitutionName", "StationName", "ManufacturerModelName", "DeviceSerialNumber"),
    "SoftwareVersions",
)
EMPTY = (  # type 2: must be there, may be empty
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "PositionReferenceIndicator", "PatientPosition", "KVP", "AcquisitionNumber"),
)
PROCESSED = Code("121322", "DCM", "Source image for image processing operation")
DERIVED_SERIES = 9000  # added to the number of the source's series
LONGEST = 64  # characters of a description, a name or an ID


@dataclass(frozen=True)
class DicomSource:
    """The DICOM images that a volume was made of.

    Attributes
    ----------
    header : pydicom.Dataset
        Of the first of them.
    stack : DicomStack
    """

    header: Dataset
    stack: DicomStack

    def nearest(self, position: np.ndarray) -> DicomFrame:
        """The frame in whose plane, or nearest to whose plane, a position (LPS, mm) lies."""
        grid = self.stack.grid
        k = np.linalg.solve(grid.direction * grid.spacing, position - np.asarray(grid.origin))[2]
        return self.stack.frames[int(np.clip(round(k), 0, len(self.stack.frames) - 1))]


@dataclass(frozen=True)
class Derivation:
    """What is said of how a volume was made.

    Attributes
    ----------
    description : str
        At most 1024 characters.
    label : str
        A few words that are put behind the source's series description.
    window : (lo, hi) in grey values
        For display, where the source has none.
    version : str
        Of this software.
    """

    description: str
    label: str
    window: tuple[float, float]
    version: str


def source_of(path: Path, series: str | None = None, spacing: Sequence[float] | None = None) -> DicomSource | None:
    """The DICOM images of a scan; None if it is none of DICOM.

    Raises
    ------
    InputError
        As reading it does.
    """
    if path.is_dir():
        available = find_series(path)[0]
        if not available:
            return None
        chosen = choose_series(available, series)
    elif is_dicom(path):
        chosen = series_of_file(path)
    else:
        return None
    stack = arrange(chosen, spacing)
    return DicomSource(read_dataset(stack.frames[0].file.path), stack)


def patient_of(source: DicomSource | None, name: str | None, id_: str | None) -> dict[str, str]:
    """Patient name and ID of a result: those of the source, or else the given ones.

    Raises
    ------
    OptionError
        If neither tells them, or they differ.
    """
    found = {}
    for keyword, words, given, option in (
        ("PatientName", "name", name, "--patient-name"),
        ("PatientID", "ID", id_, "--patient-id"),
    ):
        recorded = str(source.header.get(keyword) or "") if source else ""
        if not recorded and not given:
            raise OptionError(f"The scan does not tell the patient's {words}, which DICOM needs.", f"Give {option}.")
        if given and (len(given) > LONGEST or re.search(r"[\\\x00-\x1f]", given)):
            raise OptionError(
                f"The patient's {words} {given!r} cannot be written into DICOM.",
                f"Give at most {LONGEST} characters without backslashes.",
            )
        if given and recorded and given != recorded:
            raise OptionError(
                f"The scan is of the patient {recorded!r}, and {given!r} is given ({words}).", f"Leave out {option}."
            )
        found[keyword] = recorded or given
    return found


def check_dicom_output(folder: Path, grid: Grid) -> None:
    """Say beforehand why a series could not be written here.

    Raises
    ------
    OutputError, ResourceError
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is no empty folder.", "Choose another folder, or remove it first.")
    check_folder(folder.parent)
    check_disk(folder.parent, int(np.prod(grid.size, dtype=np.int64)) * 2)
    if abs(grid.direction[:, 0] @ grid.direction[:, 1]) > 1e-6:
        raise OutputError("DICOM holds no slices whose axes are not at right angles.", "Write .nrrd or .mha.")
    if max(grid.size[:2]) > 65535:
        raise OutputError(f"DICOM holds no slices of {grid.size[0]} x {grid.size[1]} pixels.", "Write .nrrd or .mha.")


def write_dicom(
    volume: Volume,
    folder: Path,
    derivation: Derivation,
    patient: dict[str, str],
    source: DicomSource | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Write a volume as a series of CT images: the folder appears whole or not at all; see `write_images`.

    Parameters
    ----------
    folder : path
        To be made; may exist if it is empty.

    Raises
    ------
    OutputError, ResourceError, Cancelled
        No file is left then.
    """
    check_dicom_output(folder, volume.grid)
    with replacing_folder(folder) as scratch:
        return write_images(volume, scratch, derivation, patient, source, progress, cancelled)


def write_images(
    volume: Volume,
    folder: Path,
    derivation: Derivation,
    patient: dict[str, str],
    source: DicomSource | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Fill an empty folder with a volume as a series of CT images, and read it back.

    Grey values of integer types of up to 16 bits are stored as they are. Others that span fewer than 65536 whole
    numbers are, too, by a rescale intercept; of all the rest the range is divided into 65535 steps.

    Parameters
    ----------
    volume : Volume
    folder : Path
    derivation : Derivation
    patient : dict
        See `patient_of`.
    source : DicomSource, optional
        Whose patient, study and frame of reference the series belongs to.

    Returns
    -------
    dict
        "study", "series" (UIDs), "slices", and "step", the rescale slope.

    Raises
    ------
    OutputError, ResourceError, Cancelled
    """
    slope, intercept, kind = _scaling(volume.voxels)
    common = _common(volume, derivation, patient, source, slope, intercept, kind)
    count, now = len(volume.voxels), datetime.now()
    for k, pixels in enumerate(volume.voxels):
        if cancelled and cancelled():
            raise Cancelled()
        image = _image(common, now)
        position = volume.grid.point((0, 0, k))
        image.ImagePositionPatient = [_ds(x) for x in position]
        image.InstanceNumber = k + 1
        if source:
            image.SourceImageSequence = Items([_reference(source.nearest(position))])
        image.PixelData = _stored(pixels, slope, intercept, kind).tobytes()
        image["PixelData"].VR = "OW"
        file = folder / f"IM{k + 1:0{max(4, len(str(count)))}d}.dcm"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pydicom.dcmwrite(file, image)
        flush_file(file)
        if progress:
            progress((k + 1) / count, "Writing DICOM")
    _check_written(folder, volume, slope)
    return {"study": common.StudyInstanceUID, "series": common.SeriesInstanceUID, "slices": count, "step": slope}


def _scaling(voxels: np.ndarray) -> tuple[float, float, np.dtype]:
    """Rescale slope, intercept and the type in which stored values lie."""
    if voxels.dtype in (np.int8, np.int16):
        return 1.0, 0.0, np.dtype("<i2")
    if voxels.dtype in (np.uint8, np.uint16):
        return 1.0, 0.0, np.dtype("<u2")
    low, high = float(voxels.min()), float(voxels.max())
    if voxels.dtype.kind in "iu" and high - low <= 65535:
        return 1.0, low, np.dtype("<u2")
    slope = float(_ds((high - low) / 65535)) or 1.0
    return slope, float(_ds(low)), np.dtype("<u2")


def _stored(pixels: np.ndarray, slope: float, intercept: float, kind: np.dtype) -> np.ndarray:
    if (slope, intercept) == (1, 0) and pixels.dtype.kind in "iu":
        return pixels.astype(kind)
    return np.clip(np.rint((pixels.astype(np.float64) - intercept) / slope), 0, 65535).astype(kind)


def _common(
    volume: Volume,
    derivation: Derivation,
    patient: dict[str, str],
    source: DicomSource | None,
    slope: float,
    intercept: float,
    kind: np.dtype,
) -> Dataset:
    """Everything that all images of the series have in common."""
    grid, now = volume.grid, datetime.now()
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    image.SOPClassUID, image.Modality = CTImageStorage, "CT"
    for keyword in EMPTY:
        setattr(image, keyword, None)
    header = source.header if source else Dataset()
    for keyword in (*OF_PATIENT, *OF_STUDY, *OF_SERIES):
        _carry_over(header, image, keyword)
    image.PatientName, image.PatientID = patient["PatientName"], patient["PatientID"]
    image.StudyInstanceUID = image.get("StudyInstanceUID") or generate_uid(None)
    image.FrameOfReferenceUID = image.get("FrameOfReferenceUID") or generate_uid(None)
    image.SeriesInstanceUID = generate_uid(None)
    image.SeriesNumber = DERIVED_SERIES + int(header.get("SeriesNumber") or 0)
    before = str(header.get("SeriesDescription") or "")[: LONGEST - len(derivation.label) - 1]
    image.SeriesDescription = f"{before} {derivation.label}".strip()[:LONGEST]
    image.SeriesDate = image.ContentDate = now.strftime("%Y%m%d")
    image.SeriesTime = image.ContentTime = now.strftime("%H%M%S")
    image.Manufacturer = image.ManufacturerModelName = SOFTWARE
    image.SoftwareVersions = derivation.version
    image.DerivationDescription = derivation.description[:1024]
    image.DerivationCodeSequence = Items([_coded(codes.DCM.SpatialResampling)])
    image.BurnedInAnnotation = "NO"
    scanner = Dataset()
    for keyword in OF_SCANNER:
        _carry_over(header, scanner, keyword)
    if scanner:
        scanner.SpecificCharacterSet = image.SpecificCharacterSet  # pydicom 2 does not inherit it
        scanner.PurposeOfReferenceCodeSequence = Items([_coded(codes.DCM.AcquisitionEquipment)])
        image.ContributingEquipmentSequence = Items([scanner])

    image.ImageOrientationPatient = [_ds(x) for x in grid.direction[:, :2].T.ravel()]
    image.PixelSpacing = [_ds(grid.spacing[1]), _ds(grid.spacing[0])]
    image.SliceThickness = image.SpacingBetweenSlices = _ds(grid.spacing[2])
    image.Rows, image.Columns = volume.voxels.shape[1:]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation = int(kind.kind == "i")
    image.RescaleSlope, image.RescaleIntercept = _ds(slope), _ds(intercept)
    image.RescaleType = image.get("RescaleType") or "US"
    if "WindowCenter" not in image or "WindowWidth" not in image:
        low, high = derivation.window
        image.WindowCenter, image.WindowWidth = _ds((low + high) / 2), _ds(high - low)
    padding = volume.padding_value
    if padding is not None:
        stored = round((padding - intercept) / slope)
        if np.iinfo(kind).min <= stored <= np.iinfo(kind).max:
            image.add_new("PixelPaddingValue", "SS" if kind.kind == "i" else "US", stored)
    return image


def _carry_over(header: Dataset, image: Dataset, keyword: str) -> None:
    """A tag's value as plain text, so that it is written in the new character set."""
    value = header.get(keyword)
    if value in (None, ""):
        return
    if isinstance(value, (str, int, float, PersonName)):
        setattr(image, keyword, str(value))
    else:
        setattr(image, keyword, [str(part) for part in value])


def _image(common: Dataset, now: datetime) -> FileDataset:
    """A new image with the common tags."""
    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength, meta.FileMetaInformationVersion = 0, b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid(None)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = pydicom.uid.PYDICOM_IMPLEMENTATION_UID
    image = FileDataset(None, dict(common.items()), preamble=bytes(128), file_meta=meta)
    if pydicom.__version_info__[0] == "2":
        image.is_little_endian, image.is_implicit_VR = True, False
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.InstanceCreationDate, image.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    return image


def _reference(frame: DicomFrame) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = frame.file.sop_class, frame.file.uid
    if len(frame.file.frames) > 1:
        reference.ReferencedFrameNumber = frame.index + 1
    reference.PurposeOfReferenceCodeSequence = Items([_coded(PROCESSED)])
    return reference


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _ds(number: float) -> str:
    """A number as at most 16 characters, the most that DICOM allows."""
    return format_number_as_ds(float(number))


def _check_written(folder: Path, volume: Volume, slope: float) -> None:
    """Read the series back as anybody would: places to 1e-4 mm, grey values to half a step.

    A left-handed volume comes back from its other end, with every slice in its place.

    Raises
    ------
    OutputError
    """
    stack, last = arrange(choose_series(find_series(folder)[0], None)), len(volume.voxels) - 1
    for frame in (stack.frames[0], stack.frames[-1]):
        k = int(frame.file.instance_number) - 1
        off = np.abs(np.subtract(frame.position, volume.grid.point((0, 0, k)))).max()
        pixels = dicom_pixels.stack([frame])[0].astype(np.float64)
        if k not in (0, last) or np.abs(pixels - volume.voxels[k]).max() > 0.51 * slope:
            raise OutputError("What was written as DICOM has other grey values.", "Check the disk, and report it.")
        spacing = np.abs(np.subtract(stack.grid.spacing, volume.grid.spacing)) * volume.grid.size
        if stack.grid.size != volume.grid.size or max(off, spacing.max()) > POSITION_TOLERANCE_MM:
            raise OutputError("What was written as DICOM lies elsewhere than the volume.", "Report it.")
