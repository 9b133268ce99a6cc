"""Volumes handed from one process to another: an uncompressed .npy file, mapped and not read, with a grid beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from .errors import InputError
from .volume import Grid, Volume

SUFFIX = ".npy"


def is_exchange(path: str | Path) -> bool:
    return Path(path).suffix == SUFFIX


def write_exchange(volume: Volume, path: str | Path) -> Path:
    """Save a volume; the voxels are copied once, straight from their memory to the file."""
    path = Path(path)
    with ExchangeOutput(path) as output:
        voxels = output.allocate(volume.voxels.shape, volume.voxels.dtype)
        voxels[...] = volume.voxels
        output.publish(Volume(voxels, volume.grid, volume.padding_value))
    return path


def read_exchange(path: str | Path) -> Volume:
    """Map a saved volume; its voxels are read from disk when they are used, and cannot be changed."""
    try:
        facts = json.loads(_grid_file(Path(path)).read_text(encoding="utf-8"))
        voxels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"The exchange file {path} cannot be read: {error}.") from error
    return Volume(voxels, Grid(**facts["grid"]), facts["padding_value"])


class ExchangeOutput:
    """A result that is computed straight into its file and appears under its name only when it is whole.

    >>> with ExchangeOutput(path) as output:
    ...     result = super_resolve(volume, model, allocate=output.allocate)
    ...     output.publish(result)
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._temporary = self._path.with_name(f".{self._path.stem}.{os.getpid()}{SUFFIX}")
        self._mapped: np.memmap | None = None

    def __enter__(self) -> ExchangeOutput:
        return self

    def __exit__(self, *_) -> None:
        self._mapped = None
        self._temporary.unlink(missing_ok=True)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype | str) -> np.ndarray:
        """Voxels whose memory is the file."""
        self._mapped = np.lib.format.open_memmap(self._temporary, mode="w+", dtype=np.dtype(dtype), shape=tuple(shape))
        return self._mapped

    def publish(self, volume: Volume) -> None:
        if self._mapped is None or not np.shares_memory(volume.voxels, self._mapped):
            np.save(self._temporary, volume.voxels)
        else:
            self._mapped.flush()
        grid = volume.grid
        facts = {
            "grid": {
                "size": grid.size,
                "spacing": grid.spacing,
                "origin": grid.origin,
                "direction": grid.direction.tolist(),
            },
            "padding_value": volume.padding_value,
        }
        _grid_file(self._path).write_text(json.dumps(facts), encoding="utf-8")
        self._mapped = None
        os.replace(self._temporary, self._path)


def _grid_file(path: Path) -> Path:
    return path.with_name(path.name + ".grid.json")
