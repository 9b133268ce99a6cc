"""How a scanner of half the resolution would have seen an image: blur, coarser pixels, noise. numpy only.

The default figures are those of the grading protocols: Gaussian blur of 0.85 fine pixels, the mean of two pixels along
each enlarged axis, and noise of 2 % of the window, smoothed by 0.6 coarse pixels. Without the noise a plain unsharp
mask would look like super-resolution, so it is never left out by default.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

IN_PLANE = (1, 2)
ALL_AXES = (0, 1, 2)


def gaussian_kernel(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """Sampled Gaussian of standard deviation `sigma` pixels, sum 1, float64."""
    radius = max(1, int(truncate * sigma + 0.5))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    return weights / weights.sum()


def gaussian_blur(image: np.ndarray, sigma: float, axes: Sequence[int], truncate: float = 4.0) -> np.ndarray:
    """Gaussian blur of `sigma` pixels along some axes; beyond the border the image is mirrored, edge pixel repeated."""
    kernel = gaussian_kernel(sigma, truncate)
    radius = len(kernel) // 2
    for axis in axes:
        before = [(radius, radius) if a == axis else (0, 0) for a in range(image.ndim)]
        padded = np.pad(image, before, mode="symmetric")
        length = image.shape[axis]
        blurred = np.zeros_like(image)
        for start, weight in enumerate(kernel):
            blurred += image.dtype.type(weight) * padded.take(np.arange(start, start + length), axis)
        image = blurred
    return image


def block_mean(image: np.ndarray, axes: Sequence[int], factor: int = 2) -> np.ndarray:
    """Mean of `factor` neighbours along some axes; a remainder at the end is left out."""
    for axis in axes:
        count = image.shape[axis] // factor
        parts = [image.take(np.arange(count) * factor + n, axis) for n in range(factor)]
        image = sum(parts[1:], parts[0]) / image.dtype.type(factor)
    return image


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


def degrade(
    image: np.ndarray,
    axes: Sequence[int] = IN_PLANE,
    *,
    blur: float = 0.85,
    noise: float = 0.02,
    noise_smooth: float = 0.6,
    seed: int = 0,
    clip: bool = True,
) -> np.ndarray:
    """A slice or volume at half the sampling, as the grading protocols make it.

    Parameters
    ----------
    image : ndarray
        Fine image in units of the window, slice axis first; for a single slice give `axes` (0, 1).
    axes : sequence of int
        Axes that are blurred and halved: `IN_PLANE` (protocol P2, axial) or `ALL_AXES` (protocol P3, isotropic).
    blur : float
        Standard deviation of the Gaussian, in fine pixels.
    noise : float
        Standard deviation of the noise as it appears in the result, in units of the window.
    noise_smooth : float
        Standard deviation of the Gaussian that smoothed the noise, in coarse pixels.
    seed : int
        Of the noise.
    clip : bool
        Clip the result to [0, 1], as normalisation does.

    Returns
    -------
    ndarray, float32
    """
    coarse = block_mean(gaussian_blur(np.asarray(image, np.float32), blur, axes), axes)
    if noise > 0:
        coarse = coarse + correlated_noise(coarse.shape, noise, noise_smooth, axes, seed)
    return np.clip(coarse, 0, 1) if clip else coarse
