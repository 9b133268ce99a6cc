"""Flips and rotations: a network's answers to one picture in several positions can be averaged, or compared.

A position is undone exactly, and tiles stay what they are: image, axes and tile are turned together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .tiles import Axis, Box, Tile

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
    longer = [
        Axis(axis.length + more, axis.start, axis.stop, axis.outputs) for axis, more in zip(axes, missing, strict=True)
    ]
    return image, longer, Tile(tile.core, _lengthened(tile.read, axes, longer), tile.write)


def _lengthened(read: Box, axes: Sequence[Axis], longer: Sequence[Axis]) -> Box:
    """What reached to the end reaches to the new one."""
    return tuple(
        slice(part.start, new.length if part.stop == old.length else part.stop)
        for part, old, new in zip(read, axes, longer, strict=True)
    )
