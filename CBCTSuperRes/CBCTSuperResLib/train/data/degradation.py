"""How low-resolution images are simulated where no scan of them exists: a scanner drawn at random for every sample, or
MATLAB's antialiased bicubic `imresize`, with which most of the literature compares itself.

The scanner's order is the physical one: the fine scan's own grain, the blur of focal spot and detector, the mean over a
coarse pixel, noise smoothed by the reconstruction, clipping by the window. Ranges straddle the grading protocols of
`acquisition.scanner.Acquisition` so that a network learns neither one blur nor one noise. One sample is made at a time,
from its own generator, so that no other sample can change a bit of it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import cv2
import numpy as np

from ...acquisition.noise_level import DEPTH, PIECE, noise_of_pieces
from ...acquisition.scan_blocks import CUT_OFF
from ...acquisition.scanner import IN_PLANE, block_mean, correlate_slices, gaussian_plane, noise_of_slices
from ...core.errors import OptionError
from ...core.interpolate import keys_kernel

BLUR_RADIUS = 6  # of fine pixels at a factor of 2
MOST_TEXTURE = 0.04  # units of the window
SHARPEN_SIGMA = 1.0  # fine pixels

Sample = dict[str, np.ndarray]


def imresize(image: np.ndarray, scale: float) -> np.ndarray:
    """MATLAB's antialiased bicubic resizing of the last two axes, rows first, then columns.

    Keys' kernel (1981) with a = -0.5, widened by 1/scale when an image shrinks; edges are mirrored with the edge pixel
    repeated. No rounding, no clipping: a step from 0 to 1 comes out between -0.0117 and 1.0117.

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


@dataclass(frozen=True)
class Degradation:
    """Ranges of a randomised scanner. Fine pixels are those of a factor of 2; the blur grows with the factor.

    Attributes
    ----------
    scale : int
        Fine pixels along a coarse one.
    blur : (low, high) or (low, mode, high)
        Uniform or triangular distribution of the blur's standard deviation, in fine pixels.
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
    midband_share : float
        Share of images whose noise lacks its lowest frequencies, as that of filtered back-projection does: what a wider
        Gaussian keeps of it is taken away.
    uneven : float
        Largest relative change of the noise's standard deviation from place to place.
    quantised_share : float
        Share of images whose grey values are rounded to 1/255 of the window, as those of 8-bit files are.
    across : (low, high), across_share : float
        Correlation of the noise of neighbouring slices (and likewise of the grain), for a share of images; that of all
        others is independent.
    sharpen : float
        Strength of an unsharp mask on the truth, as Real-ESRGAN trains with: whoever is not sure of an edge draws it
        softer than it is, and a truth that is as much too sharp makes up for it.
    told_blur_error : (low, high)
        How far the blur that a network is told is off, in fine pixels: what Apply tells is an estimate, and rather too
        little than too much. Who was always told the truth believes an estimate to the last digit.
    told_noise_error : float
        The same for the noise: standard deviation of the natural logarithm of what is told over what is true.
    told_by_image : float
        Share of images whose noise is told as LR itself tells it, as Apply estimates that of a scan: with the fine
        scan's grain, and with texture where nothing is flat, by up to `MOST_TEXTURE`.
    """

    scale: int = 2
    blur: tuple[float, ...] = (0.55, 0.85, 1.15)
    anisotropy: float = 1.15
    shift: float = 0.1
    noise: tuple[float, float] = (0.004, 0.032)
    strong_noise: tuple[float, float] = (0.0, 0.06)
    strong_share: float = 0.2
    noise_smooth: tuple[float, float] = (0.3, 0.9)
    grain: tuple[float, float] = (0.002, 0.04)
    grain_share: float = 0.5
    grain_smooth: tuple[float, float] = (0.3, 0.9)
    midband_share: float = 0.0
    uneven: float = 0.0
    quantised_share: float = 0.0
    across: tuple[float, float] = (0.2, 0.8)
    across_share: float = 0.0
    sharpen: float = 0.0
    told_blur_error: tuple[float, float] = (0.0, 0.0)
    told_noise_error: float = 0.0
    told_by_image: float = 0.0

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

    def __call__(self, fine: np.ndarray, rng: np.random.Generator) -> Sample:
        """A coarse image, what a network should make of it, and what it may be told.

        Parameters
        ----------
        fine : ndarray of float32, shape (C, s h + 2 margin, s w + 2 margin)
            Units of the window; values outside [0, 1] are welcome.
        rng : numpy.random.Generator
            Source of all randomness.

        Returns
        -------
        dict of ndarray of float32
            "LR" (C, h, w) and "HR" (C, s h, s w), both clipped to [0, 1]; "blur" (2,), the standard deviation along
            rows and columns in coarse pixels; "noise" (1,), that of the noise in units of the window; both as a
            network is told them.
        """
        fine = self._grainy(fine, rng)
        inner = slice(self.margin, fine.shape[-2] - self.margin), slice(self.margin, fine.shape[-1] - self.margin)
        kernel, blur = self._blur(rng)
        blurred = np.stack([_filtered(channel, kernel)[inner] for channel in fine])
        coarse = block_mean(blurred, IN_PLANE, self.scale)
        noise, sd = self._noise(coarse.shape, rng)
        coarse = np.clip(coarse + noise, 0, 1)
        if self.quantised_share and rng.random() < self.quantised_share:
            coarse = np.round(coarse * np.float32(255)) / np.float32(255)
        blur, sd = self._told(np.array(blur), sd, coarse, rng)
        return {
            "LR": coarse,
            "HR": np.clip(self._sharpened(fine)[(slice(None), *inner)], 0, 1),
            "blur": blur.astype(np.float32),
            "noise": np.array([sd], np.float32),
        }

    def _told(
        self, blur: np.ndarray, noise: float, coarse: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """Blur in coarse pixels and noise as far off as estimates are; drawn last, so that no image depends on it."""
        if any(self.told_blur_error):
            blur = np.maximum(blur + rng.uniform(*self.told_blur_error) / 2, 0)
        if self.told_by_image and rng.random() < self.told_by_image:
            found = noise_of_pieces(_pieces(coarse))
            noise = min(found.sd, float(np.hypot(noise, MOST_TEXTURE))) if found else noise
        if self.told_noise_error:
            noise *= np.exp(rng.normal(0, self.told_noise_error))
        return blur, float(noise)

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

    def _blur(self, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, float]]:
        """A Gaussian of sum 1, turned at random and displaced, and its standard deviation along rows and columns."""
        sigma = self.blur[0]
        if sigma < self.blur[-1]:
            sigma = rng.uniform(*self.blur) if len(self.blur) == 2 else rng.triangular(*self.blur)
        ratio = self.anisotropy ** rng.uniform(-0.5, 0.5)
        angle = rng.uniform(0, np.pi)
        shift = rng.uniform(-self.shift, self.shift, 2)
        major, minor = sigma * ratio / 2, sigma / ratio / 2  # a coarse pixel has two of `blur`'s fine ones
        along_rows = np.hypot(major * np.sin(angle), minor * np.cos(angle))
        along_columns = np.hypot(major * np.cos(angle), minor * np.sin(angle))
        return gaussian_plane(sigma, ratio, angle, shift, self.margin, 2 / self.scale), (along_rows, along_columns)

    def _noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """The noise of a coarse image, and its (mean) standard deviation."""
        is_strong = rng.random() < self.strong_share
        sd = rng.uniform(*(self.strong_noise if is_strong else self.noise))
        noise = noise_of_slices(shape, rng.uniform(*self.noise_smooth), rng)
        if self.midband_share and rng.random() < self.midband_share:
            noise -= np.stack([cv2.GaussianBlur(plane, (0, 0), rng.uniform(1.5, 3)) for plane in noise])
            noise /= noise.std()
        noise = self._correlated(noise, rng)
        if self.uneven:
            down, across = rng.uniform(-self.uneven, self.uneven, 2)
            rows, columns = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in shape[-2:])
            noise *= 1 + np.float32(down) * rows[:, None] + np.float32(across) * columns
        return np.float32(sd) * noise, float(sd)

    def _correlated(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Independent noise (C, H, W), for a share of images with a correlation from each slice to the next."""
        if len(noise) == 1 or self.across_share == 0:
            return noise
        kept, is_correlated = np.float32(rng.uniform(*self.across)), rng.random() < self.across_share
        return correlate_slices(noise, kept) if is_correlated else noise


def _pieces(coarse: np.ndarray) -> np.ndarray:
    """Pieces (n, slices, PIECE, PIECE) of LR (C, h, w) to look for noise in; not where the window cuts it off."""
    found = []
    for shift in (0, PIECE // 2):
        part = coarse[:DEPTH, shift:, shift:]
        rows, columns = (n // PIECE for n in part.shape[1:])
        part = part[:, : rows * PIECE, : columns * PIECE].reshape(-1, rows, PIECE, columns, PIECE)
        found.append(part.transpose(1, 3, 0, 2, 4).reshape(-1, len(part), PIECE, PIECE))
    pieces = np.concatenate(found)
    return pieces[((pieces <= 0) | (pieces >= 1)).mean((1, 2, 3)) < CUT_OFF]


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Cross-correlation; only pixels that have all their neighbours are meaningful."""
    return cv2.filter2D(np.ascontiguousarray(image), cv2.CV_32F, kernel)


def _check(name: str, value: object, default: float | tuple) -> None:
    """Refuse what is no number, or no ascending range of as many numbers as the default, or two."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    wanted = (2, len(default)) if isinstance(default, tuple) else (1,)
    usable = all(isinstance(n, (int, float)) and np.isfinite(n) for n in numbers)
    if len(numbers) not in wanted or not usable or sorted(numbers) != numbers:
        form = f"{' or '.join(map(str, sorted(set(wanted))))} ascending numbers" if wanted[0] > 1 else "a number"
        raise OptionError(f"degradation_options.{name} is {value!r}.", f"Give {form}, for instance {default}.")
    if name == "told_blur_error":
        return  # the one that may be negative
    if name in ("blur", "noise_smooth", "grain_smooth", "anisotropy") and numbers[0] <= 0 or numbers[0] < 0:
        raise OptionError(f"degradation_options.{name} is {value!r}.", "It must be positive.")
