"""The same chance for LR and HR: flips, quarter turns, contrast, brightness and gamma."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
