"""The ways of a network through a volume: slice by slice, in three planes, or block by block.

A way says how the volume is to be cut along (k, j, i) and turns a prepared piece into the enlarged piece, all in units
of the window:

- ``edges``: the largest extent of a piece along each axis; None does not cut;
- ``context``: what must be read around a piece along each axis;
- ``neighbours``: slices before and behind a piece that `enlarge` is given along with it;
- ``enlarge(engine, unit, tile, axes)``: the network's image of `tile.write`, float32 (k, j, i), from what `tile.read`
  and the neighbours hold;
- ``runs(tile, axes)``: how often that calls `Engine.run`, for progress.

A network that looks farther than is known is given whole slices in each of its planes, or the whole volume, whatever
part of the result is wanted: that part is then the crop of the whole result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..core.interpolate import REACH as CUBIC_REACH
from ..core.interpolate import cubic
from ..networks.spec import NetworkSpec
from .engine import Engine
from .fusion import REACH as FUSION_REACH
from .fusion import PlaneFusion
from .tiles import (
    Axis,
    Box,
    Context,
    Tile,
    neighbour,
    seen_from_its_reading,
)

BLOCK_MEMORY = 1.5e9
FLOATS_OF_BLOCKS = 7  # held at the same time for each output voxel of a block: result, sum, excess and their parts
FLOATS_OF_FUSION = 10  # the same, with three passes and their spectra


class SliceBySlice:
    """A 2-D network on each slice; the slices' distance stays."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.edges = (1, None, None)
        self.context = (Context(), *[_context(spec)] * 2)
        self.neighbours = spec.slices

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        local, inside = _seen_from(tile, axes)
        image = unit if self.neighbours else unit[0]
        return engine.run(image, local[1:], _without(inside, 0))[None]

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        return 1


class BlockByBlock:
    """A 3-D network on blocks."""

    neighbours = 0

    def __init__(self, spec: NetworkSpec, scales: Sequence[float], more_floats: int = 0) -> None:
        context = _context(spec)
        self.context = (context,) * 3
        self.edges = (_block_edge(spec, (FLOATS_OF_BLOCKS + more_floats) * prod(scales), context.halo),) * 3

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        return engine.run(unit, *_seen_from(tile, axes))

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        return 1


class ThreePlanes:
    """A 2-D network in axial, coronal and sagittal planes; every frequency is taken from those that resolved it.

    The neighbours that a network wants to see lie within the piece.
    """

    neighbours = 0

    def __init__(self, spec: NetworkSpec, scale: int, more_floats: int = 0) -> None:
        self._scale = scale
        self._slices = spec.slices
        self._fusion = PlaneFusion(scale)
        self._reach = -(-FUSION_REACH // scale)
        self.context = (_context(spec, self._reach),) * 3
        self.edges = (_block_edge(spec, (FLOATS_OF_FUSION + more_floats) * scale**3, self._reach),) * 3

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        inside, wide, wide_axes = self._widened(tile, axes)
        fused = self._fusion.fuse([self._details(engine, unit, normal, wide, wide_axes) for normal in range(3)])
        kept = tuple(axis.write(part) for axis, part in zip(wide_axes, inside.core, strict=True))
        positions = [axis.positions(part) for axis, part in zip(wide_axes, kept, strict=True)]
        return cubic(unit, positions) + fused[kept]

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        _, wide, wide_axes = self._widened(tile, axes)
        return sum(len(_slices_across(axis, part)) for axis, part in zip(wide_axes, wide.write, strict=True))

    def _widened(self, tile: Tile, axes: Sequence[Axis]) -> tuple[Tile, Tile, list[Axis]]:
        """The tile within its reading; with the surroundings that the fusion looks at; and the axes of that one."""
        local, inside = _seen_from(tile, axes)
        core = tuple(
            slice(max(0, part.start - self._reach), min(axis.length, part.stop + self._reach))
            for part, axis in zip(inside.core, local, strict=True)
        )
        wide_axes = [
            replace(axis, start=part.start, stop=part.stop, outputs=(part.stop - part.start) * self._scale)
            for axis, part in zip(local, core, strict=True)
        ]
        return inside, Tile(core, inside.read, tuple(slice(0, axis.outputs) for axis in wide_axes)), wide_axes

    def _details(self, engine: Engine, unit: np.ndarray, normal: int, wide: Tile, axes: Sequence[Axis]) -> np.ndarray:
        """What the network adds to cubic interpolation in the planes across one axis, on the output grid of `wide`."""
        in_plane, plane_axes = _without(wide, normal), [axis for n, axis in enumerate(axes) if n != normal]
        positions = [axis.positions(w) for axis, w in zip(plane_axes, in_plane.write, strict=True)]
        slices = _slices_across(axes[normal], wide.write[normal])
        details = []
        for number in slices:
            slab = slab_around(unit, number, self._slices, normal)
            image = slab if self._slices else slab[0]
            details.append(engine.run(image, plane_axes, in_plane) - cubic(slab[self._slices], positions))
        centres = axes[normal].positions(wide.write[normal]) - slices.start
        return np.moveaxis(cubic(np.stack(details), [centres, None, None]), 0, normal)


def slab_around(volume: np.ndarray, number: int, slices: int, axis: int = 0) -> np.ndarray:
    """A slice across an axis between `slices` neighbours on either side, along the first axis of the result.

    Beyond the volume are those of the other side.
    """
    count = volume.shape[axis]
    steps = range(-slices, slices + 1)
    places = [neighbour(number + step, number, lambda k: 0 <= k < count) for step in steps]
    return np.ascontiguousarray(np.moveaxis(volume.take(places, axis), axis, 0))


Way = SliceBySlice | BlockByBlock | ThreePlanes


def choose_way(spec: NetworkSpec, planes: str, scales: Sequence[float], more_floats: int = 0) -> Way:
    """The way for a kind of network and the planes that were asked for.

    Parameters
    ----------
    spec : NetworkSpec
    planes : "axial" or "isotropic"
        What to do with a 2-D network.
    scales : three float
        Factors along the axes of the volume; whole and alike for three planes.
    more_floats : int
        Floats that the caller holds for each output voxel of a piece, so that blocks must be smaller.
    """
    if spec.dimensions == 3:
        return BlockByBlock(spec, scales, more_floats)
    return ThreePlanes(spec, int(scales[0]), more_floats) if planes == "isotropic" else SliceBySlice(spec)


def _seen_from(tile: Tile, axes: Sequence[Axis]) -> tuple[list[Axis], Tile]:
    """Axes and tile as they look to the array that holds what the tile reads."""
    return [axis.seen_from(read) for axis, read in zip(axes, tile.read, strict=True)], seen_from_its_reading(tile)


def _slices_across(axis: Axis, write: slice) -> range:
    """Input slices from which cubic interpolation makes the output voxels `write` along an axis."""
    centres = np.floor(axis.positions(write)).astype(int)
    return range(max(0, centres[0] - CUBIC_REACH + 1), min(axis.length, centres[-1] + CUBIC_REACH + 1))


def _without(tile: Tile, dropped: int) -> Tile:
    """The tile in a plane, without the axis across it."""

    def rest(box: Box) -> Box:
        return tuple(part for axis, part in enumerate(box) if axis != dropped)

    return Tile(rest(tile.core), rest(tile.read), rest(tile.write))


def _context(spec: NetworkSpec, more: int = 0) -> Context:
    """What a network and cubic interpolation need around a piece, and `more` voxels."""
    if not spec.can_be_cut:
        return Context(None)
    halo = more + max(spec.context, spec.decode_context, CUBIC_REACH + spec.slices)
    return Context(halo, spec.multiple, spec.minimum_size)


def _block_edge(spec: NetworkSpec, floats_per_voxel: float, halo: int | None) -> int | None:
    """Core of the largest block that fits into `BLOCK_MEMORY`; a network that cannot be cut gets everything at once."""
    if not spec.can_be_cut:
        return None
    return max(16, int((BLOCK_MEMORY / (4 * floats_per_voxel)) ** (1 / 3)) - 2 * halo)
