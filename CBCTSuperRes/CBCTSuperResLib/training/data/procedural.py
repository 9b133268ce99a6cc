"""Procedural slices to train on: pieces of jaw, cancellous bone, thin plates, overlapping shapes, smooth texture.

All are drawn with anti-aliased edges in units of the window and clipped to [0, 1] only where the scanner would. No
scan of a person or of a specimen is among them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ...evaluation.anatomy import JawSection, Levels, Struts, Waves, share_inside
from ...evaluation.simulate import gaussian_blur

PHANTOM_SEEDS = 1 << 20  # jaws of smaller seeds are phantoms to measure with, and never trained on
Size = int


def _plane(rng: np.random.Generator, size: Size, step: float, axial: bool) -> tuple[np.ndarray, ...]:
    """Points (x, y, z) of a square slice of `size` pixels of `step` through the origin, turned at random."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if axial:
        angle = rng.uniform(0, 2 * np.pi)
        axes = np.array([[np.cos(angle), np.sin(angle), 0.05], [-np.sin(angle), np.cos(angle), 0.05], [0, 0, 1]])
    u = (np.arange(size) - (size - 1) / 2) * step
    v, u = np.meshgrid(u, u, indexing="ij")
    return tuple((u * axes[0, a] + v * axes[1, a]).astype(np.float32).ravel() for a in range(3))


def jaw(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A slice through a jaw with voxels of 0.06 to 0.3 mm."""
    step = float(np.exp(rng.uniform(np.log(0.06), np.log(0.3))))
    extent = (max(25.0, size * step), max(25.0, size * step), rng.uniform(10, 40))
    section = JawSection(
        int(rng.integers(PHANTOM_SEEDS, 1 << 30)),
        extent,
        Levels.random(rng).scaled(rng.uniform(0.7, 1.15), rng.uniform(-0.05, 0.12)),
        metal=rng.random() < 0.1,
        strut_spacing_mm=rng.uniform(0.6, 1.3),
    )
    x, y, z = _plane(rng, size, step, axial=rng.random() < 0.7)
    y = y + np.float32(-0.22 * min(extent[:2]) + rng.uniform(-6, 6))
    x = x + np.float32(rng.uniform(-8, 8))
    return section.values(x, y, z + np.float32(rng.uniform(-0.4, 0.4) * extent[2]), step).reshape(size, size)


def cancellous(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Struts 1 to 7 pixels thick, from sparse to dense, some of uneven mineral."""
    spacing = float(np.exp(rng.uniform(np.log(5), np.log(30))))
    point = _plane(rng, size, 1.0, axial=False)
    density = rng.uniform(0.10, 0.30) * (1 + 0.25 * Waves(rng, 60)(*point))
    share = share_inside((Struts(rng, spacing).excess(*point) - density * spacing) / np.float32(1.45), 1.0)
    low, high = _two_levels(rng)
    mineral = high + rng.uniform(0, 0.12) * Waves(rng, spacing)(*point)
    return (low + share * (mineral - low)).reshape(size, size).astype(np.float32)


def plates(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Curved sheets of bone 1 to 8 pixels thick between two media, like a skull's tables or a sinus wall."""
    point = _plane(rng, size, 1.0, axial=False)
    image = np.full(size * size, rng.uniform(-0.1, 0.3), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        wave = Waves(rng, float(rng.uniform(25, 120)), terms=4)
        height = wave(*point) * np.float32(rng.uniform(8, 30)) + np.float32(rng.uniform(-10, 10))
        rows, columns = np.gradient(height.reshape(size, size))
        distance = height / np.maximum(np.hypot(rows, columns), 0.25).ravel()
        if rng.random() < 0.6:
            image += share_inside(distance, 1.0) * (np.float32(rng.uniform(-0.1, 0.9)) - image)
        thickness = np.float32(np.exp(rng.uniform(np.log(1), np.log(8))))
        image += share_inside(np.abs(distance) - thickness / 2, 1.0) * (np.float32(rng.uniform(0.3, 1.1)) - image)
    return image.reshape(size, size)


def shapes(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Ellipses and boxes of all sizes lying over each other, some hollow, some with a shaded inside."""
    rows, columns = (a.astype(np.float32) for a in np.mgrid[:size, :size])
    image = np.full((size, size), rng.uniform(0, 1), np.float32)
    for _ in range(int(rng.integers(20, 90))):
        a, b = (np.float32(np.exp(rng.uniform(np.log(0.8), np.log(size / 4)))) for _ in range(2))
        b = np.clip(b, a / 5, a * 5)
        angle, (cy, cx) = rng.uniform(0, np.pi), rng.uniform(0, size, 2)
        reach = int(np.hypot(a, b) + 3)
        window = tuple(slice(max(0, int(c) - reach), int(c) + reach + 1) for c in (cy, cx))
        y, x = rows[window] - np.float32(cy), columns[window] - np.float32(cx)
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        if rng.random() < 0.6:
            rho = np.sqrt((u / a) ** 2 + (v / b) ** 2) + 1e-6
            distance = (rho - 1) * rho / (np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2) + 1e-6)
        else:
            distance = np.maximum(np.abs(u) - a, np.abs(v) - b)
        if rng.random() < 0.25:
            distance = np.abs(distance) - np.float32(rng.uniform(0.6, 3))
        level = rng.uniform(-0.1, 1.1) + rng.normal(0, 0.1) * u / a * (rng.random() < 0.3)
        part = image[window]
        part += share_inside(distance.astype(np.float32), 1.0) * (np.asarray(level, np.float32) - part)
    return image


def texture(rng: np.random.Generator, size: Size) -> np.ndarray:
    """A random field whose amplitude falls with frequency as f^-1.2 to f^-2.5, sometimes with a sharp step in it."""
    field = rng.uniform(0.03, 0.25) * _cloud(rng, size, rng.uniform(1.2, 2.5))
    image = (rng.uniform(0.1, 0.9) + field).astype(np.float32)
    if rng.random() < 0.5:
        edge = share_inside(Waves(rng, 80)(*_plane(rng, size, 1.0, axial=False)) * np.float32(15), 1.0)
        image += edge.reshape(size, size) * np.float32(rng.uniform(-0.5, 0.5))
    return image


def flat(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Homogeneous tissue with a slow shade: nothing to sharpen, only noise to leave alone."""
    slope = Waves(rng, 150)(*_plane(rng, size, 1.0, axial=False)).reshape(size, size)
    return (rng.uniform(0, 1) + rng.uniform(0, 0.04) * slope).astype(np.float32)


def _cloud(rng: np.random.Generator, size: Size, exponent: float) -> np.ndarray:
    """Random field of standard deviation 1 whose amplitude falls with frequency f as f^-exponent; 0 is white noise."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    amplitude = np.maximum(np.hypot(fy, fx), 1 / size) ** -exponent
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * amplitude, (size, size))
    return (field / field.std()).astype(np.float32)


KINDS = {jaw: 0.30, cancellous: 0.25, plates: 0.14, shapes: 0.15, texture: 0.12, flat: 0.04}


def _two_levels(rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    low = rng.uniform(-0.1, 0.35)
    return np.float32(low), np.float32(low + rng.uniform(0.2, 0.9))


def training_slice(rng: np.random.Generator, size: Size) -> np.ndarray:
    """One fine slice (size, size), float32 in units of the window, with the slight blur of a fine scanner.

    Half have the faint unevenness of real tissue.
    """
    kind = rng.choice(len(KINDS), p=list(KINDS.values()))
    image = list(KINDS)[kind](rng, size)
    if rng.random() < 0.15:
        image = rng.uniform(0.6, 1.0) - image * rng.uniform(0.5, 0.9)
    if rng.random() < 0.5:
        image = image + np.exp(rng.uniform(np.log(0.004), np.log(0.05))) * _cloud(rng, size, rng.uniform(0.2, 1.8))
    return gaussian_blur(image.astype(np.float32), float(rng.uniform(0.3, 1.0)), (0, 1))


def make_pool(path: Path, count: int, size: Size, seed: int) -> np.memmap:
    """Draw `count` slices into a file of float16 and map it; a complete file of the same request is taken as it is.

    Slice n depends on (seed, n) alone.
    """
    wanted = count * size * size * 2
    if not (path.exists() and path.stat().st_size == wanted):
        partial = path.with_name(path.name + ".part")
        pool = np.memmap(partial, np.float16, "w+", shape=(count, size, size))
        for n in range(count):
            pool[n] = np.clip(training_slice(np.random.default_rng([seed, n]), size), -0.5, 2)
        pool.flush()
        del pool
        os.replace(partial, path)
    return np.memmap(path, np.float16, "r", shape=(count, size, size))
