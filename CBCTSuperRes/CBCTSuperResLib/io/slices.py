"""A folder of TIFF or PNG slices, or one TIFF file of many pages, as a volume."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.volume import Grid
from .checks import check_size
from .formats import PICTURE_FORMATS, format_of
from .images import ImageFacts, read_facts, read_voxels

NEEDS_SPACING = (
    "Image slices do not record their distance.",
    "Give the spacing x, y and z in mm, for instance --spacing 0.08 0.08 0.08.",
)
STRANGER = "Remove the images that do not belong to the volume."


def find_slices(folder: Path) -> list[Path]:
    """The TIFF or PNG files of a folder in the order that people count: slice2 before slice10."""
    files = [path for path in folder.iterdir() if format_of(path) in PICTURE_FORMATS and not path.name.startswith(".")]
    return sorted(files, key=_natural_key)


def examine(files: Sequence[Path], spacing: Sequence[float] | None) -> tuple[Grid, ImageFacts]:
    """The grid of these slices, or of a single file's pages, and the facts of the first file.

    The first slice is k = 0 and the axes are along x, y and z.

    Raises
    ------
    InputError
        If the spacing (x, y, z) in mm is not given, or the images are colour or of different formats.
    """
    if not spacing:
        raise InputError(*NEEDS_SPACING)
    kinds = sorted({path.suffix.lower().replace("tiff", "tif") for path in files})
    if len(kinds) > 1:
        raise InputError(f"The folder holds slices of different formats ({', '.join(kinds)}).", "Keep one kind in it.")
    facts = read_facts(files[0])
    size = facts.size if len(files) == 1 else (*facts.size[:2], len(files))
    check_size(size, facts.components)
    return Grid(size, tuple(spacing)), facts


def stack(files: Sequence[Path], first: ImageFacts) -> np.ndarray:
    """The voxels of slices that must all be like the first, or of one file's pages.

    Raises
    ------
    InputError
        If an image differs in size, type or number of pages, or is not readable.
    """
    if len(files) == 1:
        return read_voxels(files[0])
    voxels = np.empty((len(files), first.size[1], first.size[0]), first.dtype)
    for k, path in enumerate(files):
        _check_like_first(path, first)
        voxels[k] = read_voxels(path).reshape(voxels.shape[1:])
    return voxels


def _check_like_first(path: Path, first: ImageFacts) -> None:
    facts = read_facts(path)
    if facts.components > 1:
        raise InputError(f"{path.name} is a colour image.", "Save the slices with one grey value in each pixel.")
    if len(facts.size) > 2 and facts.size[2] > 1:
        raise InputError(f"{path.name} has several pages.", "Keep either single slices or one file of many pages.")
    if (facts.size, facts.dtype) != (first.size, first.dtype):
        raise InputError(
            f"{path.name} is unlike the first slice: {facts.size[:2]} pixels of {facts.dtype}, "
            f"not {first.size[:2]} of {first.dtype}.",
            STRANGER,
        )


def _natural_key(path: Path) -> list:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.stem.casefold())]
