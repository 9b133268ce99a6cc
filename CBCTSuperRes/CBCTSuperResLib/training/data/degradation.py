"""A scanner drawn at random for every sample: what turns a fine slice into the coarse one a network sees.

The order is the physical one: the fine scan's own grain, the blur of focal spot and detector, the mean over a coarse
pixel, noise smoothed by the reconstruction, clipping by the window. Ranges straddle the grading protocols of
`evaluation.simulate` so that a network learns neither one blur nor one noise.

One sample is made at a time, from its own generator, so that no other sample can change a bit of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from ...errors import OptionError
from ...evaluation.simulate import IN_PLANE, block_mean

BLUR_RADIUS = 6
NOISE_RADIUS = 3
SHARPEN_SIGMA = 1.0  # fine pixels


@dataclass(frozen=True)
class Degradation:
    """Ranges of a randomised scanner. Fine pixels are those of a factor of 2; the blur grows with the factor.

    Attributes
    ----------
    scale : int
        Fine pixels along a coarse one.
    blur : (low, mode, high)
        Triangular distribution of the blur's standard deviation, in fine pixels.
    anisotropy : float
        The two principal blurs differ by up to this ratio either way, in a random direction.
    shift : float
        Largest displacement of the coarse slice against the fine one, in fine pixels.
    noise : (low, high)
        Standard deviation of the noise, in units of the window, for most images.
    strong_noise : (low, high), strong_share : float
        The same for the given share of images.
    noise_smooth : (low, high)
        Gaussian that smooths the noise, in coarse pixels; the standard deviation is that after smoothing.
    grain : (low, high), grain_share : float
        Standard deviation of the fine scan's own noise, which its coarse scan shows blurred, for a share of images. A
        network that never met it would wipe away the texture of a noisy but true image.
    grain_smooth : (low, high)
        Gaussian that smooths the grain, in fine pixels; the standard deviation is that after smoothing.
    across : (low, high), across_share : float
        Correlation of the noise of neighbouring slices (and likewise of the grain), for a share of images; that of all
        others is independent.
    sharpen : float
        Strength of an unsharp mask on the truth, as Real-ESRGAN trains with: whoever is not sure of an edge draws it
        softer than it is, and a truth that is as much too sharp makes up for it.
    """

    scale: int = 2
    blur: tuple[float, float, float] = (0.55, 0.85, 1.15)
    anisotropy: float = 1.15
    shift: float = 0.1
    noise: tuple[float, float] = (0.004, 0.032)
    strong_noise: tuple[float, float] = (0.0, 0.06)
    strong_share: float = 0.2
    noise_smooth: tuple[float, float] = (0.3, 0.9)
    grain: tuple[float, float] = (0.002, 0.04)
    grain_share: float = 0.5
    grain_smooth: tuple[float, float] = (0.3, 0.9)
    across: tuple[float, float] = (0.2, 0.8)
    across_share: float = 0.0
    sharpen: float = 0.0

    @staticmethod
    def from_json(values: dict, scale: int) -> Degradation:
        """The defaults with some of them changed, as `degradation_options` names them.

        Raises
        ------
        OptionError
            For an unknown name, or a range that is none.
        """
        ranges = {f.name: f.default for f in fields(Degradation) if f.name != "scale"}
        for name, value in values.items():
            if name not in ranges:
                raise OptionError(f"degradation_options has no {name!r}.", f"It has {', '.join(ranges)}.")
            _check(name, value, ranges[name])
        return Degradation(scale, **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    @property
    def margin(self) -> int:
        """Fine pixels that are needed beyond each side of a patch."""
        return -(-BLUR_RADIUS * self.scale // 2)

    def __call__(self, fine: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A coarse image and what a network should make of it.

        Parameters
        ----------
        fine : ndarray of float32, shape (C, s h + 2 margin, s w + 2 margin)
            Units of the window; values outside [0, 1] are welcome.
        rng : numpy.random.Generator
            Source of all randomness.

        Returns
        -------
        coarse : ndarray of float32, shape (C, h, w)
        truth : ndarray of float32, shape (C, s h, s w)
            Both clipped to [0, 1].
        """
        fine = self._grainy(fine, rng)
        inner = slice(self.margin, fine.shape[-2] - self.margin), slice(self.margin, fine.shape[-1] - self.margin)
        kernel = self._blur_kernel(rng)
        blurred = np.stack([_filtered(channel, kernel)[inner] for channel in fine])
        coarse = block_mean(blurred, IN_PLANE, self.scale)
        coarse = coarse + self._noise(coarse.shape, rng)
        return np.clip(coarse, 0, 1), np.clip(self._sharpened(fine)[(slice(None), *inner)], 0, 1)

    def _sharpened(self, fine: np.ndarray) -> np.ndarray:
        if self.sharpen == 0:
            return fine
        size = 2 * self.margin + 1
        soft = np.stack([cv2.GaussianBlur(channel, (size, size), SHARPEN_SIGMA) for channel in fine])
        return fine + np.float32(self.sharpen) * (fine - soft)

    def _grainy(self, fine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        sd, smooth, has_grain = rng.uniform(*self.grain), rng.uniform(*self.grain_smooth), rng.random()
        if has_grain >= self.grain_share:
            return fine
        return fine + np.float32(sd) * self._correlated(_smooth_noise(fine.shape, smooth, rng), rng)

    def _blur_kernel(self, rng: np.random.Generator) -> np.ndarray:
        """A Gaussian of sum 1, turned at random and displaced."""
        sigma = rng.triangular(*self.blur) if self.blur[0] < self.blur[2] else self.blur[1]
        ratio = self.anisotropy ** rng.uniform(-0.5, 0.5)
        angle = rng.uniform(0, np.pi)
        dy, dx = rng.uniform(-self.shift, self.shift, 2)
        steps = np.arange(-self.margin, self.margin + 1) * (2 / self.scale)
        y, x = steps[:, None] - dy, steps - dx
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        weights = np.exp(-0.5 * ((u / (sigma * ratio)) ** 2 + (v * ratio / sigma) ** 2))
        return (weights / weights.sum()).astype(np.float32)

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        is_strong = rng.random() < self.strong_share
        sd = rng.uniform(*(self.strong_noise if is_strong else self.noise))
        return np.float32(sd) * self._correlated(_smooth_noise(shape, rng.uniform(*self.noise_smooth), rng), rng)

    def _correlated(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Independent noise (C, H, W), for a share of images with a correlation from each slice to the next."""
        if len(noise) == 1 or self.across_share == 0:
            return noise
        kept, is_correlated = np.float32(rng.uniform(*self.across)), rng.random() < self.across_share
        if is_correlated:
            for before, slice_ in zip(noise, noise[1:], strict=False):
                slice_ *= np.sqrt(1 - kept**2)
                slice_ += kept * before
        return noise


def _smooth_noise(shape: tuple[int, ...], smooth: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (C, H, W) of standard deviation 1 after smoothing by `smooth` pixels."""
    steps = np.arange(-NOISE_RADIUS, NOISE_RADIUS + 1)
    profile = np.exp(-0.5 * (steps / smooth) ** 2)
    profile = (profile / np.sqrt(np.sum(profile**2))).astype(np.float32)
    channels, rows, columns = shape
    extent = (channels, rows + 2 * NOISE_RADIUS, columns + 2 * NOISE_RADIUS)
    white = rng.standard_normal(extent, dtype=np.float32)
    inner = slice(NOISE_RADIUS, -NOISE_RADIUS)
    return np.stack([cv2.sepFilter2D(channel, cv2.CV_32F, profile, profile)[inner, inner] for channel in white])


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Cross-correlation; only pixels that have all their neighbours are meaningful."""
    return cv2.filter2D(np.ascontiguousarray(image), cv2.CV_32F, kernel)


def _check(name: str, value: object, default: float | tuple) -> None:
    """Refuse what is no number, or no ascending range of as many numbers as the default."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    wanted = len(default) if isinstance(default, tuple) else 1
    usable = all(isinstance(n, (int, float)) and np.isfinite(n) for n in numbers)
    if len(numbers) != wanted or not usable or sorted(numbers) != numbers:
        form = f"{wanted} ascending numbers" if wanted > 1 else "a number"
        raise OptionError(f"degradation_options.{name} is {value!r}.", f"Give {form}, for instance {default}.")
    if name in ("blur", "noise_smooth", "grain_smooth", "anisotropy") and numbers[0] <= 0 or numbers[0] < 0:
        raise OptionError(f"degradation_options.{name} is {value!r}.", "It must be positive.")
