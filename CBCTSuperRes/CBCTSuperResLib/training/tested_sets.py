"""What a test set consists of: volumes, which are enlarged whole, and single slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..files import probe
from .data.gather import entries_of, has_files
from .data.listing import Entry
from .data.planes import planes_of

if TYPE_CHECKING:
    from .options import DatasetOptions


@dataclass(frozen=True)
class SliceOfTest:
    """A slice: image number `first` of the set."""

    first: int

    @property
    def stop(self) -> int:
        return self.first + 1


@dataclass(frozen=True)
class VolumeOfTest:
    """A volume whose axial slices are the images first <= n < stop of the set.

    Attributes
    ----------
    entry : Entry
    roi : ((i0, i1), (j0, j1), (k0, k1))
        The part of it that the set takes.
    """

    entry: Entry
    first: int
    stop: int
    roi: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def tested_items(dataset: DatasetOptions, images: int) -> Iterator[SliceOfTest | VolumeOfTest]:
    """The items of a set of so many images, in the order of `open_images`.

    Volumes of LR that are used along the axial direction stay whole; everything else is a slice.
    """
    number = 0
    for low, high in entries_of(dataset) if has_files(dataset) else ():
        count = len(planes_of(low or high, dataset.axis, dataset.slices))
        if low and low.is_volume and dataset.axis == "axial":
            yield VolumeOfTest(low, number, number + count, _part(low, dataset.slices))
        else:
            yield from map(SliceOfTest, range(number, number + count))
        number += count
    yield from map(SliceOfTest, range(number, images))


def _part(entry: Entry, slices: tuple[int, int] | None) -> tuple:
    columns, rows, depth = probe(entry.path).size
    first, last = slices or (0, depth)
    return (0, columns), (0, rows), (first, min(last, depth))
