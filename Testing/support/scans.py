"""Volumes made for the tests around Slicer."""

from __future__ import annotations

import numpy as np
from CBCTSuperResLib.core.volume import Grid
from CBCTSuperResLib.io.volume import Volume


def make_scan(shape=(4, 24, 28), dtype="uint16") -> Volume:
    """A smooth blob with some noise on an oblique grid."""
    random = np.random.default_rng(1)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    blob = 3000 * np.exp(-3 * (k**2 + j**2 + i**2)) + 200 + 20 * random.standard_normal(shape)
    direction, _ = np.linalg.qr(random.normal(size=(3, 3)))
    return Volume(blob.astype(dtype), Grid(shape[::-1], (0.25, 0.25, 0.3), (10.0, -20.0, 30.0), direction))
