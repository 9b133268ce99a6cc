"""A scan by projection and reconstruction: cone beam, flat detector, circular orbit (Feldkamp, Davis, Kress, 1984).

The slow way to a phantom scan: noise, partial volume, cone angle and the streaks of saturated rays come out as physics
makes them and not as `artefacts` describes them. Lengths in mm; the axis of rotation is k, through the middle of the
field. Worker-side: needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, hypot, pi

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

from ..core.errors import Cancelled, OptionError
from .scanner import gaussian_kernel

WATER_PER_MM = 0.02  # attenuation at about 70 keV; that of the level 0 of the window is set to it
PER_LEVEL = 0.025  # attenuation between the levels 0 and 1


@dataclass(frozen=True)
class ConeBeam:
    """A scanner's geometry and dose.

    Attributes
    ----------
    source_mm : float
        From the source to the axis of rotation.
    projections : int
        Over the whole turn.
    pixel_mm : float or None
        Of the detector, as it appears on the axis; None takes the voxels of the reconstruction.
    photons : float or None
        That reach a detector pixel where nothing is in between; None for no noise.
    focal_spot_mm : float
        Standard deviation of the blur it leaves on the axis.
    """

    source_mm: float = 400.0
    projections: int = 360
    pixel_mm: float | None = None
    photons: float | None = 2e5
    focal_spot_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.source_mm <= 0 or self.projections < 8:
            raise OptionError("A cone beam needs a distance of its source, and eight projections or more.")


def cone_beam_scan(
    field: np.ndarray,
    spacing_mm: float,
    coarse_mm: float,
    beam: ConeBeam | None = None,
    seed: int = 0,
    *,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> np.ndarray:
    """Project a field and reconstruct it with voxels of another size over the same extent.

    Parameters
    ----------
    field : ndarray, shape (k, j, i)
        In units of the window. Levels below -0.8 attenuate nothing; so does what surrounds the field.
    spacing_mm, coarse_mm : float
        Voxels of the field and of the reconstruction.
    beam : ConeBeam, optional
    seed : int
        Of the noise.

    Returns
    -------
    ndarray of float32, shape (k, j, i)
        In units of the window.
    """
    beam = beam or ConeBeam()
    pixel = beam.pixel_mm or coarse_mm
    attenuation = torch.from_numpy(np.maximum(0, WATER_PER_MM + PER_LEVEL * np.asarray(field, np.float32))).to(device)
    extent = [n * spacing_mm for n in field.shape]
    shape = tuple(max(1, round(e / coarse_mm)) for e in extent)
    detector = _detector(extent, beam.source_mm, pixel)
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(shape, device=device)
    for number in range(beam.projections):
        if cancelled and cancelled():
            raise Cancelled
        angle = 2 * pi * number / beam.projections
        projection = project(attenuation, spacing_mm, angle, beam.source_mm, detector)
        projection = _measured(projection, beam, pixel, generator)
        total += back_project(
            filtered(projection, detector, beam.source_mm), angle, beam.source_mm, detector, shape, coarse_mm
        )
        if progress:
            progress((number + 1) / beam.projections, f"Projection {number + 1} of {beam.projections}")
    found = total * (pi / beam.projections)
    return ((found - WATER_PER_MM) / PER_LEVEL).cpu().numpy()


@dataclass(frozen=True)
class Detector:
    """A flat detector, moved onto the axis of rotation: rows along k, columns across."""

    rows: int
    columns: int
    pixel_mm: float

    def positions(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Of the pixels' centres: v of the rows and u of the columns, in mm from the middle."""
        v, u = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in (self.rows, self.columns))
        return (v * self.pixel_mm).to(device), (u * self.pixel_mm).to(device)


def project(field: Tensor, spacing_mm: float, angle: float, source_mm: float, detector: Detector) -> Tensor:
    """Line integrals from the source to every pixel of the detector, shape (rows, columns).

    Rays are sampled at steps of half a voxel, with linear interpolation (Joseph, 1982, in spirit).
    """
    v, u = detector.positions(field.device)
    half = hypot(*(n * spacing_mm / 2 for n in field.shape[1:])) + spacing_mm
    steps = ceil(4 * half / spacing_mm)
    depth = ((torch.arange(steps, device=field.device) + 0.5) / steps * 2 - 1) * half  # towards the source
    narrowing = (1 - depth / source_mm)[:, None]
    across, up = narrowing * u, narrowing * v
    cosine, sine = np.cos(angle), np.sin(angle)
    x, y = depth[:, None] * cosine - across * sine, depth[:, None] * sine + across * cosine
    scale = [2 / (n * spacing_mm) for n in field.shape]
    image = field[None, None]
    total = torch.zeros(detector.rows, detector.columns, device=field.device)
    for step in range(steps):  # one plane across the ray after the other: memory of one projection
        plane = torch.empty(1, 1, detector.rows, detector.columns, 3, device=field.device)
        plane[..., 0], plane[..., 1] = x[step] * scale[2], y[step] * scale[1]
        plane[..., 2] = (up[step] * scale[0])[:, None]
        total += grid_sample(image, plane, align_corners=False)[0, 0, 0]
    length = torch.sqrt(source_mm**2 + u**2 + v[:, None] ** 2) / source_mm
    return total * length * (2 * half / steps)


def filtered(projection: Tensor, detector: Detector, source_mm: float) -> Tensor:
    """Weighted by the cosine of the rays and filtered by the ramp along the rows (Ram-Lak, made in space)."""
    v, u = detector.positions(projection.device)
    weighted = projection * source_mm / torch.sqrt(source_mm**2 + u**2 + v[:, None] ** 2)
    columns, pixel = detector.columns, detector.pixel_mm
    n = torch.arange(-columns, columns, device=projection.device)
    kernel = torch.where(n % 2 != 0, -1 / (pi * n.float().where(n != 0, 1.0) * pixel) ** 2, 0.0)
    kernel[columns] = 1 / (4 * pixel**2)
    length = 4 * columns
    kernel = torch.roll(pad(kernel, (0, length - len(kernel))), -columns)
    spectrum = torch.fft.rfft(weighted, length) * torch.fft.rfft(kernel, length)
    return torch.fft.irfft(spectrum, length)[:, :columns] * pixel


def back_project(
    projection: Tensor,
    angle: float,
    source_mm: float,
    detector: Detector,
    shape: tuple[int, int, int],
    spacing_mm: float,
) -> Tensor:
    """A filtered projection smeared back over the voxels, with the weight of their distance; shape (k, j, i)."""
    device = projection.device
    z, y, x = ((torch.arange(n, device=device) - (n - 1) / 2) * spacing_mm for n in shape)
    cosine, sine = np.cos(angle), np.sin(angle)
    depth = x * cosine + y[:, None] * sine
    widening = source_mm / (source_mm - depth)
    u = (y[:, None] * cosine - x * sine) * widening * (2 / (detector.columns * detector.pixel_mm))
    grid = torch.empty(shape[0], shape[1] * shape[2], 2, device=device)
    grid[..., 0] = u.ravel()
    grid[..., 1] = z[:, None] * widening.ravel() * (2 / (detector.rows * detector.pixel_mm))
    found = grid_sample(projection[None, None], grid[None], align_corners=False)[0, 0]
    return (found * widening.ravel() ** 2).reshape(shape)


def _detector(extent: list[float], source_mm: float, pixel: float) -> Detector:
    """One that sees all of the field from every side."""
    radius = hypot(*extent[1:]) / 2
    if radius >= 0.9 * source_mm:
        raise OptionError("The source would be inside the object.", "Give a larger distance.")
    nearest = source_mm / (source_mm - radius)
    return Detector(*(ceil(2 * half * nearest / pixel) + 4 for half in (extent[0] / 2, radius)), pixel)


def _measured(projection: Tensor, beam: ConeBeam, pixel: float, generator: torch.Generator) -> Tensor:
    """With the blur of the focal spot and the noise of the photons that came through."""
    if beam.photons is None and not beam.focal_spot_mm:
        return projection
    intensity = torch.exp(-projection)
    if beam.focal_spot_mm:
        kernel = torch.from_numpy(gaussian_kernel(beam.focal_spot_mm / pixel)).to(intensity)
        padded = pad(intensity[None, None], (len(kernel) // 2,) * 4, mode="replicate")
        intensity = conv2d(conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])[0, 0]
    if beam.photons is not None:
        counted = torch.poisson((intensity * beam.photons).cpu(), generator=generator).to(projection.device)
        intensity = counted.clamp(min=0.5) / beam.photons
    return -torch.log(intensity)
