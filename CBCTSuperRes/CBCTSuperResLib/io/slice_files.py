"""One picture file, TIFF or PNG: what is in it, and its pixels as grey values.

What reads them is loaded when it is needed, because Slicer's own Python may lack it; see `tiff` and `png`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.errors import DependencyError, InputError
from .formats import format_of
from .headers import PictureFacts


def read_facts(path: str | Path) -> PictureFacts:
    """What a picture file holds, every page of it checked against the file; no pixels are read.

    Raises
    ------
    InputError
        If it is damaged, or its pixels cannot be taken for grey values.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is an empty file.", "Copy or export it again.")
        return _reader(path).read_facts(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", "Check the file and its folder.") from error


def read_pixels(facts: PictureFacts) -> np.ndarray:
    """All pages as grey values, (pages, rows, columns), or with a fourth axis of the values of a pixel.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    stored = _reader(facts.path).read_pixels(facts)
    if facts.scale == (1.0, 0.0):
        return stored
    slope, intercept = facts.scale
    grey = np.empty(stored.shape, facts.grey_type)
    for k, page in enumerate(stored):
        grey[k] = page.astype(np.int64) + int(intercept) if grey.dtype.kind in "iu" else page * slope + intercept
    return grey


def _reader(path: Path):
    if format_of(path) == ".png":
        from . import png

        return png
    try:
        from . import tiff
    except ImportError as error:
        raise DependencyError(
            "The package tifffile, which reads TIFF, is not installed.", "Install it: pip install tifffile."
        ) from error
    return tiff
