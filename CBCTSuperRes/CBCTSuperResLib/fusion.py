"""Joining three in-plane results so that every spatial frequency comes from the passes that resolved it.

A pass across one axis sharpens the two others and knows nothing new along its own. A plain mean of three would dilute
each axis by a third. Here each pass is weighted, frequency by frequency, by how much of that frequency lies in its
planes; beyond the input's Nyquist frequency along its own axis it gets no weight. The weights are short filters, so that
a block needs only a few voxels around it and blocks join exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

REACH = 12
SELECTIVITY = 3.0
BLEND = 0.03


class PlaneFusion:
    """Three filters whose sum leaves everything as it is.

    Parameters
    ----------
    scale : int
        Enlargement; the input's Nyquist frequency is 0.5 / scale of the output's sampling rate.
    """

    def __init__(self, scale: int) -> None:
        self._kernels = [torch.from_numpy(kernel) for kernel in plane_kernels(scale)]

    @torch.inference_mode()
    def fuse(self, details: Sequence[np.ndarray]) -> np.ndarray:
        """Weighted sum of the passes' details across axis 0, 1, 2; float32 (k, j, i) in and out.

        Outside the block counts as zero: only voxels farther than `REACH` from a cut are what they would be without it.
        """
        shape = details[0].shape
        padded = [_fast_length(n + REACH) for n in shape]
        spectrum = None
        for detail, kernel in zip(details, self._kernels, strict=True):
            weight = torch.fft.rfftn(_wrapped(kernel, padded)).real
            product = torch.fft.rfftn(torch.from_numpy(np.ascontiguousarray(detail)), s=padded).mul_(weight)
            spectrum = product if spectrum is None else spectrum.add_(product)
        fused = torch.fft.irfftn(spectrum, s=padded)
        return fused[tuple(slice(0, n) for n in shape)].numpy()


def plane_kernels(scale: int) -> list[np.ndarray]:
    """Symmetric filters of (2 * REACH + 1)^3 float32 taps for the passes across axis 0, 1, 2; their sum is a delta."""
    size = 4 * REACH
    frequencies = np.fft.fftfreq(size)
    cut_off = 0.5 / scale
    axes = np.meshgrid(*[frequencies] * 3, indexing="ij", sparse=True)
    squared = [f**2 for f in axes]
    total = sum(squared)
    scores = []
    for own, f in enumerate(axes):
        in_plane = (total - squared[own]) / (total + 1e-9) + 1e-3
        resolved = 1 / (1 + np.exp((np.abs(f) - cut_off) / BLEND * 4))
        scores.append((in_plane * resolved + 1e-6) ** SELECTIVITY)
    scale_sum = sum(scores)
    window = np.hanning(2 * REACH + 3)[1:-1]
    taper = window[:, None, None] * window[:, None] * window
    kernels = []
    for score in scores:
        kernel = np.fft.fftshift(np.fft.ifftn(score / scale_sum).real)
        middle = slice(size // 2 - REACH, size // 2 + REACH + 1)
        kernels.append((kernel[middle, middle, middle] * taper).astype(np.float32))
    return kernels


def _wrapped(kernel: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """The kernel in an array of `shape`, its centre at index 0, so that its spectrum is real."""
    array = torch.zeros(tuple(shape))
    array[tuple(slice(0, n) for n in kernel.shape)] = kernel
    return array.roll([-REACH] * 3, (0, 1, 2))


def _fast_length(n: int) -> int:
    """The next length that is a product of 2, 3 and 5, long enough for the kernel too."""
    length = max(n, 2 * REACH + 1)
    while _without_small_factors(length) > 1:
        length += 1
    return length


def _without_small_factors(n: int) -> int:
    for factor in (2, 3, 5):
        while n % factor == 0:
            n //= factor
    return n
