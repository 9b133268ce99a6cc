"""What the super-resolution of a scan will take, from its header alone: how many processes a computer carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.errors import SuperResError
from ..core.options import Options
from ..core.volume import Grid
from ..io.volume_files import read_header
from ..models.card import ModelCard
from ..models.folder import default_model
from .memory_and_disk import workers_that_fit
from .plan import make_plan

BYTES_OF_VOXEL = 2  # in pictures and DICOM files
UNTOLD = (SuperResError, OSError, ValueError, TypeError)


def needs_of(path: Path, card: ModelCard | None, options: Options) -> tuple[int, float] | None:
    """Memory in bytes and time in seconds, as `Plan` has them; None if nothing can be told.

    Without a card, of the default model for what is asked of the scan. Of a folder the size of its files is taken for
    that of its voxels.
    """
    try:
        plan = make_plan(*_facts(path, card, options))
    except UNTOLD:  # the run will tell
        return None
    return plan.memory_bytes, plan.seconds


def workers_for(path: Path, card: ModelCard | None, options: Options, most: int, free: float) -> int | None:
    """How many processes of this computer, 1 to `most`, can share a scan in so many bytes; as `needs_of`."""
    try:
        return max(1, workers_that_fit(*_facts(path, card, options), most, free))
    except UNTOLD:
        return None


def _facts(path: Path, card: ModelCard | None, options: Options) -> tuple[Grid, np.dtype, ModelCard, Options]:
    if path.is_dir():
        voxels = sum(file.stat().st_size for file in path.iterdir() if file.is_file()) // BYTES_OF_VOXEL
        edge = max(2, round(voxels ** (1 / 3)))
        grid, dtype = Grid((edge, edge, edge)), np.dtype(np.uint16)
    else:
        header = read_header(path)
        grid, dtype = Grid(header.size[:3], header.spacing or (1.0, 1.0, 1.0)), header.grey_type
    return grid, dtype, card or default_model(options, grid.spacing), options
