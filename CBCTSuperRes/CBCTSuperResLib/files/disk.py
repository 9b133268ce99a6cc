"""Room on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import ResourceError

RESERVE = 1024 * 1024  # for headers, reports and the file system's own needs


def free_disk_bytes(path: str | Path) -> int:
    """Free bytes on the disk of a file or folder, which need not exist yet."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def check_disk(folder: Path, nbytes: int) -> None:
    """Say beforehand that so many bytes will not fit.

    Raises
    ------
    ResourceError
    """
    free = free_disk_bytes(folder)
    if free < nbytes + RESERVE:
        raise ResourceError(
            f"The result takes {nbytes / 1e9:.2f} GB and the disk of {folder} has {free / 1e9:.2f} GB free.",
            "Free some space, choose another disk, a smaller ROI, axial planes only, or a smaller type such as int16.",
        )
