"""What batches are made of: patches of pairs of pictures, of pictures whose LR is simulated, of unpaired pictures.

Patches of a pair have the same chance of flips, quarter turns, contrast, brightness and gamma.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ...core.errors import InputError
from .batches import Batch
from .degradation import Degradation, Sample, imresize, reach
from .estimated import EstimatedConditions
from .pictures import Picture

Range = tuple[float, float]
BICUBIC_BLUR = 0.245  # coarse pixels: the Gaussian that, averaged over a pixel, comes nearest to Keys' widened kernel


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


class Simulation(Protocol):
    """How LR is made from a part of HR."""

    margin: int

    def __call__(self, fine: np.ndarray, rng: np.random.Generator) -> Sample:
        """ "LR", "HR", "blur" and "noise" (see `Degradation`) of a part (C, s h + 2 margin, s w + 2 margin) in units of
        the window."""


@dataclass(frozen=True)
class Bicubic:
    """LR as the antialiased bicubic reduction of the whole image would give it, computed from a part with a margin."""

    scale: int
    clip: bool = True

    @property
    def margin(self) -> int:
        return reach(self.scale)

    def __call__(self, fine: np.ndarray, rng: np.random.Generator | None = None) -> Sample:
        fine = np.clip(fine, 0, 1)
        edge = self.margin // self.scale
        coarse = imresize(fine, 1 / self.scale)[..., edge:-edge, edge:-edge]
        inner = slice(self.margin, -self.margin)
        return {
            "LR": np.clip(coarse, 0, 1) if self.clip else coarse,
            "HR": fine[..., inner, inner],
            "blur": np.full(2, BICUBIC_BLUR, np.float32),
            "noise": np.zeros(1, np.float32),
        }


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

    def place(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        """Top and left of a part, in LR pixels of an image of HR `size`."""
        top, left = (int(rng.integers((n - self.size) // self.scale + 1)) for n in size)
        return top, left


class Samples(ABC):
    """A source whose subclasses make one sample at a time, so that no sample depends on its neighbours.

    Attributes
    ----------
    names : sequence of str
        Of the images.
    """

    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def sample(self, image: int, rng: np.random.Generator) -> Sample:
        """What is made of one image."""

    def batch(self, images: Sequence[int], draws: Sequence[np.random.Generator]) -> Batch:
        samples = [self.sample(image, rng) for image, rng in zip(images, draws, strict=True)]
        stacked = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in stacked.items()}


class PairedPictures(Samples):
    """Pairs of LR and HR pictures of the same place; neighbouring slices are in LR alone.

    With `is_told`, "blur" and "noise" of each LR picture come along as they are estimated from it.
    """

    def __init__(self, pairs: Sequence[tuple[Picture, Picture]], patches: Patches, is_told: bool = False) -> None:
        self._pairs, self._patches = pairs, patches
        self._scanners = EstimatedConditions([low for low, _ in pairs]) if is_told else None
        self.names = [high.name for _, high in pairs]

    def sample(self, image: int, rng: np.random.Generator) -> Sample:
        low, high = self._pairs[image]
        size, scale = self._patches.size, self._patches.scale
        top, left = self._patches.place(high.size, rng)
        change = self._patches.augmentation.draw(rng)
        coarse = low.cut(top, left, size // scale, size // scale)
        fine = high.cut(top * scale, left * scale, size, size)
        told = self._scanners.of(image) if self._scanners else {}
        if told:
            told["noise"] = told["noise"] * np.float32(change.contrast)
        changed = {"LR": change.recontrasted(change.turned(coarse)), "HR": change.recontrasted(change.turned(fine))}
        return {**changed, **told}


class SimulatedPictures(Samples):
    """HR pictures whose LR is simulated after the change of contrast.

    Of pictures with neighbouring slices, `slices` on either side, LR has all and HR the middle one.
    """

    def __init__(self, pictures: Sequence[Picture], patches: Patches, simulation: Simulation, slices: int = 0) -> None:
        self._pictures, self._patches, self._simulation, self._slices = pictures, patches, simulation, slices
        self.names = [picture.name for picture in pictures]

    def sample(self, image: int, rng: np.random.Generator) -> Sample:
        picture, margin = self._pictures[image], self._simulation.margin
        size, scale = self._patches.size + 2 * margin, self._patches.scale
        top, left = self._patches.place(picture.size, rng)
        change = self._patches.augmentation.draw(rng)
        fine = picture.cut(top * scale - margin, left * scale - margin, size, size)
        made = self._simulation(change.recontrasted(change.turned(fine)), rng)
        return {**made, "HR": middle_of(made["HR"], self._slices)}


class Mixture(Samples):
    """Several sources as one, each with its share of the samples.

    In an epoch every image comes once, or more often where its source's share asks for it: the sources are repeated
    until their lengths are as their shares, and no image is repeated twice more than another of its source.
    """

    def __init__(self, parts: Sequence[Samples], shares: Sequence[float]) -> None:
        length = max(int(np.ceil(len(part) / share)) for part, share in zip(parts, shares, strict=True))
        counts = [max(len(part), round(share * length)) for part, share in zip(parts, shares, strict=True)]
        self._places = [(part, n % len(part)) for part, count in zip(parts, counts, strict=True) for n in range(count)]
        self.names = [part.names[n] for part, n in self._places]

    def sample(self, image: int, rng: np.random.Generator) -> Sample:
        part, number = self._places[image]
        return part.sample(number, rng)


def mixture_of(
    scans: Sequence, drawn: Sequence, share: float | None, samples_of: Callable[[Sequence], Samples]
) -> Samples:
    """Samples of scans and of drawn images.

    Parameters
    ----------
    scans, drawn : sequence
        Images, of what kind `samples_of` takes.
    share : float, optional
        Of the samples that are of drawn images; otherwise that of drawn images among all.

    Raises
    ------
    InputError
        If there is nothing to learn from.
    """
    if not scans and not drawn:
        raise InputError("The training set has no images.", "Give dataroot_HR, public or procedural.")
    share = len(drawn) / (len(scans) + len(drawn)) if share is None else share
    parts = [(images, weight) for images, weight in ((scans, 1 - share), (drawn, share)) if images and weight]
    if not parts:
        raise InputError(f"procedural_share is {share:g}, and there are no images of that kind.", "Correct it.")
    samples = [samples_of(images) for images, _ in parts]
    return samples[0] if len(samples) == 1 else Mixture(samples, [weight for _, weight in parts])


def middle_of(image: np.ndarray, slices: int) -> np.ndarray:
    """The middle slice alone, of an image (C, H, W) with `slices` neighbours on either side."""
    return image[slices : slices + 1] if slices else image


def make_simulation(kind: str, scale: int, options: dict) -> Bicubic | Degradation:
    """The `degradation` of a data set."""
    return Degradation.from_json(options, scale) if kind == "physical" else Bicubic(scale)
