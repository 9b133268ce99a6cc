"""Pictures that are no scans of the user's: procedural slices, and slices of public scans."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import OutputError
from ...evaluation.public import PublicSlices
from ...locks import FileLock
from .picture import Picture
from .procedural import make_pool

if TYPE_CHECKING:
    from ..options import TrainingOptions
    from ..options.data_keys import DatasetOptions


def public_pictures(dataset: DatasetOptions, options: TrainingOptions, size: int) -> tuple[list[Picture], list[dict]]:
    """Slices of the public scans that a data set names, of at least `size` pixels, and what a card says of the scans.

    Raises
    ------
    InputError, OptionError
        If a scan is unknown, held out from training, missing, or another than the one that is meant.
    """
    if not dataset.public:
        return [], []
    folder = Path(options.path.public_data).expanduser() if options.path.public_data else None
    found = PublicSlices(dataset.public, folder, size, options.network_G.slices)
    pictures = (Picture(name, found.slab(n), None) for n, name in enumerate(found.names))
    return [picture.cropped_to(options.scale) for picture in pictures], found.describe()


def procedural_pictures(dataset: DatasetOptions, options: TrainingOptions, patch: int) -> list[Picture]:
    """The procedural slices that a data set asks for, twice as wide as a patch, from a file that later runs find again.

    Where the network sees neighbouring slices they have some.

    Raises
    ------
    OutputError
        If they cannot be written below path.root.
    """
    if not dataset.procedural:
        return []
    count, seed, size = dataset.procedural, dataset.procedural_seed, 2 * patch
    slices = options.network_G.slices
    name = f"{seed}-{count}-{size}{f'-{slices}' if slices else ''}.f16"
    path = Path(options.path.root).expanduser() / "procedural" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pool = _drawn_once(path, count, size, seed, slices)
    except OSError as error:
        what = f"The procedural slices cannot be written to {path}: {error}."
        raise OutputError(what, "Free some space, or change path.root.") from error
    pictures = (Picture(f"procedural {seed}-{n}", slab, None) for n, slab in enumerate(pool))
    return [picture.cropped_to(options.scale) for picture in pictures]


def _drawn_once(path: Path, count: int, size: int, seed: int, slices: int) -> np.memmap:
    """By one of the processes that want them, while the others wait."""
    lock = FileLock(path.with_suffix(".lock"))
    while not lock.acquire():
        time.sleep(0.2)
    try:
        return make_pool(path, count, size, seed, slices)
    finally:
        lock.release()
