"""MATLAB's antialiased bicubic `imresize`: how low-resolution images are simulated when no scan of them exists.

Keys' kernel (1981) with a = -0.5, widened by 1/scale when an image shrinks; edges are mirrored with the edge pixel
repeated. No rounding, no clipping: a step from 0 to 1 comes out between -0.0117 and 1.0117.

A scanner drawn at random for every sample: what turns a fine slice into the coarse one a network sees.

The order is the physical one: the fine scan's own grain, the blur of focal spot and detector, the mean over a coarse
pixel, noise smoothed by the reconstruction, clipping by the window. Ranges straddle the grading protocols of
`acquisition.scanner.Acquisition` so that a network learns neither one blur nor one noise.

One sample is made at a time, from its own generator, so that no other sample can change a bit of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from ...acquisition.scanner import IN_PLANE, block_mean, correlate_slices, gaussian_plane, noise_of_slices
from ...core.errors import OptionError
from ...core.interpolate import keys_kernel


def imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize the last two axes, rows first, then columns.

    The product with the resizing matrix of an axis is done diagonal by diagonal: its rows have few entries, and every
    pixel is the same sum in the same order however large the image is, so that a part of an image, resized with the
    margin of `reach`, gives the pixels of the whole to the last bit.

    Parameters
    ----------
    image : ndarray, shape (..., H, W)
        Real numbers; any number of channels before.
    scale : float
        For instance 1/2, 1/4, 2.

    Returns
    -------
    ndarray, shape (..., ceil(H * scale), ceil(W * scale)), of the image's type
    """
    return _rows_resized(_rows_resized(image, scale).swapaxes(-1, -2), scale).swapaxes(-1, -2)


def reach(factor: int) -> int:
    """Fine pixels beyond its own that a pixel of an image shrunk by `factor` depends on, a multiple of `factor`."""
    return 2 * factor


def _rows_resized(image: np.ndarray, scale: float) -> np.ndarray:
    rows, weights = _taps(image.shape[-2], scale)
    weights = weights.astype(image.dtype)[..., None]
    resized = weights[0] * image.take(rows[0], axis=-2)
    for places, weight in zip(rows[1:], weights[1:], strict=True):
        resized += weight * image.take(places, axis=-2)
    return resized


def _taps(length: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """For every tap t and output n: which input, and with which weight; both (taps, outputs)."""
    step = 1 / scale
    step = round(step) if abs(step - round(step)) < 1e-9 else step
    narrow = min(scale, 1.0)
    width = 4 / narrow
    count = int(np.ceil(length * scale - 1e-9))
    centre = np.arange(1, count + 1) * step + 0.5 * (1 - step)
    left = np.floor(centre - width / 2).astype(np.int64)
    places = left + np.arange(int(np.ceil(width)) + 2)[:, None]
    weights = keys_kernel(np.abs(centre - places) * narrow, -0.5)
    weights /= weights.sum(0)
    used = np.any(weights != 0, axis=1)
    return mirrored(places[used] - 1, length), weights[used]


def mirrored(places: np.ndarray, length: int) -> np.ndarray:
    """Indices inside 0 .. length - 1 of places that may lie outside: mirrored, the edge pixel repeated."""
    places = places % (2 * length)
    return np.where(places < length, places, 2 * length - 1 - places)


BLUR_RADIUS = 6
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
        return fine + np.float32(sd) * self._correlated(noise_of_slices(fine.shape, smooth, rng), rng)

    def _blur_kernel(self, rng: np.random.Generator) -> np.ndarray:
        """A Gaussian of sum 1, turned at random and displaced."""
        sigma = rng.triangular(*self.blur) if self.blur[0] < self.blur[2] else self.blur[1]
        ratio = self.anisotropy ** rng.uniform(-0.5, 0.5)
        angle = rng.uniform(0, np.pi)
        shift = rng.uniform(-self.shift, self.shift, 2)
        return gaussian_plane(sigma, ratio, angle, shift, self.margin, 2 / self.scale)

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        is_strong = rng.random() < self.strong_share
        sd = rng.uniform(*(self.strong_noise if is_strong else self.noise))
        return np.float32(sd) * self._correlated(noise_of_slices(shape, rng.uniform(*self.noise_smooth), rng), rng)

    def _correlated(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Independent noise (C, H, W), for a share of images with a correlation from each slice to the next."""
        if len(noise) == 1 or self.across_share == 0:
            return noise
        kept, is_correlated = np.float32(rng.uniform(*self.across)), rng.random() < self.across_share
        return correlate_slices(noise, kept) if is_correlated else noise


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
