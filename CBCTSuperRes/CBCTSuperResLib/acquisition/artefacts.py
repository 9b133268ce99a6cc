"""A cone-beam scanner as it shows in its images: blur, sampling, noise, and the artefacts that a network must bear.

The fine and the coarse scan of a phantom are two scans of one object; the coarse one is not made of the fine one. All
amplitudes are in units of the window, all lengths in voxels of the field unless they say mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .scanner import AXES, block_mean, gaussian_blur

MID_BAND = 0.45  # frequency of most noise, in units of Nyquist
ACROSS_SLICES = 0.4  # smoothing of the noise from slice to slice, in voxels
STREAK_ANGLES = 180


@dataclass(frozen=True)
class Scanner:
    """What a scanner does to an object.

    Attributes
    ----------
    focal_spot, detector : float
        Standard deviation of the Gaussian blur of the focal spot; width of the detector's pixels, a box.
    axial : float
        Blur between the slices, as a share of that within them; a CBCT is sharper along its axis (Watanabe, 2010).
    factor : int
        Voxels of the field along a voxel of the scan.
    shift : sequence of float
        (k, j, i), by which the scan is displaced, as registration leaves it.
    noise : float
        Standard deviation at the edge of the field of view; in its middle, behind most tissue, it is 1.5 times as high.
    cupping : float
        By how much the middle is darker than the edge.
    rings : float
        Standard deviation of the offsets of single radii around the axis of rotation.
    streaks : float
        Depth of the dark bands between pieces of metal.
    """

    focal_spot: float = 0.75
    detector: float = 1.4
    axial: float = 0.7
    factor: int = 2
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    noise: float = 0.02
    cupping: float = 0.04
    rings: float = 0.006
    streaks: float = 0.15

    @property
    def sharpest(self) -> Scanner:
        """The same scanner at its finest: a voxel of the scan is one of the field, and there is little noise."""
        return Scanner(0.4, 1.0, 0.8, 1, (0.0, 0.0, 0.0), 0.2 * self.noise, self.cupping / 2, 0.0, 0.0)


def scan(
    field: np.ndarray, scanner: Scanner, seed: int, *, planes: str = "isotropic", metal: float | None = None
) -> np.ndarray:
    """The scan of a field.

    Parameters
    ----------
    field : ndarray of float32, shape (k, j, i)
        The object, in units of the window.
    scanner : Scanner
    seed : int
        Of noise and rings.
    planes : "isotropic", "axial" or "thick"
        Whether the scan has fewer samples along all axes, within the slices only, or between them only: each slice is
        then the mean over `scanner.factor` of the field's.
    metal : float, optional
        Level above which there is metal that casts streaks.

    Returns
    -------
    ndarray of float32, shape (k, j, i) / factor
        Not clipped.
    """
    axes = AXES[planes]
    field = np.asarray(field, np.float32)
    image = field
    for axis in range(3):
        if axis or planes != "axial":
            share = 1.0 if axis else scanner.axial
            image = _blurred(image, axis, share * scanner.focal_spot, share * scanner.detector, scanner.shift[axis])
    image = block_mean(image, axes, scanner.factor) if scanner.factor > 1 else image
    if metal is not None and scanner.streaks:
        coarse = block_mean(field, axes, scanner.factor) if scanner.factor > 1 else field
        image = image + metal_streaks(coarse > metal, scanner.streaks)
    image = image + cupping(image.shape, scanner.cupping) + rings(image.shape, scanner.rings, seed)
    return image + mid_band_noise(image.shape, scanner.noise, seed + 1)


def _blurred(image: np.ndarray, axis: int, sigma: float, width: float, shift: float) -> np.ndarray:
    """Along one axis: a Gaussian, and the mean over a box of a width, centred `shift` voxels away."""
    fine = 21  # odd, so that a bin has its middle on a sample
    reach = int(np.ceil(4 * sigma + width / 2 + abs(shift))) + 1
    steps = np.arange(-reach * fine, reach * fine + 1) / fine - shift
    box = np.abs(steps + shift) <= width / 2
    profile = np.convolve(np.exp(-0.5 * (steps / max(sigma, 1e-3)) ** 2), box / box.sum(), "same")
    kernel = np.array([profile[max(0, c - fine // 2) : c + fine // 2 + 1].sum() for c in range(0, len(profile), fine)])
    kernel = (kernel / kernel.sum()).astype(np.float32)
    padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="symmetric")
    length = image.shape[axis]
    return sum(w * padded.take(np.arange(n, n + length), axis) for n, w in enumerate(kernel))


def mid_band_noise(shape: Sequence[int], sd: float, seed: int) -> np.ndarray:
    """Noise as filtered back-projection leaves it: little at low frequencies, most in the middle, little at the end.

    Its spectrum within a slice is f exp(-(f / f0)^2): the ramp of the reconstruction and the apodisation of its filter.
    `sd` is the standard deviation at the edge of the field of view; it grows to 1.5 times of it in the middle.
    """
    white = np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)
    white = gaussian_blur(white, ACROSS_SLICES, (0,))
    rows, columns = (2 * np.fft.fftfreq(shape[1]), 2 * np.fft.rfftfreq(shape[2]))
    frequency = np.hypot(rows[:, None], columns)
    gain = frequency * np.exp(-((frequency / MID_BAND) ** 2) / 2)
    noise = np.stack([np.fft.irfft2(np.fft.rfft2(plane) * gain, shape[1:]) for plane in white]).astype(np.float32)
    spread = float(noise.std())
    if spread == 0:
        return np.zeros(tuple(shape), np.float32)
    return noise * np.float32(sd / spread) * (1 + 0.5 * _bowl(shape))


def cupping(shape: Sequence[int], depth: float) -> np.ndarray:
    """Offsets (1, j, i) that make the middle darker by `depth`, as the hardening of the beam does."""
    return (-depth * _bowl(shape)).astype(np.float32)


def rings(shape: Sequence[int], sd: float, seed: int) -> np.ndarray:
    """Offsets (1, j, i) of single radii around the axis of rotation, as badly calibrated detector pixels leave them."""
    offsets = np.random.default_rng([seed, 0x51]).normal(0, sd, max(shape[1:]))
    return np.interp(_radius(shape).ravel(), np.arange(len(offsets)), offsets).reshape(1, *shape[1:]).astype(np.float32)


def _radius(shape: Sequence[int]) -> np.ndarray:
    """Distance (j, i) from the axis of rotation, in voxels."""
    rows, columns = shape[-2:]
    return np.hypot(np.arange(rows)[:, None] - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2)


def _bowl(shape: Sequence[int]) -> np.ndarray:
    """(1, j, i): 1 on the axis of rotation, falling with the square of the radius to 0 at the edge of the view."""
    return np.clip(1 - (_radius(shape) / (min(shape[-2:]) / 2)) ** 2, 0, 1)[None].astype(np.float32)


def metal_streaks(metal: np.ndarray, depth: float) -> np.ndarray:
    """Dark bands between pieces of metal and bright ones beside them, slice by slice.

    The more metal a ray has passed, the less of the attenuation is measured: the lack is the square of the metal's
    projection. What the reconstruction makes of it is its filtered back-projection.

    Parameters
    ----------
    metal : ndarray of bool, shape (k, j, i)
    depth : float
        The darkest streak outside the metal, in units of the window.

    Returns
    -------
    ndarray of float32
        To be added.
    """
    found = np.zeros(metal.shape, np.float32)
    edge = int(np.ceil(np.hypot(*metal.shape[1:])))  # of a square that holds the slice however it is turned
    before = [(edge - n) // 2 for n in metal.shape[1:]]
    around = [(b, edge - n - b) for b, n in zip(before, metal.shape[1:], strict=True)]
    inside = tuple(slice(b, b + n) for b, n in zip(before, metal.shape[1:], strict=True))
    angles = np.arange(STREAK_ANGLES) * 180.0 / STREAK_ANGLES
    for k in np.flatnonzero(metal.any(axis=(1, 2))):
        padded = np.pad(metal[k].astype(np.float32), around)
        lacks = np.stack([_turned(padded, angle).sum(axis=0) for angle in angles]) ** 2
        ramp = np.abs(np.fft.rfftfreq(2 * edge))
        filtered = np.fft.irfft(np.fft.rfft(lacks, 2 * edge) * ramp, 2 * edge)[:, :edge]
        total = np.zeros((edge, edge), np.float32)
        for angle, row in zip(angles, filtered, strict=True):
            total += _turned(np.broadcast_to(row.astype(np.float32), (edge, edge)).copy(), -angle)
        lack = -(total[inside] * np.float32(np.pi / STREAK_ANGLES))
        darkest = -float(lack[~metal[k]].min())
        found[k] = np.clip(lack * (depth / darkest), -depth, depth) if darkest > 0 else 0
    return found


def _turned(image: np.ndarray, angle: float) -> np.ndarray:
    centre = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    return cv2.warpAffine(image, cv2.getRotationMatrix2D(centre, angle, 1.0), image.shape[::-1], flags=cv2.INTER_LINEAR)
