"""What batches are made of: pairs of pictures, pictures whose LR is simulated, and mixtures of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .augmentation import Augmentation
from .degradation import Degradation
from .imresize import imresize, reach
from .picture import Picture

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


def make_simulation(kind: str, scale: int, options: dict, clip: bool) -> Bicubic | Degradation:
    """The `degradation` of a data set."""
    return Degradation.from_json(options, scale) if kind == "physical" else Bicubic(scale, clip)
