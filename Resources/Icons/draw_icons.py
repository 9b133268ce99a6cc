"""Draws the icons of the extension and its two modules, and the thumbnail of the example scan for Slicer's Sample Data.

    PYTHONPATH=CBCTSuperRes python Resources/Icons/draw_icons.py      (needs numpy and OpenCV)

The icons: a tooth whose left half is made of coarse pixels and whose right half is fine, on dark blue; for the training
module, on bright green, a curve that rises from point to point between two axes. The thumbnail: a slice of the scan
that the library makes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from CBCTSuperResLib.acquisition.phantom import WINDOW, jaw_scans

SIZE, FINE = 128, 4
TOP = Path(__file__).resolve().parents[2]
BACKGROUND, ENAMEL, DENTINE, PULP = (36, 52, 71), (246, 240, 226), (214, 186, 140), (176, 72, 72)
TRAINING, CURVE = (76, 201, 176), (36, 52, 71)


# Right halves of the outlines: distance from the middle and height, the whole icon being 2 wide and 1 high.
HALF_TOOTH = [
    *[(0, 0.22), (0.16, 0.20), (0.36, 0.12), (0.60, 0.18), (0.68, 0.36), (0.58, 0.54)],
    *[(0.54, 0.72), (0.46, 0.92), (0.34, 0.90), (0.26, 0.70), (0.12, 0.60), (0, 0.59)],
]
HALF_PULP = [
    *[(0, 0.40), (0.16, 0.32), (0.24, 0.40), (0.36, 0.60), (0.42, 0.82)],
    *[(0.38, 0.82), (0.26, 0.62), (0.10, 0.52), (0, 0.52)],
]


def fill(image: np.ndarray, half: list[tuple[float, float]], colour: tuple[int, int, int]) -> None:
    """Fill a symmetrical outline, given by its right half, with its corners rounded (Chaikin's subdivision)."""
    points = np.array([*half, *[(-u, y) for u, y in reversed(half)]])
    for _ in range(4):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    x, y = 0.5 + 0.5 * points[:, 0], points[:, 1]
    cv2.fillPoly(image, [(np.stack([x, y], axis=1) * len(image)).astype(np.int32)], colour, cv2.LINE_AA)


def draw_tooth(size: int) -> np.ndarray:
    """A molar in section: enamel, dentine, pulp."""
    image = np.empty((size, size, 3))
    image[:] = BACKGROUND
    fill(image, HALF_TOOTH, ENAMEL)
    fill(image, [(0.86 * u, 0.5 + 0.92 * (y - 0.5) + (0.06 if y < 0.4 else 0)) for u, y in HALF_TOOTH], DENTINE)
    fill(image, HALF_PULP, PULP)
    return image


def coarsen(image: np.ndarray, pixels: int) -> np.ndarray:
    small = cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[:2], interpolation=cv2.INTER_NEAREST)


def round_corners(image: np.ndarray, radius: float = 0.16) -> np.ndarray:
    size = len(image)
    mask = np.zeros((size, size), np.uint8)
    r = int(radius * size)
    cv2.rectangle(mask, (r, 0), (size - r, size), 255, -1)
    cv2.rectangle(mask, (0, r), (size, size - r), 255, -1)
    for centre in ((r, r), (size - r, r), (r, size - r), (size - r, size - r)):
        cv2.circle(mask, centre, r, 255, -1)
    return np.dstack([image, mask.astype(float)])


def draw_halves(size: int) -> np.ndarray:
    """The tooth, coarse on its left and fine on its right."""
    fine = draw_tooth(size)
    image = fine.copy()
    image[:, : size // 2] = coarsen(fine, 16)[:, : size // 2]
    return image


def draw_curve(size: int) -> np.ndarray:
    """Two axes and a curve that rises from point to point."""
    image = np.empty((size, size, 3))
    image[:] = TRAINING
    axes = (np.array([(0.16, 0.12), (0.16, 0.84), (0.88, 0.84)]) * size).astype(np.int32)
    cv2.polylines(image, [axes], False, CURVE, size // 22, cv2.LINE_AA)
    x = np.linspace(0.28, 0.84, 5)
    points = (np.stack([x, 0.70 - 0.50 * (1 - np.exp(-5 * (x - 0.28)))], axis=1) * size).astype(np.int32)
    cv2.polylines(image, [points], False, ENAMEL, size // 22, cv2.LINE_AA)
    for x, y in points.tolist():
        cv2.circle(image, (x, y), size // 18, ENAMEL, -1, cv2.LINE_AA)
    return image


def draw_icon(draw: Callable[[int], np.ndarray]) -> np.ndarray:
    """An icon, RGBA, drawn large and made small, so that its edges are smooth."""
    image = draw(SIZE * FINE)
    return cv2.resize(round_corners(image), (SIZE, SIZE), interpolation=cv2.INTER_AREA).round().astype(np.uint8)


def draw_thumbnail(width: int = 260, height: int = 280) -> np.ndarray:
    """The middle of an axial slice of a scan like the example scan."""
    _fine, coarse = jaw_scans((16, 320, 320), (0.125, 0.125, 0.25), 20261)
    low, high = WINDOW
    grey = np.clip((coarse.voxels[len(coarse.voxels) // 2] - low) / (high - low), 0, 1)
    grey = cv2.resize(grey[10:150, 15:145].astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return (np.clip(grey, 0, 1) * 255).round().astype(np.uint8)


def main() -> None:
    cv2.imwrite(str(TOP / "CBCTSuperRes" / "Resources" / "Icons" / "ProceduralJaw.png"), draw_thumbnail())
    for name, draw in (("CBCTSuperRes", draw_halves), ("CBCTSuperResTraining", draw_curve)):
        icon = cv2.cvtColor(draw_icon(draw), cv2.COLOR_RGBA2BGRA)
        cv2.imwrite(str(TOP / name / "Resources" / "Icons" / f"{name}.png"), icon)
        if draw is draw_halves:
            cv2.imwrite(str(TOP / "Resources" / "Icons" / f"{name}.png"), icon)


if __name__ == "__main__":
    main()
