"""The slices that files consist of, known from their headers before any is decoded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

import numpy as np

from ...errors import InputError, OptionError, SuperResError
from ...files import probe
from ...files.images import read_facts
from .listing import Entry

AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Plane:
    """A slice that is still on disk.

    Attributes
    ----------
    entry : Entry
    name : str
        Unique below the entry's root.
    size : (rows, columns)
    nbytes : int
        Of its pixels as stored.
    entry_nbytes : int
        Of all planes of its entry together.
    axis : int or None
        Of the voxels (k, j, i) of a volume; None for a slice file.
    index : int
        Along that axis, in the part of the volume that `slices` leaves.
    slices : (first, last)
        The axial slices of the volume that are used.
    spacing : (rows, columns) in mm, or None if it is not known
    """

    entry: Entry
    name: str
    size: tuple[int, int]
    nbytes: int
    entry_nbytes: int
    axis: int | None = None
    index: int = 0
    slices: tuple[int, int] = (0, 1)
    spacing: tuple[float, float] | None = None

    def of(self, voxels: np.ndarray) -> np.ndarray:
        """Its pixels (C, H, W), a view of the entry's: (C, H, W) of a slice, (k, j, i) of a volume."""
        return voxels if self.axis is None else np.moveaxis(voxels, self.axis, 0)[self.index][None]


def planes_of(entry: Entry, axis: str = "axial", slices: tuple[int, int] | None = None) -> list[Plane]:
    """The slices of an entry.

    Parameters
    ----------
    entry : Entry
    axis : "axial", "coronal", "sagittal" or "all"
        How a volume is cut; a slice file is one plane.
    slices : (first, last), optional
        Of a volume only the axial slices first <= k < last are used, whichever way it is cut.
    """
    return _planes_of_volume(entry, axis, slices) if entry.is_volume else [_plane_of_file(entry)]


def bytes_of(planes: Iterable[Plane]) -> int:
    """Memory that the pixels of these planes take; those of a volume cut along several axes are there once."""
    groups = (list(group) for _, group in groupby(planes, lambda plane: plane.entry))
    return sum(min(sum(plane.nbytes for plane in group), group[0].entry_nbytes) for group in groups)


def naming(entry: Entry, work: Callable[[], Result]) -> Result:
    """What `work` returns; its errors tell which entry they are about."""
    try:
        return work()
    except SuperResError as error:
        raise type(error)(f"{entry.path}: {error.what}", error.advice) from error


def _plane_of_file(entry: Entry) -> Plane:
    facts = read_facts(entry.path)
    if any(n > 1 for n in facts.size[2:]):
        raise InputError(f"{entry.path} has {facts.size[2]} pages.", "Save each slice as a file of its own.")
    bits = re.search(r"(\d+)[- ]bit", facts.type_name)
    itemsize = int(bits[1]) // 8 if bits else 8
    columns, rows = facts.size[:2]
    nbytes = rows * columns * facts.components * itemsize
    return Plane(entry, entry.name, (rows, columns), nbytes, nbytes)


def _planes_of_volume(entry: Entry, axis: str, slices: tuple[int, int] | None) -> list[Plane]:
    found = naming(entry, lambda: probe(entry.path))
    depth, *extent = found.grid.shape
    first, last = slices or (0, depth)
    last = min(last, depth)
    if first >= last:
        raise OptionError(f"{entry.path} has {depth} slices: [{first}, {last}) is none of them.", "Correct slices.")
    shape, spacing = (last - first, *extent), found.grid.spacing[::-1]
    planes = []
    for name, number in AXES.items():
        if axis not in (name, "all"):
            continue
        rows, columns = (a for a in range(3) if a != number)
        offset = first if number == 0 else 0
        planes += [
            Plane(
                entry=entry,
                name=f"{entry.name}_{name}{offset + n:04d}",
                size=(shape[rows], shape[columns]),
                nbytes=shape[rows] * shape[columns] * found.dtype.itemsize,
                entry_nbytes=int(np.prod(shape)) * found.dtype.itemsize,
                axis=number,
                index=n,
                slices=(first, last),
                spacing=(spacing[rows], spacing[columns]),
            )
            for n in range(shape[number])
        ]
    return planes
