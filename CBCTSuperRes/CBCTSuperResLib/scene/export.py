"""A result out of the scene: into a file with its report beside it, or as a DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk
import slicer
import vtk

from ..core.volume import Grid
from ..io.folders import is_dicom
from ..io.formats import file_name, free_path
from .jobs import VolumeJob
from .nodes import inputOf, reportOf

TAGS = {"name": "0010|0010", "id": "0010|0020", "series": "0020|000e", "frames": "0028|0008"}


class ExportJob(VolumeJob):
    """A result on its way to a file or a folder; the scene stays as it is. `report` is that of the worker.

    Parameters
    ----------
    resultVolume : vtkMRMLScalarVolumeNode
    path : Path
        The file, or for DICOM the folder, to be made.
    patient : dict or None
        "patient_name" and "patient_id" for a DICOM series, where the scan does not tell them; None for a file.

    Attributes
    ----------
    isDicom : bool
    """

    def __init__(
        self,
        resultVolume: slicer.vtkMRMLScalarVolumeNode,
        path: Path,
        patient: dict[str, str] | None,
        worker: Callable,
        folder: Path,
    ) -> None:
        self.path, self.isDicom = path, patient is not None
        scan, report = fileOf(inputOf(resultVolume)), reportOf(resultVolume)
        task = {"kind": "save", "scan": scan and str(scan), "report": report, "out": str(path)}
        if self.isDicom:
            tags = dicomTags(scan)
            task |= {"kind": "dicom", "report": report["super_resolution"], **patient}
            if tags and not tags["frames"]:  # the file is one slice of the scan
                task |= {"scan": str(scan.parent), "series": tags["series"]}
        super().__init__({"result": resultVolume}, None, task, worker, folder)
        self._results = []

    def publish(self, images: list[tuple[vtk.vtkImageData, Grid]]) -> None:
        """There is nothing to be made of it in the scene."""


def fileOf(node: slicer.vtkMRMLScalarVolumeNode | None) -> Path | None:
    """The file that a volume was loaded from, the first of several; None if there is none any more."""
    if node is None:
        return None
    storage, database = node.GetStorageNode(), getattr(slicer, "dicomDatabase", None)
    found = storage.GetFullNameFromFileName() if storage and storage.GetFileName() else ""
    images = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    if not found and images and database is not None:
        found = database.fileForInstance(images[0])
    return Path(found) if found and Path(found).is_file() else None


def dicomTags(scan: Path | None) -> dict[str, str]:
    """Of a file of DICOM: the patient's "name" and "id", "series" and, of several, the number of "frames"; or {}."""
    if scan is None or not is_dicom(scan):
        return {}
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(scan))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # the worker will say what is wrong with it
        return {}
    tags = {name: reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else "" for name, tag in TAGS.items()}
    return tags | {"frames": tags["frames"] if tags["frames"] not in ("", "0", "1") else ""}


def freePath(resultVolume: slicer.vtkMRMLScalarVolumeNode, suffix: str, folder: Path | None = None) -> Path:
    """A name for a result that no file or folder has yet; without a folder, beside its scan, or else at home."""
    if folder is None:
        scan = fileOf(inputOf(resultVolume))
        folder = scan.parent if scan else Path.home()
    return free_path(folder, file_name(resultVolume.GetName(), "result"), suffix)
