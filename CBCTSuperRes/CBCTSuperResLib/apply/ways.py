"""How a network is led through a volume: slice by slice, in three planes, or block by block.

Each pass says how it wants the volume cut and turns a prepared piece into the enlarged piece. All of them work in units
of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..core.interpolate import REACH as CUBIC_REACH
from ..core.interpolate import cubic
from ..networks.spec import NetworkSpec
from .engine import Engine
from .fusion import REACH as FUSION_REACH
from .fusion import PlaneFusion
from .plan import UNKNOWN_HALO
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


class Pass(Protocol):
    """A way through the volume.

    Attributes
    ----------
    scales : three float
        Factor along (k, j, i).
    edges : three int or None
        Largest extent of a piece along (k, j, i); None does not cut.
    context : three Context
        What a piece needs around it.
    neighbours : int
        Slices before and behind a piece that `enlarge` is given along with it.
    """

    scales: tuple[float, float, float]
    edges: tuple[int | None, int | None, int | None]
    context: tuple[Context, Context, Context]
    neighbours: int

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        """The network's picture of `tile.write`, from what `tile.read` and the neighbours hold; float32 (k, j, i)."""
        ...

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        """How often `enlarge` will call `Engine.run`, for progress."""
        ...


class SliceBySlice:
    """A 2-D network on each slice; the slices' distance stays."""

    def __init__(self, spec: NetworkSpec, scale: float) -> None:
        self.scales = (1.0, scale, scale)
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

    def __init__(self, spec: NetworkSpec, scale: float, more_floats: int = 0) -> None:
        self.scales = (scale,) * 3
        self.context = (_context(spec),) * 3
        self.edges = (_block_edge(spec, (FLOATS_OF_BLOCKS + more_floats) * scale**3, self.context[0].halo),) * 3

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        return engine.run(unit, *_seen_from(tile, axes))

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        return 1


class ThreePlanes:
    """A 2-D network in axial, coronal and sagittal planes; every frequency is taken from those that resolved it.

    The neighbours that a network wants to see lie within the piece.
    """

    neighbours = 0

    def __init__(self, spec: NetworkSpec, scale: float, more_floats: int = 0) -> None:
        self.scales = (scale,) * 3
        self._slices = spec.slices
        self._fusion = PlaneFusion(int(scale))
        self._reach = -(-FUSION_REACH // int(scale))
        self.context = (_context(spec, self._reach),) * 3
        self.edges = (_block_edge(spec, (FLOATS_OF_FUSION + more_floats) * scale**3, self._reach),) * 3

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        _, inside = _seen_from(tile, axes)
        wide, wide_axes = self._widened(inside, unit.shape)
        fused = self._fusion.fuse([self._details(engine, unit, normal, wide, wide_axes) for normal in range(3)])
        kept = tuple(axis.write(part) for axis, part in zip(wide_axes, inside.core, strict=True))
        positions = [axis.positions(part) for axis, part in zip(wide_axes, kept, strict=True)]
        return cubic(unit, positions) + fused[kept]

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        _, inside = _seen_from(tile, axes)
        wide, wide_axes = self._widened(inside, [part.stop - part.start for part in tile.read])
        return sum(len(_slices_across(axis, part)) for axis, part in zip(wide_axes, wide.write, strict=True))

    def _widened(self, tile: Tile, shape: Sequence[int]) -> tuple[Tile, list[Axis]]:
        """The tile with the surroundings that the fusion looks at, as far as the volume goes, and its own axes."""
        core = tuple(
            slice(max(0, part.start - self._reach), min(length, part.stop + self._reach))
            for part, length in zip(tile.core, shape, strict=True)
        )
        scale = int(self.scales[0])
        axes = [
            Axis(n, part.start, part.stop, (part.stop - part.start) * scale)
            for n, part in zip(shape, core, strict=True)
        ]
        return Tile(core, tile.read, tuple(slice(0, axis.outputs) for axis in axes)), axes

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


def choose_pass(spec: NetworkSpec, planes: str, scale: float, more_floats: int = 0) -> Pass:
    """The pass for a kind of network and the planes that were asked for.

    `more_floats` are held for each output voxel of a piece by whoever uses the pass, so that blocks must be smaller.
    """
    if spec.dimensions == 3:
        return BlockByBlock(spec, scale, more_floats)
    return ThreePlanes(spec, scale, more_floats) if planes == "isotropic" else SliceBySlice(spec, scale)


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
    halo = spec.context if spec.can_be_cut else UNKNOWN_HALO
    return Context(more + max(halo, spec.decode_context, CUBIC_REACH + spec.slices), spec.multiple, spec.minimum_size)


def _block_edge(spec: NetworkSpec, floats_per_voxel: float, halo: int) -> int | None:
    """Core of the largest block that fits into `BLOCK_MEMORY`; a network that cannot be cut gets everything at once."""
    if not spec.can_be_cut:
        return None
    return max(16, int((BLOCK_MEMORY / (4 * floats_per_voxel)) ** (1 / 3)) - 2 * halo)
