"""SHA-256 of files and arrays: what a model, a cache or a report is recognised by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np


def file_sha256(path: str | Path) -> str:
    """SHA-256 (hexadecimal) of a whole file; reads it in pieces.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def voxels_sha256(voxels: np.ndarray) -> str:
    """SHA-256 (hexadecimal) of an array's values, the same on every machine."""
    little = np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))
    return hashlib.sha256(little).hexdigest()
