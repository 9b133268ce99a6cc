"""What noise looks like over frequency."""

from __future__ import annotations

import numpy as np
from CBCTSuperResLib.measure.resolution import Curve


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
