"""Which files are read and written, by the ends of their names; there is no other list of them."""

from __future__ import annotations

from pathlib import Path

VOLUME_FORMATS = (".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz")
OUTPUT_FORMATS = (".nrrd", ".mha", ".nii", ".nii.gz")
PICTURE_FORMATS = (".tif", ".tiff", ".png")
DICOM_FORMATS = (".dcm", ".dicom", ".ima")


def format_of(path: str | Path) -> str:
    """The end of a name in lower case, with both parts of .nii.gz."""
    path = Path(path)
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def stem_of(path: str | Path) -> str:
    """The name without its format: "scan" of "a/scan.nii.gz"."""
    name = Path(path).name
    return name[: len(name) - len(format_of(path))]
