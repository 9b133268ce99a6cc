"""Volumes that are read from files and written to them: the `Volume` of the public interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import volume
from .read import read_volume
from .write import write_volume


@dataclass(frozen=True, eq=False)
class Volume(volume.Volume):
    """A scan in memory: see `core.volume.Volume`, which holds it and knows of no files.

    >>> Volume.read("scan.nrrd").write("copy.mha")
    """

    @classmethod
    def read(
        cls,
        path: str | Path,
        spacing: Sequence[float] | None = None,
        series: str | None = None,
        override: bool = False,
    ) -> Volume:
        """Read NRRD, NHDR, MHA, NIfTI, a DICOM folder or a folder of slices: see `read_volume`."""
        scan = read_volume(path, spacing=spacing, series=series, override=override)
        return Volume(scan.voxels, scan.grid, scan.padding_value, scan.report)

    def write(self, path: str | Path, compress: bool = False) -> Path:
        """Write the volume whole or not at all: see `write_volume`."""
        return write_volume(self, path, compress=compress)
