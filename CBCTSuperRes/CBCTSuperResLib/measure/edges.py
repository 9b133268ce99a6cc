"""Edges: where the strongest are, their profiles, and how sharp they are. Worker-side: needs OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .resolution import Curve

BIN = 0.25  # width of the bins of the profile of a round edge, in pixels
REACH = 4.0  # pixels on either side of an edge
STEP = 0.125  # pixels, along a profile
CELL = 6  # at most one edge in a square of so many pixels
LOW, HIGH = 0.2, 0.8


@dataclass(frozen=True)
class EdgeResponse:
    """Profile across an edge and what follows from it.

    Attributes
    ----------
    position : ndarray
        Pixels from the edge, outwards.
    profile : ndarray
        1 on the insert, 0 around it.
    transfer : Curve
        Modulation transfer; for a network, which is not linear, that of this contrast and noise only.
    overshoot : float
        How far the profile goes beyond the plateaus, in units of the step.
    """

    position: np.ndarray
    profile: np.ndarray
    transfer: Curve
    overshoot: float


def edge_response(image: np.ndarray, centre: Sequence[float], radius: float, reach: float = 6.0) -> EdgeResponse:
    """How an image shows the edge of a round insert, from all pixels around it at once.

    The distances of the pixels from the circle are finer spaced than the pixels, so that the profile across the edge
    is sampled four times as finely as the image (as ISO 12233 does with a slanted edge).

    Parameters
    ----------
    image : ndarray, shape (rows, columns)
    centre : (row, column)
        Of the insert, in pixels.
    radius : float
        Of the insert, in pixels.
    reach : float
        Pixels on either side of the edge that are looked at.
    """
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1]) - radius
    near = np.abs(distance) < reach
    bins = np.floor((distance[near] + reach) / BIN).astype(int)
    count = np.bincount(bins)
    profile = np.bincount(bins, image[near].astype(np.float64)) / np.maximum(count, 1)
    position = (np.arange(len(count)) + 0.5) * BIN - reach
    profile = np.interp(position, position[count > 0], profile[count > 0])
    inner, outer = np.median(profile[: len(profile) // 4]), np.median(profile[-(len(profile) // 4) :])
    if inner == outer:
        return EdgeResponse(position, np.zeros_like(profile), Curve(np.array([0.0]), np.array([0.0])), 0.0)
    unit = (profile - outer) / (inner - outer)
    spread = -np.gradient(unit) * np.minimum(1, 2 * np.hanning(len(unit) + 2)[1:-1])
    transfer = np.abs(np.fft.rfft(spread))
    frequency = np.fft.rfftfreq(len(spread), BIN) * 2  # of the pixels' Nyquist frequency
    kept = frequency <= 1
    beyond = max(float(unit.max()) - 1, -float(unit.min()))
    return EdgeResponse(position, unit, Curve(frequency[kept], transfer[kept] / transfer[0]), beyond)


def strongest_edges(image: np.ndarray, measured: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (row, column) and unit normals of the strongest edges, at most one in a small square."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    down, right = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((0, 1), (1, 0)))
    margin = int(REACH) + 2
    allowed = cv2.erode(measured.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8), borderValue=0)
    strength = np.hypot(down, right) * allowed
    rows, columns = (n // CELL for n in strength.shape)
    cells = strength[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL).swapaxes(1, 2)
    cells = cells.reshape(rows * columns, CELL * CELL)
    if not cells.size:
        return np.empty((0, 2)), np.empty((0, 2))
    best, height = cells.argmax(1), cells.max(1)
    chosen = np.argsort(-height, kind="stable")[:most]
    chosen = chosen[height[chosen] > 0]
    row = chosen // columns * CELL + best[chosen] // CELL
    column = chosen % columns * CELL + best[chosen] % CELL
    normals = np.stack([down[row, column], right[row, column]], axis=1) / strength[row, column][:, None]
    return np.stack([row, column], axis=1).astype(np.float64), normals


def profiles_across(
    image: np.ndarray,
    places: np.ndarray,
    normals: np.ndarray,
    ratio: Sequence[float] = (1.0, 1.0),
    reach: float = REACH,
) -> np.ndarray:
    """Grey values (edges, points) along each normal, every `STEP`, the mean over three parallel lines.

    Parameters
    ----------
    places, normals : ndarray, shape (edges, 2)
        In coarse pixels; rows first.
    ratio : (rows, columns)
        Pixels of the image in a coarse one.
    reach : float
        Coarse pixels on either side.
    """
    along = np.arange(-reach, reach + STEP / 2, STEP)
    tangents = np.stack([-normals[:, 1], normals[:, 0]], axis=1)
    total = 0.0
    for aside in (-1.0, 0.0, 1.0):
        points = (places + aside * tangents)[:, None, :] + along[:, None] * normals[:, None, :]
        rows, columns = np.moveaxis((points + 0.5) * np.asarray(ratio) - 0.5, -1, 0).astype(np.float32)
        total = total + cv2.remap(image, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return total / 3


def rise_distances(profiles: np.ndarray, least_contrast: float) -> np.ndarray:
    """Distance from 20 to 80 % of each profile, in coarse pixels; NaN where it is no clear step."""
    end, middle = profiles.shape[1] // 8, profiles.shape[1] // 2
    low, high = profiles[:, :end].mean(1), profiles[:, -end:].mean(1)
    contrast = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = (profiles - low[:, None]) / contrast[:, None]
        low_at = _last_crossing(rise[:, : middle + end], LOW)
        high_at = profiles.shape[1] - 1 - _last_crossing(1 - rise[:, ::-1][:, : middle + end], 1 - HIGH)
    clear = (contrast >= least_contrast) & (np.abs(rise - 0.5).max(1) < 0.9) & (high_at > low_at)
    return np.where(clear, (high_at - low_at) * STEP, np.nan)


def _last_crossing(rise: np.ndarray, level: float) -> np.ndarray:
    """Where each row last lies below a level, interpolated; NaN where it does not or stays there."""
    below = rise <= level
    last = below.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)
    found = below.any(1) & (last < below.shape[1] - 1)
    last = np.minimum(last, below.shape[1] - 2)
    rows = np.arange(len(rise))
    before, after = rise[rows, last], rise[rows, last + 1]
    return np.where(found, last + (level - before) / (after - before), np.nan)
