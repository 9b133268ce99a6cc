"""The two grading protocols, and what enlarges a coarse scan in them: cubic interpolation, and models as Apply does.

A scan of protocol P2 is enlarged slice by slice ("axial"), one of P3 along all axes ("isotropic"). Worker-side: needs
torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from CBCTSuperResLib.acquisition.estimate import FWHM
from CBCTSuperResLib.acquisition.scanner import Acquisition
from CBCTSuperResLib.apply.plan import make_plan
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.apply.suited_model import suited_card
from CBCTSuperResLib.core.interpolate import enlarge
from CBCTSuperResLib.core.options import Options, Ranges
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.card import ModelCard
from CBCTSuperResLib.models.folder import default_model
from CBCTSuperResLib.models.model import Model

Method = Callable[[np.ndarray, Acquisition], np.ndarray]


def cubic_method(scan: np.ndarray, acquisition: Acquisition) -> np.ndarray:
    """Cubic interpolation (Keys, a = -0.75) of a coarse scan along the axes that are halved in it."""
    slices, *plane = scan.shape
    return enlarge(scan, (slices if acquisition.planes == "axial" else 2 * slices, *(2 * n for n in plane)))


def model_method(model: Model, device: str = "auto", ensemble: int = 1, is_told: bool = False) -> Method:
    """What Apply makes of a scan whose window is [0, 1] and in which everything was measured.

    The scanner's blur is estimated from the whole scan, or, if `is_told`, given.
    """

    def super_resolved(scan: np.ndarray, acquisition: Acquisition, roi: Ranges | None = None) -> np.ndarray:
        volume, options = _asked(scan, acquisition, model.card)
        pixel = volume.spacing[0]
        given = FWHM * acquisition.blur * pixel / 2 if is_told else None
        options = replace(options, device=device, ensemble=ensemble, scanner_blur=given, roi=roi)
        return super_resolve(volume, model, options).voxels

    return super_resolved


def chosen_card(scan: np.ndarray, acquisition: Acquisition) -> ModelCard:
    """The model that Apply takes for such a scan where none is named, by what it estimates from it."""
    usual = default_model(Options(planes=acquisition.planes))
    volume, options = _asked(scan, acquisition, usual)
    return suited_card(make_plan(volume.grid, volume.voxels.dtype, usual, options).with_scan(volume, is_checked=True))


def _asked(scan: np.ndarray, acquisition: Acquisition, card: ModelCard) -> tuple[Volume, Options]:
    """A scan of voxels as a model knows them, and how Apply is to take it."""
    pixel = float(np.mean(card.voxel_size_mm or (0.25, 0.25)))
    between = pixel if acquisition.planes == "isotropic" else pixel / 2  # the fine scan's voxels are cubes
    volume = Volume(np.ascontiguousarray(scan, np.float32), Grid(scan.shape[::-1], (pixel, pixel, between)))
    return volume, Options(window=(0.0, 1.0), blank="none", planes=acquisition.planes)
