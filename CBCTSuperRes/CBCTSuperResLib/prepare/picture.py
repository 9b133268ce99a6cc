"""A picture of the pair: HR, LR, and both as a checkerboard, before and after registration."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..core.volume import Grid

_PANEL = 340  # pixels across one image
_GAP, _STRIP, _HEAD = 8, 24, 78
_TILES = 7  # across the shorter edge
_COLUMNS = ("HR", "LR, registered", "HR and LR before", "HR and LR after")
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class View:
    """One slice of the pair in units of the window; all images have the same shape.

    Attributes
    ----------
    title : str
    hr, before, after : ndarray, shape (rows, columns)
        HR, and LR as it was placed and as it was registered.
    aspect : float
        Height of a pixel divided by its width.
    """

    title: str
    hr: np.ndarray
    before: np.ndarray
    after: np.ndarray
    aspect: float


def views(
    hr: np.ndarray,
    grid: Grid,
    first_slice: int,
    before: Callable[[Grid], np.ndarray],
    after: Callable[[Grid], np.ndarray],
) -> list[View]:
    """Three axial slices, a coronal and a sagittal one.

    Parameters
    ----------
    hr : ndarray of uint16, shape (k, j, i)
    grid : Grid
        Of `hr`.
    first_slice : int
        Number of its first slice in the HR scan.
    before, after : callable
        The LR scan, in units of the window, on a grid.
    """
    depth, height, width = hr.shape
    wanted = [(2, depth * n // 4, f"axial, slice {first_slice + depth * n // 4}") for n in (1, 2, 3)]
    wanted += [(1, height // 2, "coronal, middle"), (0, width // 2, "sagittal, middle")]
    found = []
    for axis, index, title in wanted:
        start, stop = [0, 0, 0], list(grid.size)
        start[axis], stop[axis] = index, index + 1
        part = grid.cropped(start, stop)
        fine = hr[tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1], strict=True))] / np.float32(65535)
        images = [image.squeeze(2 - axis) for image in (fine, before(part), after(part))]
        if axis < 2:
            images = [image[::-1] for image in images]  # the head is up
        aspect = grid.spacing[2] / grid.spacing[1 - axis] if axis < 2 else grid.spacing[1] / grid.spacing[0]
        found.append(View(title, *images, aspect))
    return found


def draw(path: Path, title: str, subtitle: str, rows: Sequence[View]) -> None:
    """Write the picture as PNG."""
    strips = [_row(view) for view in rows]
    width = strips[0].shape[1]
    head = np.full((_HEAD, width), 255, np.uint8)
    _write(head, title, (_GAP, 22), 0.55)
    _write(head, subtitle, (_GAP, 42), 0.45)
    for number, name in enumerate(_COLUMNS):
        _write(head, name, (_GAP + number * (_PANEL + _GAP), _HEAD - 8), 0.55)
    picture = np.concatenate([head, *strips])
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise OSError("the picture could not be encoded")
    path.write_bytes(data.tobytes())


def checkerboard(first: np.ndarray, second: np.ndarray, tiles: int = _TILES) -> np.ndarray:
    """Tiles of two images of one shape (rows, columns) by turns, `tiles` across the shorter edge."""
    edge = max(1, min(first.shape) // tiles)
    rows, columns = (np.arange(n) // edge for n in first.shape)
    return np.where((rows[:, None] + columns) % 2 == 0, first, second)


def _row(view: View) -> np.ndarray:
    images = [_scaled(image, view.aspect) for image in (view.hr, view.after, view.before)]
    hr, after, before = images
    panels = [hr, after, checkerboard(hr, before), checkerboard(hr, after)]
    height = hr.shape[0]
    row = np.full((_STRIP + height + _GAP, _GAP + len(panels) * (_PANEL + _GAP)), 255, np.uint8)
    _write(row, view.title, (_GAP, _STRIP - 7), 0.45)
    for number, panel in enumerate(panels):
        left = _GAP + number * (_PANEL + _GAP)
        row[_STRIP : _STRIP + height, left : left + _PANEL] = panel
    return row


def _scaled(image: np.ndarray, aspect: float) -> np.ndarray:
    """As wide as a panel, with square pixels, 8 bits."""
    height = int(np.clip(round(_PANEL * image.shape[0] * aspect / image.shape[1]), 40, 2 * _PANEL))
    grey = np.clip(image * 255, 0, 255).astype(np.uint8)
    how = cv2.INTER_AREA if image.shape[1] > _PANEL else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(grey), (_PANEL, height), interpolation=how)


def _write(image: np.ndarray, text: str, place: tuple[int, int], size: float) -> None:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()  # the font knows no other letters
    cv2.putText(image, plain, place, _FONT, size, 0, 1, cv2.LINE_AA)
