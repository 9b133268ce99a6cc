"""What a super-resolved volume has that its interpolated input has not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..core.errors import Cancelled, InputError
from ..core.interpolate import REACH, cubic
from ..core.progress import Report
from ..core.volume import Grid
from ..io.exchange import ExchangeOutput, read_exchange
from ..io.volume import Volume
from ..scan.blank_filling import BlankFiller
from ..scan.field_of_view import find_blanks

SLICES = 8
TOLERANCE_VOXELS = 1e-3
REACH_PERCENTILE = 99.5
SAMPLED_SLICES = 16


def difference_to_file(
    input_path: str | Path,
    result_path: str | Path,
    output_path: str | Path,
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Result minus cubic interpolation of the input, on the result's grid; all in exchange format.

    Where the input is blank the difference is 0; beside that, blank voxels are filled before they are interpolated, as
    for the network, because the edge of the field of view is no edge of anything.

    Returns
    -------
    dict
        "kind": "difference", "type": of the voxels, "reach": grey values that 99.5 % of the differences stay within.

    Raises
    ------
    InputError
        If the grids do not have the same axes.
    Cancelled
        If `cancelled` said so; nothing is left then.
    """
    scan, result = read_exchange(input_path), read_exchange(result_path)
    positions = positions_in(scan.grid, result.grid)
    kind = difference_type(scan.voxels, result.voxels)
    blanks = find_blanks(scan)
    filler = BlankFiller(blanks, scan.voxels.shape)
    reaches = []
    with ExchangeOutput(output_path) as output:
        voxels = output.allocate(result.grid.shape, kind)
        for start in range(0, len(voxels), SLICES):
            if cancelled and cancelled():
                raise Cancelled()
            part = slice(start, start + SLICES)
            values = result.voxels[part] - interpolated(scan.voxels, filler, [positions[0][part], *positions[1:]])
            for k, plane in zip(positions[0][part], values, strict=True):
                blank = blanks.fine_mask(float(k), *positions[1:])
                if blank is not None:
                    plane[blank] = 0
            voxels[part] = values if kind.kind == "f" else np.rint(values)
            if start % (SLICES * max(1, len(voxels) // (SLICES * SAMPLED_SLICES))) == 0:
                reaches.append(np.percentile(np.abs(values[0]), REACH_PERCENTILE))
            if progress:
                progress(min(1.0, (start + SLICES) / len(voxels)), "Subtracting the interpolated input")
        output.publish(Volume(voxels, result.grid))
    return {"kind": "difference", "type": str(kind), "reach": max(float(np.max(reaches)), 1e-6)}


def positions_in(grid: Grid, finer: Grid) -> list[np.ndarray]:
    """Where the voxels of a finer grid lie along (k, j, i) of another, in its voxels.

    Raises
    ------
    InputError
        If the axes of the two differ in direction.
    """
    matrix = np.linalg.inv(grid.index_to_point) @ finer.index_to_point
    turned = (matrix[:3, :3] - np.diag(np.diag(matrix)[:3])) * finer.size
    if np.abs(turned).max() > TOLERANCE_VOXELS * max(grid.size):
        raise InputError("The result does not lie along the axes of its input.", "Undo what moved one of them.")
    return [matrix[axis, axis] * np.arange(finer.size[axis]) + matrix[axis, 3] for axis in (2, 1, 0)]


def interpolated(voxels: np.ndarray, filler: BlankFiller, positions: list[np.ndarray]) -> np.ndarray:
    """Cubic interpolation at some slices of a finer grid; float32, or float64 for types with more digits."""
    first = int(np.clip(np.floor(positions[0][0]) - REACH, 0, len(voxels) - 1))
    last = int(np.clip(np.floor(positions[0][-1]) + REACH + 1, first + 1, len(voxels)))
    exact = np.float64 if voxels.dtype.itemsize > 2 and voxels.dtype != np.float32 else np.float32
    measured = [k for k in range(first, last) if not filler.is_blank(k)]
    block = np.empty((last - first, *voxels.shape[1:]), exact)
    for place, k in enumerate(range(first, last)):
        source = min(measured, key=lambda other, k=k: abs(other - k), default=k)
        block[place] = filler.fill(voxels[source].astype(exact), source)
    inside = [positions[0] - first, *positions[1:]]
    return cubic(block, [None if _is_every_voxel(p, n) else p for p, n in zip(inside, block.shape, strict=True)])


def difference_type(scan: np.ndarray, result: np.ndarray) -> np.dtype:
    """A signed type that holds every difference: int16 if it can, otherwise int32; a real one if one of both is."""
    if "f" in (scan.dtype.kind, result.dtype.kind):
        return np.result_type(scan.dtype, result.dtype, np.float32)
    lowest, highest = float(min(scan.min(), result.min())), float(max(scan.max(), result.max()))
    overshoot = 1.5  # of a cubic along three axes, and more
    return np.dtype(np.int16 if overshoot * (highest - lowest) < np.iinfo(np.int16).max else np.int32)


def _is_every_voxel(positions: np.ndarray, length: int) -> bool:
    return len(positions) == length and np.allclose(positions, np.arange(length), rtol=0, atol=1e-6)
