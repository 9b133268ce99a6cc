"""How the coarse scan of a block is simulated: factors, blur and noise of each sample, and what the network is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from ...acquisition.scanner import ALL_AXES, gaussian_blur

Range = tuple[float, float]
REACH = 4.0  # standard deviations of a blur beyond which nothing is seen
NOISE_SMOOTH = 0.6  # coarse voxels, as in the graded protocols
SAME_LENGTH_SHARE = 0.5  # of the scans of unequal factors: blur is drawn in voxels of the least enlarged axis
MOST_TEXTURE = 1.5  # times the texture that is seen, which an estimate of noise takes for it
CALMEST, CALMEST_DEVIATE = 0.3, 0.385  # a share, and the magnitude below which that share of normal deviates lies
KEPT_SHARE = 0.75  # of the scans with axes that are not made finer: no blur along them that is to be undone
THICK, ALIKE, WITHIN, EACH, SAME = range(5)  # ways of being coarse, in the order of `BlockScan.mix`


@dataclass(frozen=True)
class BlockScan:
    """How the coarse scan of a fine volume is made, drawn for each sample.

    Attributes
    ----------
    factors : ((low, high), (low, high), (low, high))
        Fine voxels along a coarse one, along k, j and i; uniform in the logarithm.
    blur : (low, high) or (low, mode, high)
        Uniform or triangular distribution of the blur's standard deviation along each axis, in coarse voxels.
    noise : (low, high)
        Standard deviation of the noise, in units of the window.
    per_axis : bool
        Whether each axis has a factor of its own; otherwise one place within all three ranges is drawn.
    mix : (thick, alike, within, each) or (thick, alike, within, each, same) or None
        Shares of scans that are coarse across slices alone, along all axes alike, within slices alone, along each axis
        by a factor of its own, and not at all, in place of `per_axis`.
    noise_smooth : (low, high)
        Gaussian that smooths the noise, in coarse voxels; drawn once within slices and once across them.
    told_error : float
        Standard deviation of the logarithm of what blur and noise are multiplied by before the network is told them.
    """

    factors: tuple[Range, Range, Range]
    blur: tuple[float, ...] = (0.25, 0.6)
    noise: Range = (0.0, 0.03)
    per_axis: bool = True
    mix: tuple[float, ...] | None = None
    noise_smooth: Range = (NOISE_SMOOTH, NOISE_SMOOTH)
    told_error: float = 0.0

    def draw_factors(self, rng: np.random.Generator) -> list[float]:
        """Those of one sample."""
        kind = EACH if self.per_axis else ALIKE
        if self.mix:
            kind = int(rng.choice(len(self.mix), p=np.array(self.mix) / sum(self.mix)))
        places, ranges = rng.random(3) if kind == EACH else [rng.random()] * 3, self.factors
        if self.mix and kind == ALIKE:
            ranges = [(max(low for low, _ in ranges), min(high for _, high in ranges))] * 3
        unchanged = {THICK: (1, 2), WITHIN: (0,), SAME: (0, 1, 2)}.get(kind, ())
        return [
            1.0 if axis in unchanged else float(low * (high / low) ** place)
            for axis, (place, (low, high)) in enumerate(zip(places, ranges, strict=True))
        ]

    def draw_blur(self, rng: np.random.Generator, factors: Sequence[float] = (2.0,) * 3) -> np.ndarray:
        """That of one sample along each axis.

        Mostly it is the least along axes that are not made finer, as Apply then tells; in half of the samples it is
        otherwise drawn for the finest voxels, as a scanner's blur is as long across thick slices as within them.
        """
        if self.blur[0] == self.blur[-1]:
            return np.full(3, self.blur[0])
        blur = rng.uniform(*self.blur, 3) if len(self.blur) == 2 else rng.triangular(*self.blur, 3)
        if min(factors) < max(factors) and rng.random() < SAME_LENGTH_SHARE:
            blur = np.maximum(blur * min(factors) / np.array(factors), self.blur[0])
        kept = np.array(factors) == 1
        if kept.any() and rng.random() < KEPT_SHARE:
            blur[kept] = self.blur[0]
        return blur

    def draw_noise(self, shape: Sequence[int], rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """That of one sample, and its standard deviation."""
        level, across, within = rng.uniform(*self.noise), *rng.uniform(*self.noise_smooth, 2)
        noise = gaussian_blur(rng.standard_normal(shape, np.float32), (across, within, within), ALL_AXES)
        return np.float32(level / noise.std()) * noise, level

    def told(
        self, blur: np.ndarray, noise: float, coarse: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Blur along each axis and noise as the network is told them, with an error if there is to be one.

        Whoever estimates noise takes fine texture of the object for noise, too, here that of `coarse`, a scan without.
        """
        if not self.told_error:
            return blur.astype(np.float32), np.float32([noise])
        errors = np.exp(self.told_error * rng.standard_normal(4))
        noise = np.hypot(noise, rng.uniform(0, MOST_TEXTURE) * _fine_texture(coarse))
        return (blur * errors[:3]).astype(np.float32), np.float32([noise * errors[3]])

    def coarse(
        self, fine: np.ndarray, outputs: Sequence[int], factors: Sequence[float], blur: Sequence[float]
    ) -> np.ndarray:
        """The mean over each coarse voxel of what a Gaussian has blurred, without noise.

        Parameters
        ----------
        fine : ndarray of float32, shape (k, j, i)
            With the margins of `margins` on every side.
        outputs : three int
            Coarse voxels along each axis.
        factors, blur : three float
            Fine voxels along a coarse one; standard deviation of the Gaussian in coarse voxels.
        """
        for axis, (count, factor, sigma, margin) in enumerate(
            zip(outputs, factors, blur, self.margins(factors), strict=True)
        ):
            weights = scan_weights(count, factor, sigma, fine.shape[axis], margin)
            fine = np.moveaxis(np.tensordot(weights, fine, (1, axis)), 0, axis)
        return fine

    def reach(self, counts: Sequence[int]) -> list[int]:
        """Fine voxels along each axis of a block of so many coarse ones at the largest factors."""
        return [ceil(count * high) for count, (_, high) in zip(counts, self.factors, strict=True)]

    def margins(self, factors: Sequence[float]) -> list[int]:
        """Fine voxels beyond a block, along each axis, that its coarse scan shows."""
        return [ceil(REACH * self.blur[-1] * factor + factor) for factor in factors]


def _fine_texture(voxels: np.ndarray) -> float:
    """What in a volume without noise looks like noise: a standard deviation, from its calmest second differences."""
    found = [np.quantile(np.abs(np.diff(voxels, n=2, axis=axis)), CALMEST) for axis in (1, 2)]
    return float(np.mean(found)) / (CALMEST_DEVIATE * 6**0.5)


def scan_weights(outputs: int, factor: float, blur: float, inputs: int, margin: int) -> np.ndarray:
    """Weights of fine voxels in coarse ones along an axis: the mean over a coarse voxel of what a Gaussian has blurred.

    Parameters
    ----------
    outputs : int
        Coarse voxels; the first begins where fine voxel number `margin` does.
    factor : float
        Fine voxels along a coarse one.
    blur : float
        Standard deviation of the Gaussian, in coarse voxels.
    inputs : int
        Fine voxels.
    margin : int

    Returns
    -------
    ndarray of float32, shape (outputs, inputs)
        Of sum 1 for each coarse voxel.
    """
    centres = factor * (np.arange(outputs) + 0.5) - 0.5
    away = torch.from_numpy(np.arange(inputs) - margin - centres[:, None])
    sigma = max(blur * factor, 1e-6) * 2**0.5
    weights = (torch.erf((away + factor / 2) / sigma) - torch.erf((away - factor / 2) / sigma)).numpy()
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
