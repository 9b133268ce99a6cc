"""A look at a scan before it is computed, by a worker: what it tells of its scanner, as JSON and as an object again.

It takes a second or two, for which no window should stand still. With it a panel knows all that a run will decide.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ..acquisition.estimate import BlurAlongAxis, EstimatedAcquisition
from ..acquisition.noise_level import NoiseLevel
from ..core.options import Options
from ..io.volume import Volume
from ..models.card import ModelCard
from .plan import make_plan


def look_at(path: str | Path, card: ModelCard, options: Options) -> dict:
    """What a scan tells of its scanner, ready for JSON and not rounded; see `scanner_from`.

    Parameters
    ----------
    path : path
        The scan.
    card : ModelCard
        Whose window the grey values are looked at in, unless the options name one.
    options : Options
        Of which blanks and window matter.

    Raises
    ------
    SuperResError
        As a run would.
    """
    volume = Volume.read(path)
    plain = Options(blank=options.blank, window=options.window)
    scanner = make_plan(volume.grid, volume.voxels.dtype, card, plain).with_scan(volume, is_checked=True).scanner
    return asdict(scanner)


def scanner_from(found: dict) -> EstimatedAcquisition:
    """What `look_at` has found."""
    noise = found["noise"] and NoiseLevel(**found["noise"])
    blur = tuple(BlurAlongAxis(**axis) for axis in found["blur"])
    return EstimatedAcquisition(**{**found, "spacing": tuple(found["spacing"]), "blur": blur, "noise": noise})
