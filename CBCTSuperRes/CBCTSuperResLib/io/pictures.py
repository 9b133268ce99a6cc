"""Pictures as files, and images side by side under their captions. Worker-side: needs OpenCV."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from ..core.atomic import replacing

CAPTION = 22  # pixels above each panel
GAP = 4
SMALLEST_PANEL = 192


def comparison(panels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Grey images of one size under their captions, in a row.

    Parameters
    ----------
    panels : mapping
        Caption (ASCII) -> image (rows, columns) or (channels, rows, columns) in [0, 1]; what lies outside is clipped.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
    """
    columns = [_panel(caption, image) for caption, image in panels.items()]
    gap = np.full((columns[0].shape[0], GAP), 255, np.uint8)
    joined = [part for column in columns for part in (gap, column)]
    return np.hstack(joined[1:])


def enlarge_nearest(image: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel of the last two axes as a square of `scale` x `scale`."""
    return image.repeat(scale, -2).repeat(scale, -1)


def stretched(image: np.ndarray) -> np.ndarray:
    """An image from its smallest to its largest value, as [0, 1]."""
    low, high = float(image.min()), float(image.max())
    return (image - low) / max(high - low, 1e-6)


def write_picture(picture: np.ndarray, path: Path, settings: Sequence[int] = ()) -> Path:
    """Write a picture as its name ends, whole or not at all; any characters in the path.

    Parameters
    ----------
    picture : ndarray of uint8, uint16 or, as TIFF, float32
    settings : sequence of int
        Of OpenCV, for instance the compression.

    Raises
    ------
    OutputError
    """
    encoded = cv2.imencode(path.suffix, picture, settings)[1]
    with replacing(path) as scratch:
        scratch.write_bytes(encoded.tobytes())
    return path


def distinct(name: str, taken: Container[str]) -> str:
    """The name, with a number where it is taken: images of two folders may be called alike."""
    numbered = (f"{name} ({number})" for number in count(2))
    return name if name not in taken else next(new for new in numbered if new not in taken)


def _panel(caption: str, image: np.ndarray) -> np.ndarray:
    grey = image.mean(0) if image.ndim == 3 else image
    grey = np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
    times = max(1, -(-SMALLEST_PANEL // min(grey.shape)))
    grey = enlarge_nearest(grey, times)
    title = np.full((CAPTION, grey.shape[1]), 255, np.uint8)
    cv2.putText(title, caption, (3, CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 0, 1, cv2.LINE_AA)
    return np.vstack([title, grey])
