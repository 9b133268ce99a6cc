"""Over frequency: up to which one an image agrees with the truth, and what its noise looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """Values over frequencies.

    Attributes
    ----------
    frequency : ndarray
        In units of the highest frequency that the grid can hold (Nyquist), along the axis that is sampled worst.
    value : ndarray
    """

    frequency: np.ndarray
    value: np.ndarray

    def crossing(self, level: float) -> float:
        """The first frequency at which the curve falls below a level, between two points linearly; 1 if never."""
        below = np.flatnonzero(self.value < level)
        if not len(below):
            return 1.0
        n = int(below[0])
        if n == 0:
            return float(self.frequency[0])
        (f0, f1), (v0, v1) = self.frequency[n - 1 : n + 1], self.value[n - 1 : n + 1]
        return float(f0 + (f1 - f0) * (v0 - level) / (v0 - v1))


def fourier_shell_correlation(
    image: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None, shells: int | None = None
) -> Curve:
    """Correlation of two images' Fourier coefficients in shells of equal frequency (Harauz and van Heel, 1986).

    Both are brought to mean 0 and faded out towards their borders by a Hann window, because a border is an edge that
    both have.

    Parameters
    ----------
    image, truth : ndarray of the same shape
        A slice, or a volume (k, j, i).
    spacing : sequence of float, optional
        Distance of the voxels along each axis, in the order of the axes.
    shells : int, optional
        Shells up to the highest frequency; half the shortest extent if not given.
    """
    fade = 1.0
    for axis, length in enumerate(image.shape):
        fade = fade * np.expand_dims(np.hanning(length + 2)[1:-1], [a for a in range(image.ndim) if a != axis])
    a, b = (np.fft.rfftn((i - np.mean(i, dtype=np.float64)) * fade) for i in (image, truth))
    shells = shells or max(1, min(image.shape) // 2)
    steps = np.ones(image.ndim) if spacing is None else np.asarray(spacing, float)
    parts = [np.fft.fftfreq(n, step) for n, step in zip(image.shape[:-1], steps[:-1], strict=True)]
    parts.append(np.fft.rfftfreq(image.shape[-1], steps[-1]))
    squared = sum(np.expand_dims(p**2, [a for a in range(image.ndim) if a != axis]) for axis, p in enumerate(parts))
    radius = np.sqrt(squared) * 2 * steps.max()  # 1 where the worst sampled axis ends
    number = np.floor(radius * shells).astype(np.int32)
    inside = number < shells
    number = number[inside]

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(number, values[inside], shells)

    power = summed(np.abs(a) ** 2) * summed(np.abs(b) ** 2)
    together = summed((a * b.conj()).real)
    value = np.divide(together, np.sqrt(power), out=np.zeros(shells), where=power > 0)
    return Curve((np.arange(shells) + 0.5) / shells, value)


def noise_spectrum(flat: np.ndarray, bins: int = 32) -> Curve:
    """Noise power of slices that show nothing, over radial frequency; the sum over the bins' pixels is the variance.

    Parameters
    ----------
    flat : ndarray, shape (slices, rows, columns)
    """
    flat = flat - flat.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    power = np.mean(np.abs(np.fft.fft2(flat)) ** 2, axis=0) / flat[0].size ** 2
    radius = np.hypot(*np.meshgrid(*(2 * np.fft.fftfreq(n) for n in flat.shape[1:]), indexing="ij"))
    number = np.minimum((radius * bins).astype(int), 2 * bins - 1).ravel()
    count = np.bincount(number, minlength=2 * bins)[:bins]
    value = np.bincount(number, power.ravel(), 2 * bins)[:bins] / np.maximum(count, 1)
    return Curve((np.arange(bins) + 0.5) / bins, value)


def mean_frequency(spectrum: Curve) -> float:
    """Centre of gravity of a radial noise spectrum, in units of Nyquist: low for coarse noise, 0 for none."""
    weight = spectrum.value * spectrum.frequency  # as many pixels have a frequency as its circle is long
    total = float(weight.sum())
    return float((weight * spectrum.frequency).sum()) / total if total > 0 else 0.0
