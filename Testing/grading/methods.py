"""The two grading protocols, and what enlarges a coarse scan in them: cubic interpolation, and models as Apply does.

P2: blurred and halved in-plane, enlarged slice by slice ("axial"). P3: blurred and halved along all axes, enlarged
along all of them ("isotropic"). Worker-side: needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, IN_PLANE
from CBCTSuperResLib.apply.run import super_resolve
from CBCTSuperResLib.core.interpolate import cubic
from CBCTSuperResLib.core.options import Options
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.models.model import Model

CUBIC = "cubic"


@dataclass(frozen=True)
class Protocol:
    """How the coarse scan is made.

    Attributes
    ----------
    name, planes : str
        "P2" with "axial", "P3" with "isotropic".
    axes : tuple of int
    """

    name: str
    planes: str
    axes: tuple[int, ...]


P2, P3 = Protocol("P2", "axial", IN_PLANE), Protocol("P3", "isotropic", ALL_AXES)
Method = Callable[[np.ndarray, Protocol], np.ndarray]


def cubic_method(scan: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Cubic interpolation (Keys, a = -0.75) of a coarse scan along the axes of the protocol."""
    along = [(np.arange(2 * n) + 0.5) / 2 - 0.5 if axis in protocol.axes else None for axis, n in enumerate(scan.shape)]
    return cubic(scan, along)


def model_method(model: Model, device: str = "auto", ensemble: int = 1) -> Method:
    """What Apply makes of a scan whose window is [0, 1] and in which everything was measured."""

    def enlarge(scan: np.ndarray, protocol: Protocol) -> np.ndarray:
        pixel = float(np.mean(model.card.voxel_size_mm or (0.25, 0.25)))
        between = pixel if 0 in protocol.axes else pixel / 2  # the fine scan's voxels are cubes
        volume = Volume(np.ascontiguousarray(scan, np.float32), Grid(scan.shape[::-1], (pixel, pixel, between)))
        options = Options(window=(0.0, 1.0), blank="none", planes=protocol.planes, device=device, ensemble=ensemble)
        return super_resolve(volume, model, options).voxels

    return enlarge
