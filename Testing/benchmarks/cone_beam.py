"""B7: our cone-beam projection and reconstruction against RTK's, on one object with the same geometry.

Needs itk-rtk, which is large and nothing else uses: pip install itk-rtk
"""

from __future__ import annotations

import time

import numpy as np
from CBCTSuperResLib.acquisition.cone_beam import (
    PER_LEVEL,
    WATER_PER_MM,
    ConeBeam,
    cone_beam_scan,
)
from CBCTSuperResLib.acquisition.phantom import jaw_phantom

EDGE, SPACING_MM, SOURCE_MM = 64, 0.5, 400.0
LEAST_CORRELATION, MOST_DIFFERENCE, MOST_ERROR = 0.97, 0.03, 1.25


def run(quick: bool) -> bool:
    try:
        import itk
        from itk import RTK as rtk  # noqa: N811  the package's own name
    except ImportError:
        print("itk-rtk is not installed: nothing to compare with.")
        return True
    field = np.pad(
        jaw_phantom((EDGE // 2, EDGE - 16, EDGE - 16), SPACING_MM, 3), ((4, 4), (8, 8), (8, 8)), constant_values=-0.8
    )
    projections = 90 if quick else 180
    start = time.perf_counter()
    ours = cone_beam_scan(field, SPACING_MM, SPACING_MM, ConeBeam(SOURCE_MM, projections, photons=None))
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    theirs = _with_rtk(itk, rtk, field, projections)
    print(f"{field.shape}, {projections} projections: ours {seconds:.1f} s, RTK {time.perf_counter() - start:.1f} s")
    inner = (slice(6, -6), slice(8, -8), slice(8, -8))  # RTK's detector is no wider than the object
    a, b = ours[inner].ravel(), theirs[inner].ravel()
    correlation, difference = float(np.corrcoef(a, b)[0, 1]), float(np.median(np.abs(a - b)))
    print(f"correlation {correlation:.4f} (at least {LEAST_CORRELATION}); median difference {difference:.4f}")
    errors = [float(np.abs(image - field)[inner].mean()) for image in (ours, theirs)]
    print(f"mean error against the object: ours {errors[0]:.4f}, RTK {errors[1]:.4f} of the window")
    return correlation > LEAST_CORRELATION and difference < MOST_DIFFERENCE and errors[0] < MOST_ERROR * errors[1]


def _with_rtk(itk, rtk, field: np.ndarray, projections: int) -> np.ndarray:
    """RTK's axis of rotation is its second one; ours is the first of (k, j, i)."""
    kind = itk.Image[itk.F, 3]
    attenuation = np.maximum(0, WATER_PER_MM + PER_LEVEL * field).astype(np.float32)
    volume = itk.image_from_array(np.ascontiguousarray(attenuation.transpose(1, 0, 2)))
    volume.SetSpacing([SPACING_MM] * 3)
    volume.SetOrigin([-(n - 1) / 2 * SPACING_MM for n in itk.size(volume)])
    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    for number in range(projections):
        geometry.AddProjection(SOURCE_MM, 2 * SOURCE_MM, 360.0 * number / projections)
    size = [int(1.6 * max(field.shape)), 2 * field.shape[0], projections]
    pixel = 2 * SPACING_MM  # at twice the distance
    stack = rtk.constant_image_source(
        size=size,
        spacing=[pixel] * 3,
        origin=[-(size[0] - 1) / 2 * pixel, -(size[1] - 1) / 2 * pixel, 0],
        ttype=[kind],
    )
    projector = rtk.JosephForwardProjectionImageFilter[kind, kind].New()
    projector.SetGeometry(geometry)
    projector.SetInput(0, stack)
    projector.SetInput(1, volume)
    empty = rtk.constant_image_source(
        size=list(itk.size(volume)), spacing=list(volume.GetSpacing()), origin=list(volume.GetOrigin()), ttype=[kind]
    )
    reconstruction = rtk.FDKConeBeamReconstructionFilter[kind].New()
    reconstruction.SetGeometry(geometry)
    reconstruction.SetInput(0, empty)
    reconstruction.SetInput(1, projector.GetOutput())
    reconstruction.Update()
    found = itk.array_from_image(reconstruction.GetOutput()).transpose(1, 0, 2)
    return (found - WATER_PER_MM) / PER_LEVEL
