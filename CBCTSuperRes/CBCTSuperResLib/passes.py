"""How a network is led through a volume: slice by slice, in three planes, or block by block.

Each pass says how it wants the volume cut and turns a prepared piece into the enlarged piece. All of them work in units
of the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .engine import Engine
from .fusion import REACH as FUSION_REACH
from .fusion import PlaneFusion
from .interpolate import REACH as CUBIC_REACH
from .interpolate import cubic
from .networks.spec import NetworkSpec
from .tiles import Axis, Box, Tile, seen_from_its_reading

UNKNOWN_HALO = 32
BLOCK_MEMORY = 1.5e9


class Pass(Protocol):
    """A way through the volume.

    Attributes
    ----------
    scales : three float
        Factor along (k, j, i).
    edges : three int or None
        Largest extent of a piece along (k, j, i); None does not cut.
    margin : three int
        Context that a piece needs on either side, in voxels.
    """

    scales: tuple[float, float, float]
    edges: tuple[int | None, int | None, int | None]
    margin: tuple[int, int, int]

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        """The network's picture of `tile.write`, from what `tile.read` holds; both float32 (k, j, i)."""
        ...

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        """How often `enlarge` will run the network, for progress."""
        ...


class SliceBySlice:
    """A 2-D network on each slice; the slices' distance stays."""

    def __init__(self, spec: NetworkSpec, scale: float) -> None:
        context = UNKNOWN_HALO if spec.halo is None else spec.halo
        self.scales = (1.0, scale, scale)
        self.edges = (1, None, None)
        self.margin = (0, *[max(context, spec.decode_halo, CUBIC_REACH)] * 2)

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        local, inside = _seen_from(tile, axes)
        return engine.run(unit[0], local[1:], _without(inside, 0))[None]

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        return 1


class BlockByBlock:
    """A 3-D network on blocks."""

    def __init__(self, spec: NetworkSpec, scale: float) -> None:
        self.scales = (scale,) * 3
        self.edges = (None,) * 3 if spec.halo is None else (_block_edge(spec.bytes_per_voxel, spec.halo),) * 3
        self.margin = (max(spec.halo or UNKNOWN_HALO, spec.decode_halo, CUBIC_REACH),) * 3

    def enlarge(self, engine: Engine, unit: np.ndarray, tile: Tile, axes: Sequence[Axis]) -> np.ndarray:
        return engine.run(unit, *_seen_from(tile, axes))

    def runs(self, tile: Tile, axes: Sequence[Axis]) -> int:
        return 1


class ThreePlanes:
    """A 2-D network in axial, coronal and sagittal planes; every frequency is taken from those that resolved it."""

    def __init__(self, spec: NetworkSpec, scale: float) -> None:
        self.scales = (scale,) * 3
        context = UNKNOWN_HALO if spec.halo is None else spec.halo
        self._fusion = PlaneFusion(int(scale))
        self._reach = -(-FUSION_REACH // int(scale))
        bytes_per_voxel = 4.0 * scale**3 * 10
        self.edges = (_block_edge(bytes_per_voxel, self._reach),) * 3
        self.margin = (self._reach + max(context, spec.decode_halo, CUBIC_REACH),) * 3

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
        axes = [Axis(n, part.start, part.stop, (part.stop - part.start) * scale) for n, part in zip(shape, core, strict=True)]
        return Tile(core, tile.read, tuple(slice(0, axis.outputs) for axis in axes)), axes

    def _details(
        self, engine: Engine, unit: np.ndarray, normal: int, wide: Tile, axes: Sequence[Axis]
    ) -> np.ndarray:
        """What the network adds to cubic interpolation in the planes across one axis, on the output grid of `wide`."""
        in_plane, plane_axes = _without(wide, normal), [axis for n, axis in enumerate(axes) if n != normal]
        positions = [axis.positions(w) for axis, w in zip(plane_axes, in_plane.write, strict=True)]
        slices = _slices_across(axes[normal], wide.write[normal])
        details = []
        for number in slices:
            image = np.ascontiguousarray(unit.take(number, normal))
            details.append(engine.run(image, plane_axes, in_plane) - cubic(image, positions))
        centres = axes[normal].positions(wide.write[normal]) - slices.start
        return np.moveaxis(cubic(np.stack(details), [centres, None, None]), 0, normal)


def choose_pass(spec: NetworkSpec, planes: str, scale: float) -> Pass:
    """The pass for a kind of network and the planes that were asked for."""
    if spec.dimensions == 3:
        return BlockByBlock(spec, scale)
    return ThreePlanes(spec, scale) if planes == "isotropic" else SliceBySlice(spec, scale)


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


def _block_edge(bytes_per_voxel: float, halo: int) -> int:
    """Core of the largest block whose work fits into `BLOCK_MEMORY`."""
    return max(16, int((BLOCK_MEMORY / max(1.0, bytes_per_voxel)) ** (1 / 3)) - 2 * halo)
