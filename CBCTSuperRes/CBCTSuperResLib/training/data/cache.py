"""Where decoded pixels stay: in memory up to a limit, above it in a mapped file that vanishes with the process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from ...errors import OutputError
from ...files.disk import check_disk
from ...memory import available_memory, readable

GB = 1e9
PROCESSES = "LOCAL_WORLD_SIZE"  # what torchrun tells each of the processes on a machine


class PixelCache:
    """Keeps arrays as they are, in their own type.

    Parameters
    ----------
    nbytes : int
        Of all arrays that will come, at most.
    limit_gb : float or None
        Memory they may take in this process; None: its share of a quarter of what is free. If they need more, all of
        them go to a file.
    folder : Path
        For that file. It is gone when the process ends, however it ends.

    Raises
    ------
    ResourceError
        If the disk has no room for the file.
    """

    def __init__(self, nbytes: int, limit_gb: float | None, folder: Path) -> None:
        limit = available_memory() / 4 / int(os.environ.get(PROCESSES, 1)) if limit_gb is None else limit_gb * GB
        self.nbytes = nbytes
        self.is_file = nbytes > limit
        self._file = self._map = None
        self._used = 0
        if self.is_file:
            self._open(folder)

    def keep(self, pixels: np.ndarray) -> np.ndarray:
        """The array itself, or its copy in the file."""
        if not self.is_file:
            return pixels
        start = self._used
        self._used += pixels.nbytes
        kept = self._map[start : self._used].view(pixels.dtype).reshape(pixels.shape)
        kept[...] = pixels
        return kept

    def close(self) -> None:
        """Remove the file as soon as no array of it is in use."""
        if self._file is not None:
            self._map = None
            self._file.close()
            self._file = None

    def __str__(self) -> str:
        return f"{readable(self.nbytes)} of decoded images in {'a mapped file' if self.is_file else 'memory'}"

    def _open(self, folder: Path) -> None:
        folder = folder if folder.is_dir() else Path(tempfile.gettempdir())
        check_disk(folder, self.nbytes)
        try:
            self._file = tempfile.TemporaryFile(prefix="decoded-", dir=folder)  # noqa: SIM115 - closed by `close`
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later would kill the process
                os.posix_fallocate(self._file.fileno(), 0, self.nbytes)
            self._map = np.memmap(self._file, np.uint8, "w+", shape=(self.nbytes,))
        except OSError as error:
            raise OutputError(
                f"The decoded images need a file of {readable(self.nbytes)} in {folder}, which failed: {error}.",
                "Put path.root on a disk with room, or raise cache_gb.",
            ) from error
