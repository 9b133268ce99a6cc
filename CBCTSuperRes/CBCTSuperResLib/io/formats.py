"""Names of files: which are read and written, by their ends (there is no other list), and which can be given."""

from __future__ import annotations

import re
from itertools import count
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


def file_name(name: str, otherwise: str = "image") -> str:
    """A name as that of a file on every system: no separators, nothing that Windows refuses."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]+', "_", name).strip(" .") or otherwise


def free_path(folder: Path, name: str, suffix: str = "", between: str = " ") -> Path:
    """A file or folder that is not there yet: of this name, or with a number from 2 on behind it."""
    path = folder / f"{name}{suffix}"
    numbers = count(2)
    while path.exists():
        path = folder / f"{name}{between}{next(numbers)}{suffix}"
    return path
