"""One image to train on: its pixels as stored, its window, and the parts that are cut from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...grey.window import Window
from .imresize import mirrored


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
