"""What a scanner does to an image, defined once: blur, sampling and noise.

Simulation, training, the quality card and the graded protocols take their kernels, means and noise from here. Lengths
are in pixels of the image that is blurred, amplitudes in units of the window. Images are arrays with any axes before
the last two (rows, columns), or the last three (slices, rows, columns).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

IN_PLANE = (-2, -1)
ALL_AXES = (-3, -2, -1)
AXES = {"axial": IN_PLANE, "isotropic": ALL_AXES, "thick": (-3,)}
SLICE_NOISE_RADIUS = 3  # of the kernel that smooths the noise of single slices, in pixels


# Blur


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """Sampled Gaussian of standard deviation `sigma` pixels, sum 1, float64."""
    weights = gaussian_weights(sigma, max(1, int(truncate * sigma + 0.5)))
    return weights / weights.sum()


def gaussian_weights(sigma: float, radius: int) -> np.ndarray:
    """Gaussian at -radius ... radius pixels, 1 in its middle, float64."""
    return np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)


def gaussian_plane(
    sigma: float, ratio: float, angle: float, shift: tuple[float, float], radius: int, step: float = 1.0
) -> np.ndarray:
    """Gaussian of an anisotropic blur, turned and displaced, as a kernel (rows, columns) of sum 1, float32.

    Parameters
    ----------
    sigma : float
        Geometric mean of the two principal standard deviations.
    ratio : float
        By which the first of them is larger, and the second smaller.
    angle : float
        Of the first one from the columns' axis, in radians.
    shift : (rows, columns)
        Displacement of the middle; like `sigma` in units of 1 / `step` pixels.
    radius : int
        Pixels on either side.
    """
    steps = np.arange(-radius, radius + 1) * step
    y, x = steps[:, None] - shift[0], steps - shift[1]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    weights = np.exp(-0.5 * ((u / (sigma * ratio)) ** 2 + (v * ratio / sigma) ** 2))
    return (weights / weights.sum()).astype(np.float32)


def gaussian_blur(
    image: np.ndarray, sigma: float | Sequence[float], axes: Sequence[int], truncate: float = 4.0
) -> np.ndarray:
    """Gaussian blur of `sigma` pixels along some axes; beyond the border the image is mirrored, edge pixel repeated.

    `sigma` is one number for all of the axes, or one for each.
    """
    for axis, width in zip(axes, np.broadcast_to(sigma, len(axes)), strict=True):
        kernel = gaussian_kernel(float(width), truncate)
        radius = len(kernel) // 2
        before = [(radius, radius) if a == axis % image.ndim else (0, 0) for a in range(image.ndim)]
        padded = np.pad(image, before, mode="symmetric")
        length = image.shape[axis]
        blurred = np.zeros_like(image)
        for start, weight in enumerate(kernel):
            blurred += image.dtype.type(weight) * padded.take(np.arange(start, start + length), axis)
        image = blurred
    return image


# Sampling


def block_mean(image: np.ndarray, axes: Sequence[int], factor: int = 2) -> np.ndarray:
    """Mean of `factor` neighbours along some axes; a remainder at the end is left out."""
    for axis in axes:
        count = image.shape[axis] // factor
        parts = [image.take(np.arange(count) * factor + n, axis) for n in range(factor)]
        image = sum(parts[1:], parts[0]) / image.dtype.type(factor)
    return image


# Noise


def correlated_noise(shape: Sequence[int], sd: float, smooth: float, axes: Sequence[int], seed: int) -> np.ndarray:
    """Gaussian noise of standard deviation `sd`, smoothed by `smooth` pixels along some axes, float32.

    The smoothing is done first and `sd` is what remains, as a detector's resolution and the reconstruction's filter
    leave it.
    """
    noise = np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)
    if smooth <= 0:
        return noise * np.float32(sd)
    gain = np.sum(gaussian_kernel(smooth) ** 2) ** (-len(axes) / 2)
    return gaussian_blur(noise, smooth, axes) * np.float32(sd * gain)


def noise_of_slices(shape: tuple[int, int, int], smooth: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of standard deviation 1 for slices (n, rows, columns), smoothed within each by `smooth` pixels, float32.

    For training, which draws it for every patch: by OpenCV, and with a rim, so that the border is as noisy as the
    middle.
    """
    import cv2  # not in a bare Slicer, which draws its example scan with the rest of this file

    radius = SLICE_NOISE_RADIUS
    profile = gaussian_weights(smooth, radius)
    profile = (profile / np.sqrt(np.sum(profile**2))).astype(np.float32)
    count, rows, columns = shape
    white = rng.standard_normal((count, rows + 2 * radius, columns + 2 * radius), dtype=np.float32)
    inner = slice(radius, -radius)
    return np.stack([cv2.sepFilter2D(plane, cv2.CV_32F, profile, profile)[inner, inner] for plane in white])


def correlate_slices(noise: np.ndarray, correlation: float) -> np.ndarray:
    """Give the noise of each slice this correlation with the slice before, in place; its strength stays."""
    kept = np.float32(correlation)
    for before, plane in zip(noise, noise[1:], strict=False):
        plane *= np.sqrt(1 - kept**2)
        plane += kept * before
    return noise


# All of it


@dataclass(frozen=True)
class Acquisition:
    """A scan of half the sampling, as the graded protocols make it of a fine image.

    The defaults are protocol P2. Without the noise a plain unsharp mask would look like super-resolution, so it is
    never left out by default.

    Attributes
    ----------
    planes : "axial" or "isotropic"
        Whether the scan is blurred and halved within its slices (protocol P2) or along all axes (P3).
    blur : float
        Standard deviation of the Gaussian, in fine pixels.
    noise : float
        Standard deviation of the noise as it appears in the scan, in units of the window.
    noise_smooth : float
        Standard deviation of the Gaussian that smoothed the noise, in coarse pixels.
    """

    planes: str = "axial"
    blur: float = 0.85
    noise: float = 0.02
    noise_smooth: float = 0.6

    @property
    def protocol(self) -> str:
        """ "P2" or "P3"."""
        return "P2" if self.planes == "axial" else "P3"

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes that are blurred and halved, counted from the last."""
        return AXES[self.planes]

    def even(self, image: np.ndarray) -> np.ndarray:
        """The image without what would be left over at the end of an axis that is halved."""
        halved = [axis % image.ndim for axis in self.axes]
        return image[tuple(slice(0, n - n % 2 if axis in halved else n) for axis, n in enumerate(image.shape))]

    def degrade(self, image: np.ndarray, seed: int = 0, clip: bool = True) -> np.ndarray:
        """The scan of an image: a Gaussian, the mean of two pixels along each axis, smoothed noise.

        Parameters
        ----------
        image : ndarray, shape (k, j, i), or (j, i) for a single slice
            Fine image in units of the window.
        seed : int
            Of the noise.
        clip : bool
            Clip the scan to [0, 1], as normalisation does.

        Returns
        -------
        ndarray of float32
        """
        coarse = block_mean(gaussian_blur(np.asarray(image, np.float32), self.blur, self.axes), self.axes)
        if self.noise > 0:
            coarse = coarse + correlated_noise(coarse.shape, self.noise, self.noise_smooth, self.axes, seed)
        return np.clip(coarse, 0, 1) if clip else coarse


P2, P3 = Acquisition("axial"), Acquisition("isotropic")
