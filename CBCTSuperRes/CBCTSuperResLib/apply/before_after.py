"""A small picture of a scan beside its result, for people who look through many."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..core.atomic import replacing
from ..io.volume import Volume

EDGE = 240  # pixels of the result that are shown, at most


def write_picture(scan: Volume, result: Volume, path: Path) -> None:
    """Write the middle of the middle slice as PNG: the scan, enlarged by cubic interpolation, left of the result.

    Parameters
    ----------
    scan, result : Volume
        The result with the report of `super_resolve`, which tells ROI and window.
    path : Path

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    told = result.report
    (i0, i1), (j0, j1), (k0, k1) = told["roi"] or [(0, n) for n in scan.grid.size]
    lo, hi = told["window"]
    after = result.voxels[result.grid.size[2] // 2].astype(np.float32)
    before = scan.voxels[k0 + (k1 - k0) // 2, j0:j1, i0:i1].astype(np.float32)
    before = cv2.resize(before, after.shape[::-1], interpolation=cv2.INTER_CUBIC)
    rows, columns = (slice(max(0, (n - EDGE) // 2), (n + min(n, EDGE)) // 2) for n in after.shape)
    unit = [(image[rows, columns] - lo) / (hi - lo) for image in (before, after)]
    grey = [np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8) for image in unit]
    line = np.full((grey[0].shape[0], 2), 255, np.uint8)
    is_done, png = cv2.imencode(".png", np.hstack([grey[0], line, grey[1]]))
    if is_done:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            scratch.write_bytes(png.tobytes())
