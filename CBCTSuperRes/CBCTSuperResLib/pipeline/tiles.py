"""Cutting an array into tiles: what each reads, and what of its result is kept.

A tile computes more than it keeps. The surplus, the halo, is discarded and never blended: with a halo as wide as the
network can see, the kept part equals the untiled result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, floor

import numpy as np

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """One tile, with one slice object per axis in each box.

    Attributes
    ----------
    core : tuple of slice
        Input voxels that the tile is responsible for.
    read : tuple of slice
        Input voxels that it needs: the core and its halo, cut at the borders of the array.
    write : tuple of slice
        Output voxels that it gives, counted from the region's first output voxel.
    """

    core: Box
    read: Box
    write: Box


@dataclass(frozen=True)
class Axis:
    """Relation between input and output voxels along one axis.

    The region [start, stop) of the input becomes `outputs` output voxels over the same extent.

    An axis that is `mirrored` gives an output voxel whose centre lies on an edge between two cores to the one before
    it, so that the mirrored cores have the mirrored outputs.
    """

    length: int
    start: int
    stop: int
    outputs: int
    mirrored: bool = False

    @property
    def scale(self) -> float:
        return self.outputs / (self.stop - self.start)

    def positions(self, write: slice) -> np.ndarray:
        """Centres of output voxels in input voxels (0 is the centre of the array's first voxel), float64."""
        return self.start + (np.arange(write.start, write.stop) + 0.5) / self.scale - 0.5

    def seen_from(self, read: slice) -> Axis:
        """The same axis for an array that holds only `read`; its region may then begin before it and end after it."""
        length = read.stop - read.start
        return Axis(length, self.start - read.start, self.stop - read.start, self.outputs, self.mirrored)

    def mirror(self) -> Axis:
        """The same axis for the mirrored array."""
        return Axis(self.length, self.length - self.stop, self.length - self.start, self.outputs, not self.mirrored)

    def write(self, core: slice) -> slice:
        """Output voxels whose centres lie in the core; together the cores give every output voxel once."""
        return slice(self._first_output(core.start), self._first_output(core.stop))

    def _first_output(self, edge: int) -> int:
        place = (edge - self.start) * self.scale - 0.5
        first = floor(place + 1e-9) + 1 if self.mirrored else ceil(place - 1e-9)
        return min(self.outputs, max(0, first))


@dataclass(frozen=True)
class Context:
    """What must be read around a core along one axis.

    Attributes
    ----------
    halo : int
        Voxels to read on either side, where the array has them.
    multiple : int
        Readings begin and end at multiples of this, or at the array's end: networks that halve their input see a tile
        as they see the whole only if it is cut between their cells.
    minimum : int
        Smallest reading, where the array has as much.
    """

    halo: int = 0
    multiple: int = 1
    minimum: int = 1

    def reading(self, core: slice, limit: slice) -> slice:
        """What to read for a core, within `limit`."""
        start, stop = self._on_cells(core.start - self.halo, core.stop + self.halo, limit)
        if stop - start < self.minimum:
            start, stop = self._on_cells(stop - self.minimum, stop, limit)
        if stop - start < self.minimum:
            start, stop = self._on_cells(start, start + self.minimum, limit)
        return slice(start, stop)

    def _on_cells(self, start: int, stop: int, limit: slice) -> tuple[int, int]:
        cell = self.multiple
        return max(limit.start, start // cell * cell), min(limit.stop, -(-stop // cell) * cell)


def plan_tiles(
    axes: Sequence[Axis],
    edge: int | None | Sequence[int | None],
    context: Context | int | Sequence[Context],
    within: Tile | None = None,
) -> list[Tile]:
    """Cut a region into tiles of nearly equal size.

    Parameters
    ----------
    axes : sequence of Axis
    edge : int or None, or one for each axis
        Largest extent of a core; None does not cut.
    context : Context or int, or one Context for each axis
        A bare number is a halo.
    within : Tile, optional
        Cut only the core of this tile, and read nothing outside its own reading.

    Returns
    -------
    list of Tile
        In the order of the array, last axis fastest. Their cores cover the region, and their writes the output, once.
    """
    context = Context(context) if isinstance(context, int) else context
    contexts = [context] * len(axes) if isinstance(context, Context) else context
    edges = [edge] * len(axes) if edge is None or isinstance(edge, int) else edge
    region = within.core if within else tuple(slice(axis.start, axis.stop) for axis in axes)
    bounds = within.read if within else tuple(slice(0, axis.length) for axis in axes)
    tiles = []
    for core in product(*map(_cores, region, edges)):
        read = tuple(c.reading(part, limit) for c, part, limit in zip(contexts, core, bounds, strict=True))
        write = tuple(axis.write(part) for axis, part in zip(axes, core, strict=True))
        tiles.append(Tile(core, read, write))
    return tiles


def _cores(region: slice, edge: int | None) -> Iterator[slice]:
    length = region.stop - region.start
    count = 1 if edge is None else ceil(length / edge)
    borders = [region.start + round(length * n / count) for n in range(count + 1)]
    for start, stop in pairwise(borders):
        yield slice(start, stop)


def seen_from_its_reading(tile: Tile) -> Tile:
    """The same tile for an array that holds only what the tile reads."""
    return Tile(shift(tile.core, tile.read), shift(tile.read, tile.read), tile.write)


def neighbour(place: int, edge: int, usable: Callable[[int], bool]) -> int:
    """The slice at a place beside the slice `edge`, or if there is none the one as far on the other side, or `edge`.

    Repeating the end of a volume would repeat its noise, and what is alike in several slices looks like anatomy.
    """
    return next((k for k in (place, 2 * edge - place) if usable(k)), edge)


def shift(box: Box, origin: Box) -> Box:
    """The same box, counted from the start of another."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, origin, strict=True))
