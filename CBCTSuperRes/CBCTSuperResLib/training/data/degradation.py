"""A scanner drawn at random for every image: what turns a fine training slice into the coarse one a network sees.

The order is the physical one: the object's contrast, the blur of focal spot and detector, the mean over a coarse pixel,
noise smoothed by the reconstruction, clipping by the window. Ranges straddle the grading protocols of
`evaluation.simulate` so that a network learns neither one blur nor one noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLUR_RADIUS = 6
NOISE_RADIUS = 3


@dataclass(frozen=True)
class Degradation:
    """Ranges of a randomised scanner.

    Attributes
    ----------
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
    contrast, brightness, gamma : float
        Largest relative gain, offset and exponent of a random change that fine and coarse slice share.
    contrast_share : float
        Share of images that get such a change.
    """

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
    contrast: float = 0.25
    brightness: float = 0.1
    gamma: float = 1.25
    contrast_share: float = 0.5

    @property
    def margin(self) -> int:
        """Fine pixels that are needed beyond each side of a patch."""
        return BLUR_RADIUS

    def __call__(self, fine: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Coarse slices and what a network should make of them.

        Parameters
        ----------
        fine : Tensor, shape (N, 1, 2 h + 2 margin, 2 w + 2 margin)
            Units of the window; values outside [0, 1] are welcome.
        generator : torch.Generator
            Source of all randomness.

        Returns
        -------
        coarse : Tensor, shape (N, 1, h, w)
        truth : Tensor, shape (N, 1, 2 h, 2 w)
            Both clipped to [0, 1].
        """
        fine = self._grainy(self._recontrasted(fine, generator), generator)
        coarse = F.avg_pool2d(_filtered(fine, self._blur_kernels(len(fine), generator)), 2)
        coarse = coarse + self._noise(coarse.shape, generator)
        inner = slice(self.margin, -self.margin)
        return coarse.clamp(0, 1), fine[..., inner, inner].clamp(0, 1)

    def _recontrasted(self, fine: Tensor, generator: torch.Generator) -> Tensor:
        count = len(fine)
        gain = 1 + self.contrast * _uniform(count, -1, 1, generator)
        offset = self.brightness * _uniform(count, -1, 1, generator)
        exponent = self.gamma ** _uniform(count, -1, 1, generator)
        bent = ((fine - 0.5) * gain + 0.5 + offset).sign() * ((fine - 0.5) * gain + 0.5 + offset).abs() ** exponent
        return torch.where(_uniform(count, 0, 1, generator) < self.contrast_share, bent, fine)

    def _grainy(self, fine: Tensor, generator: torch.Generator) -> Tensor:
        count = len(fine)
        sd = _uniform(count, *self.grain, generator) * (_uniform(count, 0, 1, generator) < self.grain_share)
        return fine + sd * _smooth_noise(fine.shape, _uniform(count, *self.grain_smooth, generator), generator)

    def _blur_kernels(self, count: int, generator: torch.Generator) -> Tensor:
        low, mode, high = self.blur
        share, knee = _uniform(count, 0, 1, generator), (mode - low) / (high - low)
        rising = low + (share * (high - low) * (mode - low)).sqrt()
        falling = high - ((1 - share) * (high - low) * (high - mode)).sqrt()
        sigma = torch.where(share < knee, rising, falling)
        ratio = self.anisotropy ** (_uniform(count, -1, 1, generator) / 2)
        angle = _uniform(count, 0, torch.pi, generator)
        dy, dx = (self.shift * _uniform(count, -1, 1, generator) for _ in range(2))
        return _gaussians(BLUR_RADIUS, sigma * ratio, sigma / ratio, angle, dy, dx)

    def _noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        count = shape[0]
        strong, usual = (_uniform(count, *limits, generator) for limits in (self.strong_noise, self.noise))
        sd = torch.where(_uniform(count, 0, 1, generator) < self.strong_share, strong, usual)
        return sd * _smooth_noise(shape, _uniform(count, *self.noise_smooth, generator), generator)


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(count, 1, 1, 1) values, equally likely from low to high."""
    return low + (high - low) * torch.rand((count, 1, 1, 1), generator=generator)


def _smooth_noise(shape: torch.Size, smooth: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian noise of standard deviation 1, each image smoothed by its own Gaussian."""
    kernels = _gaussians(NOISE_RADIUS, smooth, smooth, *[torch.zeros_like(smooth)] * 3)
    kernels = kernels / kernels.square().sum((-2, -1), keepdim=True).sqrt()
    extent = [n + 2 * NOISE_RADIUS for n in shape[-2:]]
    return _filtered(torch.randn((*shape[:2], *extent), generator=generator), kernels)


def _gaussians(radius: int, along: Tensor, across: Tensor, angle: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """One Gaussian of sum 1 an image, (N, 1, 2 radius + 1, 2 radius + 1), turned by `angle` and displaced."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    y, x = steps[:, None] - dy, steps - dx
    u, v = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
    weights = torch.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    return weights / weights.sum((-2, -1), keepdim=True)


def _filtered(images: Tensor, kernels: Tensor) -> Tensor:
    """Each image of the batch with its own kernel; the border that lacks neighbours is dropped."""
    return F.conv2d(images.transpose(0, 1), kernels, groups=len(images)).transpose(0, 1)
