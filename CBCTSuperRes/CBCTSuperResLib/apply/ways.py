"""The ways of a network through a volume: slice by slice, in three planes, or block by block.

The plan has cut the volume into pieces; a way turns a prepared piece into the enlarged piece, all in units of the
window:

- ``enlarge(engine, unit, tile, axes)``: the network's image of `tile.write`, float32 (k, j, i), from what `tile.read`
  and the neighbours hold;
- ``outputs(engine, unit, tile, axes, names)``: as `enlarge`, several of the network's outputs at once; not in three
  planes, which are joined as images;
- ``settle(engine, unit, tile, axes)``: lets the engine choose its precision, see `Engine.settle`;
- ``runs(tile, axes)``: how often that calls `Engine.run`, for progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.interpolate import REACH as CUBIC_REACH
from ..core.interpolate import cubic
from ..core.volume import as_acquired
from .engine import Engine
from .fusion import PlaneFusion
from .plan import Plan
from .tile_sizes import FUSION_REACH
from .tiles import (
    Axis,
    Box,
    Tile,
    neighbour,
    seen_from_its_reading,
)


class SliceBySlice:
    """A 2-D network on each slice; the slices' distance stays."""

    def __init__(self, neighbours: int) -> None:
        self._neighbours = neighbours

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        return self.outputs(engine, unit, tile, axes, ("sr",))[0]

    def outputs(
        self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis], names: Sequence[str]
    ) -> list[np.ndarray]:
        local, inside = _seen_from(tile, axes)
        image = unit if self._neighbours else unit[0]
        return [found[None] for found in engine.run_outputs(image, local[1:], _without(inside, 0), names)]

    def settle(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> None:
        local, inside = _seen_from(tile, axes)
        engine.settle(unit if self._neighbours else unit[0], local[1:], _without(inside, 0))

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        return 1


class BlockByBlock:
    """A 3-D network on blocks, whose slices lie across one of the axes (k, j, i), 0 to 2."""

    def __init__(self, across: int = 0) -> None:
        self._across = across
        self._turned: tuple[np.ndarray, np.ndarray] | None = None  # the bands of a block are of one array

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        return self.outputs(engine, unit, tile, axes, ("sr",))[0]

    def outputs(
        self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis], names: Sequence[str]
    ) -> list[np.ndarray]:
        found = engine.run_outputs(*self._as_acquired(unit, tile, axes), names)
        return [np.ascontiguousarray(part.swapaxes(0, self._across)) for part in found] if self._across else found

    def settle(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> None:
        engine.settle(*self._as_acquired(unit, tile, axes))

    def _as_acquired(
        self, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]
    ) -> tuple[np.ndarray, Sequence[Axis], Tile]:
        """What `Engine.run` takes, with the axis across the slices first."""
        local, inside = _seen_from(tile, axes)
        if not self._across:
            return unit, local, inside
        if self._turned is None or self._turned[0] is not unit:
            self._turned = unit, unit.swapaxes(0, self._across)
        boxes = (tuple(as_acquired(box, self._across)) for box in (inside.core, inside.read, inside.write))
        return self._turned[1], as_acquired(local, self._across), Tile(*boxes)

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        return 1


class ThreePlanes:
    """A 2-D network in axial, coronal and sagittal planes; every frequency is taken from those that resolved it.

    The neighbours that a network wants to see lie within the piece.
    """

    def __init__(self, scale: int, slices: int) -> None:
        self._scale, self._slices = scale, slices
        self._fusion = PlaneFusion(self._scale)
        self._reach = -(-FUSION_REACH // self._scale)

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        inside, wide, wide_axes = self._widened(tile, axes)
        fused = self._fusion.fuse([self._details(engine, unit, normal, wide, wide_axes) for normal in range(3)])
        kept = tuple(axis.write(part) for axis, part in zip(wide_axes, inside.core, strict=True))
        positions = [axis.positions(part) for axis, part in zip(wide_axes, kept, strict=True)]
        return cubic(unit, positions) + fused[kept]

    def settle(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> None:
        _, wide, wide_axes = self._widened(tile, axes)
        for number in _slices_across(wide_axes[0], wide.write[0]):
            slab = slab_around(unit, number, self._slices)
            engine.settle(slab if self._slices else slab[0], wide_axes[1:], _without(wide, 0))

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


def choose_way(plan: Plan) -> Way:
    """The way that a plan has decided on."""
    if plan.way == "blocks":
        return BlockByBlock(plan.across)
    if plan.way == "planes":
        return ThreePlanes(int(plan.scales[0]), plan.card.spec.slices)
    return SliceBySlice(plan.neighbours)


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
