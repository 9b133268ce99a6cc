"""Uncompressed NRRD, written a moment at a time and read where it is used, so that an application stays responsive."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..core.atomic import replacing
from ..core.volume import Grid, Volume
from .exchange import slab_depth
from .read import read_volume
from .volume_files import begin_of_raw_voxels, read_header
from .write import check_output, check_written, writable_type

TYPES = {"float32": "float", "float64": "double"}  # the others have the same names


def write_raw_nrrd(volume: Volume, path: str | Path) -> Iterator[float]:
    """`write_volume` slab by slab; yields the fraction that is written, and the file appears at the end.

    Raises
    ------
    OutputError, ResourceError
        As `write_volume`.
    """
    path, voxels = Path(path), volume.voxels.astype(writable_type(volume.voxels.dtype), copy=False)
    check_output(path, volume.grid, voxels.dtype)
    depth = slab_depth(voxels)
    with replacing(path) as scratch:
        with open(scratch, "wb") as stream:
            stream.write(_header(volume.grid, voxels.dtype).encode("ascii"))
            for start in range(0, len(voxels), depth):
                stream.write(np.ascontiguousarray(voxels[start : start + depth]).data)
                yield start / len(voxels)
        check_written(scratch, volume.grid, voxels)


def map_raw_nrrd(path: str | Path) -> Volume:
    """A volume whose voxels are read from disk when they are used; one that cannot be mapped is read at once.

    Raises
    ------
    InputError
        As `read_volume`.
    """
    header = read_header(Path(path))
    begin = begin_of_raw_voxels(header)
    if begin is None or len(header.size) != 3 or header.warnings or header.spacing is None:
        return read_volume(path)
    return Volume(np.memmap(path, header.grey_type, "r", begin, header.size[::-1]), header.grid())


def _header(grid: Grid, dtype: np.dtype) -> str:
    directions = (grid.direction * np.asarray(grid.spacing)).T
    lines = [
        "NRRD0004",
        f"type: {TYPES.get(dtype.name, dtype.name)}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, grid.size))}",
        f"space directions: {' '.join(map(_vector, directions))}",
        "kinds: domain domain domain",
        f"endian: {sys.byteorder}",
        "encoding: raw",
        f"space origin: {_vector(grid.origin)}",
    ]
    return "\n".join(lines) + "\n\n"


def _vector(numbers: Sequence[float]) -> str:
    return f"({','.join(f'{number:.17g}' for number in numbers)})"
