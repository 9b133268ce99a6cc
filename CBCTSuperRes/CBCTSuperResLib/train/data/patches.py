"""One image to train on: its pixels as stored, its window, and the parts that are cut from it.

The same chance for LR and HR: flips, quarter turns, contrast, brightness and gamma.

What batches are made of: pairs of pictures, pictures whose LR is simulated, and mixtures of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...scan.window import Window
from .degradation import Degradation, imresize, mirrored, reach


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that stays in the type of its file until a part of it is asked for.

    Attributes
    ----------
    name : str
    pixels : ndarray, shape (C, H, W), or sequence of C ndarrays, shape (H, W)
        Any integer or real type; usually views of a volume or of the cache. C are colours, or a slice in the middle of
        its neighbours.
    window : Window or None
        Grey values that become 0 and 1; None if the pixels are in units of the window already, which are not clipped.
    """

    name: str
    pixels: Sequence[np.ndarray]
    window: Window | None

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels[0].shape

    def cropped_to(self, multiple: int) -> Picture:
        """Without the last rows and columns that are no whole multiple."""
        rows, columns = (n // multiple * multiple for n in self.size)
        return replace(self, pixels=[channel[:rows, :columns] for channel in self.pixels])

    def cut(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A part (C, height, width), float32 in units of the window; beyond the border the image is mirrored."""
        return self._unit([_part(_part(channel, top, height, 0), left, width, 1) for channel in self.pixels])

    def whole(self) -> np.ndarray:
        """All of it, (C, H, W), float32 in units of the window."""
        return self._unit(self.pixels)

    def _unit(self, channels: Sequence[np.ndarray]) -> np.ndarray:
        pixels = np.stack(channels)
        return pixels.astype(np.float32) if self.window is None else self.window.to_unit(pixels)


def _part(pixels: np.ndarray, start: int, count: int, axis: int) -> np.ndarray:
    length = pixels.shape[axis]
    if start >= 0 and start + count <= length:
        return pixels[start : start + count] if axis == 0 else pixels[:, start : start + count]
    return pixels.take(mirrored(np.arange(start, start + count), length), axis)


Range = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """What happens to one pair.

    Attributes
    ----------
    flips : tuple of bool
        Left to right, upside down, rows and columns exchanged; in this order.
    contrast, brightness, gamma : float
        x -> clip((x - 0.5) contrast + 0.5 + brightness, 0, 1) ** gamma; 1, 0 and 1 leave x as it is.
    """

    flips: tuple[bool, bool, bool] = (False, False, False)
    contrast: float = 1.0
    brightness: float = 0.0
    gamma: float = 1.0

    def turned(self, image: np.ndarray) -> np.ndarray:
        """A view (..., H, W), or (..., W, H), of the image."""
        mirrored, upside_down, transposed = self.flips
        image = image[..., ::-1] if mirrored else image
        image = image[..., ::-1, :] if upside_down else image
        return image.swapaxes(-1, -2) if transposed else image

    def recontrasted(self, image: np.ndarray) -> np.ndarray:
        """Units of the window in and out. An image that nothing happens to is not clipped either."""
        if (self.contrast, self.brightness, self.gamma) == (1.0, 0.0, 1.0):
            return image
        gain, offset = np.float32(self.contrast), np.float32(0.5 - 0.5 * self.contrast + self.brightness)
        image = np.clip(image * gain + offset, 0, 1)
        return image if self.gamma == 1 else image ** np.float32(self.gamma)


@dataclass(frozen=True)
class Augmentation:
    """How changes are drawn.

    Attributes
    ----------
    use_flip : bool
        Half of the pairs are mirrored left to right.
    use_rot : bool
        Half are turned upside down, and half have rows and columns exchanged. With `use_flip` all eight positions of a
        square are equally likely; alone it gives four of them.
    use_contrast : bool
        Each of contrast, brightness and gamma changes with probability `share`.
    contrast, brightness : (low, high)
        Uniform.
    gamma : (low, high)
        Uniform in its logarithm.
    share : float
    """

    use_flip: bool = False
    use_rot: bool = False
    use_contrast: bool = False
    contrast: Range = (0.8, 1.2)
    brightness: Range = (-0.1, 0.1)
    gamma: Range = (0.8, 1.25)
    share: float = 0.5

    def draw(self, rng: np.random.Generator) -> Change:
        """The change of one pair. It takes the same numbers from the generator whatever is switched on."""
        coins = rng.random(3) < 0.5
        happens = rng.random(3) < self.share
        places = rng.random(3)
        flips = (bool(coins[0]) and self.use_flip, bool(coins[1]) and self.use_rot, bool(coins[2]) and self.use_rot)
        if not self.use_contrast:
            return Change(flips)
        logarithms = tuple(np.log(self.gamma))
        contrast, brightness, log_gamma = (
            low + (high - low) * place
            for (low, high), place in zip((self.contrast, self.brightness, logarithms), places, strict=True)
        )
        return Change(
            flips,
            contrast=float(contrast) if happens[0] else 1.0,
            brightness=float(brightness) if happens[1] else 0.0,
            gamma=float(np.exp(log_gamma)) if happens[2] else 1.0,
        )


Sample = tuple[np.ndarray, np.ndarray]
Draw = np.random.Generator


class Source(Protocol):
    """Images by number, and one random sample of each per generator."""

    names: Sequence[str]

    def __len__(self) -> int: ...

    def batch(self, images: Sequence[int], draws: Sequence[Draw]) -> dict[str, Tensor]:
        """One training sample for each image and its generator.

        Returns
        -------
        dict
                "LR" (N, C, h, w) and "HR" (N, C', s h, s w), float32 in [0, 1]; C' is C for colours, 1 for slices.
        """


class Simulation(Protocol):
    """How LR is made from a part of HR."""

    margin: int

    def __call__(self, fine: np.ndarray, rng: Draw) -> Sample:
        """(LR, HR) of a part (C, s h + 2 margin, s w + 2 margin) in units of the window."""


@dataclass(frozen=True)
class Bicubic:
    """LR as the antialiased bicubic reduction of the whole image would give it, computed from a part with a margin."""

    scale: int
    clip: bool = True

    @property
    def margin(self) -> int:
        return reach(self.scale)

    def __call__(self, fine: np.ndarray, rng: Draw | None = None) -> Sample:
        fine = np.clip(fine, 0, 1)
        edge = self.margin // self.scale
        coarse = imresize(fine, 1 / self.scale)[..., edge:-edge, edge:-edge]
        inner = slice(self.margin, -self.margin)
        return np.clip(coarse, 0, 1) if self.clip else coarse, fine[..., inner, inner]


@dataclass(frozen=True)
class Patches:
    """Size and change of the parts that are cut.

    Attributes
    ----------
    size : int
        Edge of HR.
    scale : int
    augmentation : Augmentation
    """

    size: int
    scale: int
    augmentation: Augmentation

    def place(self, size: tuple[int, int], rng: Draw) -> tuple[int, int]:
        """Top and left of a part, in LR pixels of an image of HR `size`."""
        top, left = (int(rng.integers((n - self.size) // self.scale + 1)) for n in size)
        return top, left


class _Samples:
    """A source whose subclasses make one sample at a time, so that no sample depends on its neighbours."""

    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, image: int, rng: Draw) -> Sample:
        raise NotImplementedError

    def batch(self, images: Sequence[int], draws: Sequence[Draw]) -> dict[str, Tensor]:
        samples = [self.sample(image, rng) for image, rng in zip(images, draws, strict=True)]
        low, high = (torch.from_numpy(np.ascontiguousarray(np.stack(side))) for side in zip(*samples, strict=True))
        return {"LR": low, "HR": high}


class PairedPictures(_Samples):
    """Pairs of LR and HR pictures of the same place; neighbouring slices are in LR alone."""

    def __init__(self, pairs: Sequence[tuple[Picture, Picture]], patches: Patches) -> None:
        self._pairs = pairs
        self._patches = patches
        self.names = [high.name for _, high in pairs]

    def sample(self, image: int, rng: Draw) -> Sample:
        low, high = self._pairs[image]
        size, scale = self._patches.size, self._patches.scale
        top, left = self._patches.place(high.size, rng)
        change = self._patches.augmentation.draw(rng)
        coarse = low.cut(top, left, size // scale, size // scale)
        fine = high.cut(top * scale, left * scale, size, size)
        return tuple(change.recontrasted(change.turned(part)) for part in (coarse, fine))


class SimulatedPictures(_Samples):
    """HR pictures whose LR is simulated after the change of contrast.

    Of pictures with neighbouring slices, `slices` on either side, LR has all and HR the middle one.
    """

    def __init__(self, pictures: Sequence[Picture], patches: Patches, simulation: Simulation, slices: int = 0) -> None:
        self._pictures = pictures
        self._patches = patches
        self._simulation = simulation
        self._slices = slices
        self.names = [picture.name for picture in pictures]

    def sample(self, image: int, rng: Draw) -> Sample:
        picture, margin = self._pictures[image], self._simulation.margin
        size, scale = self._patches.size + 2 * margin, self._patches.scale
        top, left = self._patches.place(picture.size, rng)
        change = self._patches.augmentation.draw(rng)
        fine = picture.cut(top * scale - margin, left * scale - margin, size, size)
        return without_neighbours(self._simulation(change.recontrasted(change.turned(fine)), rng), self._slices)


class Mixture(_Samples):
    """Several sources as one, each with its share of the samples.

    In an epoch every image comes once, or more often where its source's share asks for it: the sources are repeated
    until their lengths are as their shares, and no image is repeated twice more than another of its source.
    """

    def __init__(self, parts: Sequence[_Samples], shares: Sequence[float]) -> None:
        self._parts = parts
        length = max(int(np.ceil(len(part) / share)) for part, share in zip(parts, shares, strict=True))
        counts = [max(len(part), round(share * length)) for part, share in zip(parts, shares, strict=True)]
        self._places = [(part, n % len(part)) for part, count in zip(parts, counts, strict=True) for n in range(count)]
        self.names = [part.names[n] for part, n in self._places]

    def sample(self, image: int, rng: Draw) -> Sample:
        part, number = self._places[image]
        return part.sample(number, rng)


def without_neighbours(sample: Sample, slices: int) -> Sample:
    """The sample with HR's middle slice alone, of `slices` neighbours on either side."""
    coarse, fine = sample
    return (coarse, fine[slices : slices + 1]) if slices else sample


def make_simulation(kind: str, scale: int, options: dict) -> Bicubic | Degradation:
    """The `degradation` of a data set."""
    return Degradation.from_json(options, scale) if kind == "physical" else Bicubic(scale)
