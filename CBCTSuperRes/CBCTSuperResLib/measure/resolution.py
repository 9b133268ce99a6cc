"""Over frequency: up to which one an image agrees with the truth."""

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


def fourier_shell_correlation(image: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None) -> Curve:
    """Correlation of two images' Fourier coefficients in shells of equal frequency (Harauz and van Heel, 1986).

    Both are brought to mean 0 and faded out towards their borders by a Hann window, because a border is an edge that
    both have.

    Parameters
    ----------
    image, truth : ndarray of the same shape
        A slice, or a volume (k, j, i).
    spacing : sequence of float, optional
        Distance of the voxels along each axis, in the order of the axes.
    """
    fade = 1.0
    for axis, length in enumerate(image.shape):
        fade = fade * np.expand_dims(np.hanning(length + 2)[1:-1], [a for a in range(image.ndim) if a != axis])
    a, b = (np.fft.rfftn((i - np.mean(i, dtype=np.float64)) * fade) for i in (image, truth))
    shells = max(1, min(image.shape) // 2)  # up to the highest frequency
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
