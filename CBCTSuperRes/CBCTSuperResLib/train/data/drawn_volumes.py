"""Procedural volumes to train on, for networks of blocks: jaws, cancellous bone, sheets, teeth, solids, texture.

What `drawn` shows in slices, in cubes whose voxels are as long as wide: whatever a scanner makes of an axis can be
simulated along each of the three. All are drawn with anti-aliased edges, in units of the window. No scan of a person or
of a specimen is among them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...acquisition.anatomy import Waves, mix, share_inside
from ...acquisition.scanner import ALL_AXES, gaussian_blur
from ...core.digest import file_sha256
from .drawn_slices import cancellous, generator_sha256, jaw, kept_drawings

FINE_BLUR = (0.3, 0.8)  # voxels: how sharply the fine scan shows the object
UNEVEN_SHARE, UNEVEN = 0.4, (0.004, 0.03)
FAINT_SHARE, INVERTED_SHARE = 0.4, 0.15

Cube = np.ndarray  # float32, shape (size, size, size)


def drawn_volumes(path: Path, count: int, size: int, seed: int) -> np.memmap:
    """Volumes from a file, see `drawn.kept_drawings`: (count, size, size, size), float16, read only."""
    generator = hashlib.sha256(f"{file_sha256(__file__)} {generator_sha256()}".encode()).hexdigest()
    made_of = {"generator": generator, "seed": seed, "shape": [count, size, size, size]}
    return kept_drawings(path, made_of, lambda rng: drawn_volume(rng, size))


def drawn_volume(rng: np.random.Generator, size: int) -> Cube:
    """One volume of a kind that is drawn at random, with the slight blur of a fine scanner; not clipped.

    >>> drawn_volume(np.random.default_rng(0), 96).shape
    (96, 96, 96)
    """
    kind = rng.choice(len(KINDS), p=list(KINDS.values()))
    image = list(KINDS)[kind](rng, size).astype(np.float32)
    if rng.random() < INVERTED_SHARE:
        image = rng.uniform(0.6, 1.0) - image * rng.uniform(0.5, 0.9)
    if rng.random() < FAINT_SHARE:
        gain = rng.uniform(0.3, 1.0)
        image = gain * image + rng.uniform(0, 1 - gain)
    if rng.random() < UNEVEN_SHARE:
        image = image + np.exp(rng.uniform(*np.log(UNEVEN))) * cloud(rng, size, rng.uniform(0.5, 2.0))
    return gaussian_blur(image.astype(np.float32), float(rng.uniform(*FINE_BLUR)), ALL_AXES)


def jaw_cube(rng: np.random.Generator, size: int) -> Cube:
    """A piece of jaw with its teeth, voxels of 0.06 to 0.3 mm."""
    return jaw(rng, size, _centred(size))


def cancellous_cube(rng: np.random.Generator, size: int) -> Cube:
    """A network of struts 1 to 7 voxels thick."""
    return cancellous(rng, size, _centred(size))


def sheets(rng: np.random.Generator, size: int) -> Cube:
    """Curved sheets of bone 0.7 to 8 voxels thick between media, like a skull's tables, sinus walls and cortices."""
    point = _points(rng, size)
    image = np.full((size,) * 3, rng.uniform(-0.1, 0.3), np.float32)
    for _ in range(int(rng.integers(1, 5))):
        distance = _surface(rng, point, rng.uniform(25, 120))
        if rng.random() < 0.6:
            mix(image, share_inside(distance, 1.0), np.float32(rng.uniform(-0.1, 0.9)))
        thickness = np.float32(np.exp(rng.uniform(np.log(0.7), np.log(8))))
        share = share_inside(np.abs(distance) - thickness / 2, 1.0) * min(1, float(thickness))
        mix(image, share, np.float32(rng.uniform(0.3, 1.1)))
    return image


def tooth_piece(rng: np.random.Generator, size: int) -> Cube:
    """Enamel and dentin that meet along smooth surfaces, with canals, cracks and air around them.

    Canals are tubes 0.8 to 12 voxels wide that bend and taper; cracks and ligaments are sheets from 0.5 voxels on.
    """
    point = _points(rng, size)
    dentin, enamel = np.sort(rng.uniform(0.4, 1.0, 2)).astype(np.float32)
    image = np.full((size,) * 3, dentin)
    mix(image, share_inside(_surface(rng, point, rng.uniform(80, 240)), 1.0), enamel)
    for _ in range(int(rng.integers(0, 4))):
        mix(image, share_inside(_tube(rng, point, size), 1.0), np.float32(rng.uniform(-0.05, 0.35)))
    for _ in range(int(rng.integers(0, 3))):
        width = np.float32(np.exp(rng.uniform(np.log(0.5), np.log(3))))
        share = share_inside(np.abs(_surface(rng, point, rng.uniform(60, 160))) - width / 2, 1.0) * min(1, float(width))
        mix(image, share, np.float32(rng.uniform(-0.1, 0.4) if rng.random() < 0.7 else rng.uniform(0.9, 1.1)))
    if rng.random() < 0.7:
        outside = _surface(rng, point, rng.uniform(80, 240)) + np.float32(rng.uniform(0, size / 3))
        mix(image, share_inside(-outside, 1.0), np.float32(rng.uniform(-0.1, 0.3)))
    return image


def solids(rng: np.random.Generator, size: int) -> Cube:
    """Ellipsoids and boxes of all sizes and directions lying in each other, some hollow."""
    image = np.full((size,) * 3, rng.uniform(0, 1), np.float32)
    places = np.arange(size, dtype=np.float32)
    for _ in range(int(rng.integers(100, 500))):
        half = np.exp(rng.uniform(np.log(0.8), np.log(size / 4), 3))
        half = half.clip(half.max() / 8).astype(np.float32)
        centre = rng.uniform(0, size, 3)
        reach = int(np.linalg.norm(half) + 3)
        window = tuple(slice(max(0, int(c) - reach), int(c) + reach + 1) for c in centre)
        point = np.meshgrid(*(places[w] - np.float32(c) for w, c in zip(window, centre, strict=True)), indexing="ij")
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0].astype(np.float32)
        u = [sum(a * p for a, p in zip(axis, point, strict=True)) for axis in axes]
        if rng.random() < 0.6:
            rho = np.sqrt(sum((x / h) ** 2 for x, h in zip(u, half, strict=True))) + np.float32(1e-6)
            slope = np.sqrt(sum((x / h**2) ** 2 for x, h in zip(u, half, strict=True))) / rho + np.float32(1e-6)
            distance = (rho - 1) / slope
        else:
            distance = np.max([np.abs(x) - h for x, h in zip(u, half, strict=True)], axis=0)
        if rng.random() < 0.25:
            distance = np.abs(distance) - np.float32(rng.uniform(0.6, 3))
        part = image[window]
        mix(part, share_inside(distance, 1.0), np.float32(rng.uniform(-0.1, 1.1)))
    return image


def texture(rng: np.random.Generator, size: int) -> Cube:
    """A random field whose amplitude falls with frequency, in half of the volumes with a sharp step through it."""
    image = rng.uniform(0.1, 0.9) + rng.uniform(0.03, 0.2) * cloud(rng, size, rng.uniform(1.6, 3.0))
    if rng.random() < 0.5:
        step = share_inside(_surface(rng, _points(rng, size), 80.0), 1.0)
        image = image + step * np.float32(rng.uniform(-0.5, 0.5))
    return image


def flat(rng: np.random.Generator, size: int) -> Cube:
    """Homogeneous tissue with a slow shade: nothing to sharpen, only noise to leave alone."""
    return rng.uniform(0, 1) + rng.uniform(0, 0.04) * Waves(rng, 150)(*_points(rng, size))


KINDS = {
    jaw_cube: 0.27,
    cancellous_cube: 0.20,
    sheets: 0.15,
    tooth_piece: 0.17,
    solids: 0.12,
    texture: 0.06,
    flat: 0.03,
}


def cloud(rng: np.random.Generator, size: int, exponent: float) -> Cube:
    """Random field of standard deviation 1 whose amplitude falls with frequency f as f^-exponent."""
    f, half = np.fft.fftfreq(size), np.fft.rfftfreq(size)
    frequency = np.sqrt(f[:, None, None] ** 2 + f[:, None] ** 2 + half**2)
    waves = np.fft.rfftn(rng.standard_normal((size,) * 3)) * np.maximum(frequency, 1 / size) ** -exponent
    field = np.fft.irfftn(waves, (size,) * 3, axes=(0, 1, 2))
    return (field / field.std()).astype(np.float32)


def _centred(size: int) -> np.ndarray:
    return np.arange(size) - (size - 1) / 2


def _points(rng: np.random.Generator, size: int) -> Sequence[np.ndarray]:
    """Coordinates of the voxels about the middle, in voxels, turned at random; three arrays (size, size, size)."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    grid = np.meshgrid(*[_centred(size)] * 3, indexing="ij")
    return [sum(a * g for a, g in zip(axis, grid, strict=True)).astype(np.float32) for axis in axes]


def _surface(rng: np.random.Generator, point: Sequence[np.ndarray], wavelength: float) -> Cube:
    """Signed distance, in voxels, to a smooth surface somewhere in the volume (exact near it)."""
    height = Waves(rng, wavelength, terms=4)(*point) * np.float32(rng.uniform(8, 30)) + np.float32(rng.uniform(-10, 10))
    slopes = np.gradient(height)
    return height / np.maximum(np.sqrt(sum(s**2 for s in slopes)), np.float32(0.25))


def _tube(rng: np.random.Generator, point: Sequence[np.ndarray], size: int) -> Cube:
    """Signed distance to the wall of a tube that bends and tapers along the first coordinate."""
    along, across, up = point
    bend = [
        np.float32(rng.uniform(-0.2, 0.2)) * size * np.sin(along * np.float32(rng.uniform(1, 3) / size))
        for _ in range(2)
    ]
    centre = rng.uniform(-0.35, 0.35, 2) * size
    radius = np.exp(rng.uniform(np.log(0.4), np.log(6))) * (1 + np.float32(rng.uniform(-0.8, 0.8)) * along / size)
    flatness = np.float32(rng.uniform(1, 1.6))
    across, up = (x - b - np.float32(c) for x, b, c in zip((across, up), bend, centre, strict=True))
    return np.hypot(across / flatness, up) - radius
