"""Volumes handed from one process to another: an uncompressed .npy file, mapped and not read, with a grid beside it.

The grid's file is written last, under a temporary name that is then changed: voxels without it are not whole and are
never read. The voxels have their own name from the start, because Windows does not rename a file that is mapped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..core.atomic import replacing
from ..core.errors import InputError, OutputError
from ..core.volume import Grid, Volume
from .write import check_disk

SUFFIX = ".npy"
SLAB_BYTES = 1 << 20
PIECE_BYTES = 1 << 26


def is_exchange(path: str | Path) -> bool:
    return Path(path).suffix == SUFFIX


def write_exchange(volume: Volume, path: str | Path) -> Path:
    """Save a volume, straight from its memory.

    Raises
    ------
    ResourceError, OutputError
        If the disk is too full, or refuses; nothing is left then.
    """
    for _ in write_slabs(volume, path):
        pass
    return Path(path)


def write_slabs(volume: Volume, path: str | Path) -> Iterator[float]:
    """`write_exchange`, slab by slab; yields the fraction that is written.

    Each slab takes a few milliseconds, so that a timer can write while an application stays responsive.
    """
    with ExchangeOutput(path) as output:
        yield from output.save(volume.voxels)
        output.publish(volume)


def remove_pieces(path: str | Path) -> Iterator[None]:
    """Remove a saved volume piece by piece, because a gigabyte at once takes some tenths of a second.

    What the system does not let go of yet, such as a file that is still mapped, stays.
    """
    path = Path(path)
    with suppress(OSError):
        _grid_file(path).unlink(missing_ok=True)
        for size in range(path.stat().st_size - PIECE_BYTES, 0, -PIECE_BYTES):
            os.truncate(path, size)
            yield
        path.unlink()


def remove_exchange(path: str | Path) -> None:
    """Remove a saved volume at once; others that have it mapped keep what they see, or (on Windows) its file."""
    for file in (_grid_file(Path(path)), Path(path)):
        with suppress(OSError):
            file.unlink(missing_ok=True)


def read_exchange(path: str | Path) -> Volume:
    """Map a saved volume; its voxels are read from disk when they are used, and cannot be changed.

    Raises
    ------
    InputError
        If it is missing, was never finished, or is damaged.
    """
    grid_file = _grid_file(Path(path))
    if Path(path).exists() and not grid_file.exists():
        raise InputError(
            f"{path} cannot be read: it is an array without its grid ({grid_file.name}), unfinished or not of ours.",
            "Save the volume as NRRD or NIfTI, with its spacing.",
        )
    try:
        facts = json.loads(grid_file.read_text(encoding="utf-8"))
        voxels = np.load(path, mmap_mode="r", allow_pickle=False)
        return Volume(voxels, Grid(**facts["grid"]), facts["padding_value"], facts["report"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"The exchange file {path} cannot be read: {error}.", "Make it again.") from error


class ExchangeOutput:
    """A result that is computed straight into its file and can be read only when it is whole.

    >>> with ExchangeOutput(path) as output:
    ...     result = super_resolve(volume, model, allocate=output.allocate)
    ...     output.publish(result)

    Attributes
    ----------
    announcement : Path
        The file of the grid, whose appearance tells that the voxels are whole.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.announcement = _grid_file(self._path)
        self._inside: np.ndarray | None = None  # voxels that are in the file
        self._is_kept = False

    def __enter__(self) -> ExchangeOutput:
        return self

    def __exit__(self, *_) -> None:
        self._inside = None
        if not self._is_kept:
            remove_exchange(self._path)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype | str) -> np.ndarray:
        """Voxels whose memory is the file; its room on the disk is taken at once.

        Raises
        ------
        ResourceError, OutputError
            If there is no room: a mapped file that outgrows its disk would end the process without a word.
        """
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        check_disk(self._path.parent, nbytes)
        remove_exchange(self._path)
        try:
            self._inside = np.lib.format.open_memmap(self._path, "w+", np.dtype(dtype), tuple(shape))
            if hasattr(os, "posix_fallocate"):
                with open(self._path, "rb+") as stream:
                    os.posix_fallocate(stream.fileno(), 0, self._path.stat().st_size)
        except OSError as error:
            raise _refused(self._path, error) from error
        return self._inside

    def publish(self, volume: Volume) -> None:
        """Declare the allocated voxels, or any others, to be whole."""
        with replacing(self.announcement) as scratch:
            self.write(volume, scratch)
        self.keep()

    def write(self, volume: Volume, scratch: Path) -> None:
        """Have all voxels in the file, and in `scratch` what will be renamed to `announcement`."""
        if self._inside is None or not np.shares_memory(volume.voxels, self._inside):
            for _ in self.save(volume.voxels):
                pass
        elif isinstance(self._inside, np.memmap):
            self._inside.flush()
        grid = volume.grid
        facts = {
            "grid": {
                "size": grid.size,
                "spacing": grid.spacing,
                "origin": grid.origin,
                "direction": grid.direction.tolist(),
            },
            "padding_value": volume.padding_value,
            "report": volume.report,
        }
        scratch.write_text(json.dumps(facts, ensure_ascii=False, default=str), encoding="utf-8")

    def keep(self) -> None:
        """From now on, leaving does not remove the voxels."""
        self._is_kept = True

    def save(self, voxels: np.ndarray) -> Iterator[float]:
        """Write voxels slab by slab; plainly, because a full disk is then an error that can be caught."""
        check_disk(self._path.parent, voxels.nbytes)
        remove_exchange(self._path)
        form = {"descr": np.lib.format.dtype_to_descr(voxels.dtype), "fortran_order": False, "shape": voxels.shape}
        depth = slab_depth(voxels)
        try:
            with open(self._path, "wb") as stream:
                np.lib.format.write_array_header_1_0(stream, form)
                for start in range(0, len(voxels), depth):
                    stream.write(np.ascontiguousarray(voxels[start : start + depth]).data)
                    yield min(1.0, (start + depth) / len(voxels))
        except OSError as error:
            raise _refused(self._path, error) from error
        self._inside = voxels


def slab_depth(voxels: np.ndarray) -> int:
    """How many slices make a slab that is moved in a moment."""
    return max(1, SLAB_BYTES // max(1, voxels[:1].nbytes))


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"Writing {path} failed: {error}.", "Check the disk of temporary files.")


def _grid_file(path: Path) -> Path:
    return path.with_name(path.name + ".grid.json")
