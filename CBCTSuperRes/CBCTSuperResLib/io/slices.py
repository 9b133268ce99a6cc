"""A folder of TIFF or PNG slices, or one TIFF file of many pages, as a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from .checks import check_size
from .headers import PictureFacts
from .slice_files import read_facts, read_pixels
from .slice_names import ordered, skipping

NEEDS_SPACING = (
    "Image slices do not record their distance.",
    "Give the spacing x, y and z in mm, for instance --spacing 0.08 0.08 0.08.",
)
STRANGER = "Remove the images that do not belong to the volume."


@dataclass(frozen=True)
class Slices:
    """Slices in the order of k, or one file with all of them; looked at, not read yet.

    Attributes
    ----------
    files : tuple of PictureFacts
    """

    files: tuple[PictureFacts, ...]

    @property
    def size(self) -> tuple[int, int, int]:
        first = self.files[0]
        return (*first.size, first.pages if len(self.files) == 1 else len(self.files))

    @property
    def dtype(self) -> np.dtype:
        """Of the grey values."""
        return self.files[0].grey_type

    @property
    def spacing(self) -> tuple[float | None, ...] | None:
        """As the first file records it: the distance of slices only where it holds all of them."""
        found = self.files[0].spacing
        return found if len(self.files) == 1 or not found else (*found[:2], None)

    @property
    def warnings(self) -> list[str]:
        return list(dict.fromkeys(text for facts in self.files for text in facts.warnings))

    def read(self) -> tuple[np.ndarray, list[str]]:
        """The voxels, (k, j, i), and what was noticed in them."""
        if len(self.files) == 1:
            return read_pixels(self.files[0]), []
        voxels, doubles = np.empty(self.size[::-1], self.dtype), []
        for k, facts in enumerate(self.files):
            voxels[k] = read_pixels(facts)[0]
            if k and np.array_equal(voxels[k], voxels[k - 1]) and voxels[k].min() < voxels[k].max():
                doubles.append(f"{self.files[k - 1].path.name} and {facts.path.name}")
        notes = list(filter(None, [skipping([facts.path for facts in self.files])]))
        if doubles:
            more = f", and {len(doubles) - 1} more such pairs" if len(doubles) > 1 else ""
            notes.append(f"{doubles[0]} hold the same pixels{more}: is one of them a copy?")
        return voxels, notes


def examine(files: Sequence[Path]) -> Slices:
    """Look at slices, which must be numbered and alike, or at the pages of a single file.

    Raises
    ------
    InputError
        If slices are missing or doubled, colour, unlike each other, or damaged; see also `slice_names.ordered`.
    """
    kinds = sorted({path.suffix.lower().replace("tiff", "tif") for path in files})
    if len(kinds) > 1:
        raise InputError(f"The folder holds slices of different formats ({', '.join(kinds)}).", "Keep one kind in it.")
    found = [read_facts(path) for path in ordered(files)]
    first = found[0]
    if first.components > 1:
        raise _no_grey_image(first)
    for facts in found[1:]:
        _check_like_first(facts, first)
    slices = Slices(tuple(found))
    check_size(slices.size if slices.size[2] > 1 else slices.size[:2])
    return slices


def _no_grey_image(facts: PictureFacts) -> InputError:
    what = "has two values in each pixel (grey and transparency)" if facts.components == 2 else "is a colour image"
    return InputError(f"{facts.path.name} {what}.", "Save the slices with one grey value in each pixel.")


def _check_like_first(facts: PictureFacts, first: PictureFacts) -> None:
    name = facts.path.name
    if facts.components > 1:
        raise _no_grey_image(facts)
    several = next((one for one in (first, facts) if one.pages > 1), None)
    if several:
        raise InputError(
            f"{several.path.name} has several pages.", "Keep either single slices or one file of many pages."
        )
    if (facts.size, facts.dtype.newbyteorder("=")) != (first.size, first.dtype.newbyteorder("=")):
        raise InputError(
            f"{name} is unlike the first slice: {facts.size} pixels of {facts.dtype.name}, not {first.size} of "
            f"{first.dtype.name}.",
            STRANGER,
        )
    if (facts.spacing or ())[:2] != (first.spacing or ())[:2]:
        raise InputError(f"{name} records other pixel edges than the first slice.", STRANGER)
    if facts.scale != first.scale:
        raise InputError(
            f"The grey values of {name} are calibrated (ImageJ) unlike those of the first slice.", STRANGER
        )
