"""Cutting an array into tiles, and turning it: what each tile reads, and what of its result is kept.

A tile computes more than it keeps. The surplus, the halo, is discarded and never blended: with a halo as wide as the
network can see, the kept part equals the untiled result.

A network's results for one picture in several positions, flipped or rotated, can be averaged, or compared. A position
is undone exactly, and tiles stay what they are: image, axes and tile are turned together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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

    `blur` is the standard deviation of the scanner's blur along the axis, in input voxels, for networks that want to
    be told; `before` and `after` are the voxels of the whole volume that the array of `length` voxels lacks.
    """

    length: int
    start: int
    stop: int
    outputs: int
    mirrored: bool = False
    blur: float = 0.0
    before: int = 0
    after: int = 0

    @property
    def scale(self) -> float:
        return self.outputs / (self.stop - self.start)

    def positions(self, write: slice) -> np.ndarray:
        """Centres of output voxels in input voxels (0 is the centre of the array's first voxel), float64."""
        return self.start + (np.arange(write.start, write.stop) + 0.5) / self.scale - 0.5

    def seen_from(self, read: slice) -> Axis:
        """The same axis for an array that holds only `read`; its region may then begin before it and end after it."""
        start, stop = self.start - read.start, self.stop - read.start
        before, after = self.before + read.start, self.after + self.length - read.stop
        return replace(self, length=read.stop - read.start, start=start, stop=stop, before=before, after=after)

    def widened(self, start: int, stop: int) -> Axis:
        """The same axis for a wider region, whose output voxels go on as those of this one; the factor is whole."""
        outputs = round(self.scale * (stop - start))
        return replace(self, start=start, stop=stop, outputs=outputs)

    def mirror(self) -> Axis:
        """The same axis for the mirrored array."""
        start, stop = self.length - self.stop, self.length - self.start
        turned = {"before": self.after, "after": self.before, "mirrored": not self.mirrored}
        return replace(self, start=start, stop=stop, **turned)

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
    halo : int or None
        Voxels to read on either side, where the array has them. None: all that there are.
    multiple : int
        Readings begin and end at multiples of this, or at the array's end: networks that halve their input see a tile
        as they see the whole only if it is cut between their cells.
    minimum : int
        Smallest reading, where the array has as much.
    """

    halo: int | None = 0
    multiple: int = 1
    minimum: int = 1

    def reading(self, core: slice, limit: slice) -> slice:
        """What to read for a core, within `limit`."""
        if self.halo is None:
            return limit
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
    for core in product(*map(cores, region, edges)):
        read = tuple(c.reading(part, limit) for c, part, limit in zip(contexts, core, bounds, strict=True))
        write = tuple(axis.write(part) for axis, part in zip(axes, core, strict=True))
        tiles.append(Tile(core, read, write))
    return tiles


def cores(region: slice, edge: int | None) -> Iterator[slice]:
    """Parts of nearly equal size that cover a region of one axis, each at most `edge` long."""
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


_IN_PLANE = (
    ((), False),
    ((-2, -1), False),
    ((-2,), False),
    ((-1,), False),
    ((), True),
    ((-2, -1), True),
    ((-2,), True),
    ((-1,), True),
)
_IN_SPACE = ((), (-3, -2, -1), (-3,), (-2, -1), (-2,), (-1,), (-3, -2), (-3, -1))


@dataclass(frozen=True)
class Symmetry:
    """A position of an image: some axes mirrored, then perhaps rows and columns exchanged.

    Attributes
    ----------
    mirrored : tuple of int
        Axes, counted from the last, which is -1.
    exchanged : bool
    """

    mirrored: tuple[int, ...] = ()
    exchanged: bool = False

    def apply(self, image: np.ndarray, axes: Sequence[Axis], tile: Tile) -> tuple[np.ndarray, list[Axis], Tile]:
        """Image, axes and tile in this position; leading axes of the image that `axes` does not name stay."""
        turned = np.flip(image, self.mirrored) if self.mirrored else image
        boxes = [list(box) for box in (tile.core, tile.read, tile.write)]
        turned_axes = list(axes)
        for number in self.mirrored:
            axis = axes[number]
            turned_axes[number] = axis.mirror()
            for box, length in zip(boxes, (axis.length, axis.length, axis.outputs), strict=True):
                box[number] = slice(length - box[number].stop, length - box[number].start)
        if self.exchanged:
            turned = turned.swapaxes(-1, -2)
            for parts in (turned_axes, *boxes):
                parts[-1], parts[-2] = parts[-2], parts[-1]
        return np.ascontiguousarray(turned), turned_axes, Tile(*map(tuple, boxes))

    def undo(self, values: np.ndarray) -> np.ndarray:
        """Values that were computed in this position, where they belong; a view."""
        if self.exchanged:
            values = values.swapaxes(-1, -2)
        return np.flip(values, self.mirrored) if self.mirrored else values


AS_IT_IS = Symmetry()


def symmetries(count: int, dimensions: int) -> tuple[Symmetry, ...]:
    """The first `count` (up to 8) positions, for slices (flips and rotations) or for blocks (flips).

    One is the image as it is; 2, 4 and 8 are closed: whatever position the image has, the same average comes out.
    """
    if dimensions == 2:
        return tuple(Symmetry(*position) for position in _IN_PLANE[:count])
    return tuple(Symmetry(mirrored) for mirrored in _IN_SPACE[:count])


def on_whole_cells(
    image: np.ndarray, axes: Sequence[Axis], tile: Tile, cell: int
) -> tuple[np.ndarray, list[Axis], Tile]:
    """An image whose end is repeated until its extents are multiples of `cell`.

    Networks that halve their input count cells from the beginning of an image. Mirrored, it begins at its end, and the
    cells would be others if the end were not that of a cell.
    """
    missing = [-axis.length % cell for axis in axes]
    if not any(missing):
        return image, list(axes), tile
    image = np.pad(image, [(0, 0)] * (image.ndim - len(axes)) + [(0, more) for more in missing], mode="edge")
    longer = [replace(axis, length=axis.length + more) for axis, more in zip(axes, missing, strict=True)]
    read = tuple(
        slice(part.start, new.length if part.stop == old.length else part.stop)
        for part, old, new in zip(tile.read, axes, longer, strict=True)
    )
    return image, longer, Tile(tile.core, read, tile.write)
