"""Joining three in-plane results so that every spatial frequency comes from the passes that resolved it.

A pass across one axis sharpens the two others and knows nothing new along its own. A plain mean of three would dilute
each axis by a third. Here each pass is weighted, frequency by frequency, by how much of that frequency lies in its
planes; beyond the input's Nyquist frequency along its own axis it gets no weight.

What a Gaussian blur took away at a frequency f is, in the logarithm, proportional to |f|^2, and a pass gives back the
share of it that lies in its planes. The weights are chosen so that these shares add up to the whole: along an axis and
within a plane they sum to one, and between all three axes, where each pass sees two thirds, to one and a half. They are
short filters, so that a block needs only a few voxels around it and blocks join exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tile_sizes import FUSION_REACH as REACH

SELECTIVITY = 3.0
BLEND = 0.03
FLOOR = 1e-3


class PlaneFusion:
    """Three filters, one for each pass.

    Parameters
    ----------
    scale : int
        Enlargement; the input's Nyquist frequency is 0.5 / scale of the output's sampling rate.
    """

    def __init__(self, scale: int) -> None:
        self._kernels = plane_kernels(scale)

    def fuse(self, details: Sequence[np.ndarray]) -> np.ndarray:
        """Weighted sum of the passes' details across axis 0, 1, 2; float32 (k, j, i) in and out.

        Outside the block counts as zero: only voxels farther than `REACH` from a cut are what they would be without it.
        """
        shape, axes = details[0].shape, (0, 1, 2)
        padded = [_fast_length(n + REACH) for n in shape]
        spectrum = None
        for detail, kernel in zip(details, self._kernels, strict=True):
            wrapped = np.zeros(padded, np.float32)  # the kernel's centre at index 0, so that its spectrum is real
            wrapped[tuple(slice(0, n) for n in kernel.shape)] = kernel
            weight = np.fft.rfftn(np.roll(wrapped, [-REACH] * 3, axes)).real
            product = np.fft.rfftn(detail, padded, axes)
            product *= weight
            spectrum = product if spectrum is None else np.add(spectrum, product, out=spectrum)
        fused = np.fft.irfftn(spectrum, padded, axes).astype(np.float32, copy=False)
        return fused[tuple(slice(0, n) for n in shape)]


def plane_kernels(scale: int) -> list[np.ndarray]:
    """Symmetric filters of (2 * REACH + 1)^3 float32 taps for the passes across axis 0, 1, 2.

    Their sum leaves a constant as it is.
    """
    frequencies = np.meshgrid(*[np.fft.fftfreq(4 * REACH)] * 3, indexing="ij", sparse=True)
    total = sum(f**2 for f in frequencies)
    shares = [np.divide(total - f**2, total, where=total > 0, out=np.full(total.shape, 2 / 3)) for f in frequencies]
    resolved = [1 / (1 + np.exp((np.abs(f) - 0.5 / scale) * 4 / BLEND)) for f in frequencies]
    scores = [(share * r + FLOOR) ** SELECTIVITY for share, r in zip(shares, resolved, strict=True)]
    whole = sum(score * share for score, share in zip(scores, shares, strict=True))
    window = np.hanning(2 * REACH + 3)[1:-1]
    taper = window[:, None, None] * window[:, None] * window
    middle = (slice(REACH, 3 * REACH + 1),) * 3
    kernels = [np.fft.fftshift(np.fft.ifftn(score / whole).real)[middle] * taper for score in scores]
    surplus = sum(kernel.sum() for kernel in kernels) - 1
    return [(kernel - surplus / 3 * taper / taper.sum()).astype(np.float32) for kernel in kernels]


def _fast_length(n: int) -> int:
    """The next length that is a product of 2, 3 and 5, long enough for the kernel too."""
    length = max(n, 2 * REACH + 1)
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 1
