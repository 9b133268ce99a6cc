"""Procedural slices to train on: pieces of jaw, cancellous bone, thin plates, hard tissue, shapes, smooth texture.

Each is drawn with its neighbours, as many parallel slices as there are `depths`: their places across the slices, in
pixels, 0 for the slice that counts. What is close in depth continues, what is far does not. All are drawn with
anti-aliased edges in units of the window and clipped to [0, 1] only where the scanner would. No scan of a person or of
a specimen is among them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from ...acquisition import anatomy, scanner
from ...acquisition.anatomy import JawSection, Levels, Struts, Waves, share_inside
from ...acquisition.scanner import gaussian_blur
from ...core.atomic import FileLock, replacing
from ...core.digest import file_sha256
from ...core.errors import OutputError
from ...io.write import check_disk

PHANTOM_SEEDS = 1 << 20  # jaws of smaller seeds are phantoms to measure with, and never trained on
USUAL_GAPS = (1.0, 2.0)  # between slices, in fine pixels: a scan halved in-plane alone, and one of cubic voxels
USUAL_SHARE = 0.6
GAPS = (0.5, 5.0)
LARGEST_GROWTH = 1.3
LOSS_IN_DEPTH = 2.0
UNEVEN_SHARE, UNEVEN_AT_MOST = 0.5, 0.05
UNEVEN_SLABS = (0.35, 0.03)  # less, because whoever sees the neighbours can tell it from noise
THICK_SHARE = 0.5
PROFILE = np.array([0.125, 0.375, 0.375, 0.125], np.float32)  # of a slice in depth, in layers of half its thickness
Size = int
Depths = np.ndarray
ALONE = np.zeros(1)


def _plane(rng: np.random.Generator, size: Size, step: float, axial: bool, depths: Depths) -> tuple[np.ndarray, ...]:
    """Points (x, y, z) of square slices of `size` pixels of `step` about the origin, turned at random."""
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if axial:
        angle = rng.uniform(0, 2 * np.pi)
        axes = np.array([[np.cos(angle), np.sin(angle), 0.05], [-np.sin(angle), np.cos(angle), 0.05], [0, 0, 1]])
    u = (np.arange(size) - (size - 1) / 2) * step
    w, v, u = np.meshgrid(depths * step, u, u, indexing="ij")
    return tuple((u * axes[0, a] + v * axes[1, a] + w * axes[2, a]).astype(np.float32).ravel() for a in range(3))


def jaw(rng: np.random.Generator, size: Size, depths: Depths) -> np.ndarray:
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
    x, y, z = _plane(rng, size, step, rng.random() < 0.7, depths)
    y = y + np.float32(-0.22 * min(extent[:2]) + rng.uniform(-6, 6))
    x = x + np.float32(rng.uniform(-8, 8))
    return _image(section.values(x, y, z + np.float32(rng.uniform(-0.4, 0.4) * extent[2]), step), size)


def cancellous(rng: np.random.Generator, size: Size, depths: Depths) -> np.ndarray:
    """Struts 1 to 7 pixels thick, from sparse to dense, some of uneven mineral."""
    spacing = float(np.exp(rng.uniform(np.log(5), np.log(30))))
    point = _plane(rng, size, 1.0, False, depths)
    density = rng.uniform(0.10, 0.30) * (1 + 0.25 * Waves(rng, 60)(*point))
    share = share_inside((Struts(rng, spacing).excess(*point) - density * spacing) / np.float32(1.45), 1.0)
    low, high = _two_levels(rng)
    mineral = high + rng.uniform(0, 0.12) * Waves(rng, spacing)(*point)
    return _image(low + share * (mineral - low), size).astype(np.float32)


def plates(rng: np.random.Generator, size: Size, depths: Depths, thinnest: float = 1.0) -> np.ndarray:
    """Curved sheets of bone 1 to 8 pixels thick between two media, like a skull's tables or a sinus wall."""
    point = _plane(rng, size, 1.0, False, depths)
    image = np.full(len(depths) * size * size, rng.uniform(-0.1, 0.3), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        distance = _sheet(rng, size, point, rng.uniform(25, 120))
        if rng.random() < 0.6:
            image += share_inside(distance, 1.0) * (np.float32(rng.uniform(-0.1, 0.9)) - image)
        thickness = np.float32(np.exp(rng.uniform(np.log(thinnest), np.log(8))))
        share = share_inside(np.abs(distance) - thickness / 2, 1.0) * min(1, float(thickness))
        image += share * (np.float32(rng.uniform(0.3, 1.1)) - image)
    return _image(image, size)


def thin_plates(rng: np.random.Generator, size: Size, depths: Depths) -> np.ndarray:
    """The same from 0.6 pixels on: thinner than a pixel of the coarse scan, like the walls of the ethmoid."""
    return plates(rng, size, depths, thinnest=0.6)


def hard_tissue(rng: np.random.Generator, size: Size, depths: Depths) -> np.ndarray:
    """Bright media that meet along smooth surfaces, like enamel and dentin, with lines through them.

    The lines are dark, 0.4 to 3 pixels wide, like cracks, canals and the periodontal ligament, or bright, like the
    lamina dura; some end.
    """
    point = _plane(rng, size, 1.0, False, depths)
    levels = np.sort(rng.uniform(0.45, 1.0, 2))
    image = np.full(len(point[0]), levels[0], np.float32)
    surface = _sheet(rng, size, point, rng.uniform(60, 200))
    image += share_inside(surface, 1.0) * np.float32(levels[1] - levels[0])
    if rng.random() < 0.6:
        outside = _sheet(rng, size, point, rng.uniform(60, 200)) + np.float32(rng.uniform(0, size / 3))
        image += share_inside(-outside, 1.0) * (np.float32(rng.uniform(-0.1, 0.3)) - image)
    for _ in range(int(rng.integers(1, 5))):
        line = _sheet(rng, size, point, rng.uniform(40, 160))
        width = np.float32(np.exp(rng.uniform(np.log(0.4), np.log(3))))
        share = share_inside(np.abs(line) - width / 2, 1.0) * min(1, float(width))
        if rng.random() < 0.5:
            share = share * share_inside(Waves(rng, 60)(*point) * np.float32(10), 1.0)
        image += share * (np.float32(rng.uniform(-0.1, 0.4) if rng.random() < 0.75 else rng.uniform(0.9, 1.1)) - image)
    return _image(image, size)


def _sheet(rng: np.random.Generator, size: Size, point: tuple[np.ndarray, ...], wavelength: float) -> np.ndarray:
    """Signed distance, in pixels, to a smooth surface somewhere in the slices."""
    wave = Waves(rng, float(wavelength), terms=4)
    height = wave(*point) * np.float32(rng.uniform(8, 30)) + np.float32(rng.uniform(-10, 10))
    rows, columns = np.gradient(_image(height, size), axis=(1, 2))
    return height / np.maximum(np.hypot(rows, columns), 0.25).ravel()


def shapes(rng: np.random.Generator, size: Size, depths: Depths) -> np.ndarray:
    """Ellipses and boxes of all sizes lying over each other, some hollow, some with a shaded inside.

    In depth they lean, grow or shrink, and some end.
    """
    rows, columns = (a.astype(np.float32) for a in np.mgrid[:size, :size])
    images = np.full((len(depths), size, size), rng.uniform(0, 1), np.float32)
    for _ in range(int(rng.integers(20, 90))):
        a, b = (np.float32(np.exp(rng.uniform(np.log(0.8), np.log(size / 4)))) for _ in range(2))
        b = np.clip(b, a / 5, a * 5)
        angle, (cy, cx) = rng.uniform(0, np.pi), rng.uniform(0, size, 2)
        reach = int((LARGEST_GROWTH if len(depths) > 1 else 1) * np.hypot(a, b) + 3)
        is_ellipse = rng.random() < 0.6
        rim = np.float32(rng.uniform(0.6, 3)) if rng.random() < 0.25 else None
        ground, slope = rng.uniform(-0.1, 1.1), rng.normal(0, 0.1) * (rng.random() < 0.3)
        for image, (dy, dx, growth) in zip(images, _in_depth(rng, depths, min(a, b)), strict=True):
            if growth <= 0:
                continue
            window = tuple(slice(max(0, int(c) - reach), int(max(c, 0)) + reach + 1) for c in (cy + dy, cx + dx))
            y, x = rows[window] - np.float32(cy + dy), columns[window] - np.float32(cx + dx)
            u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
            distance = (_to_ellipse if is_ellipse else _to_box)(u, v, a * growth, b * growth)
            distance = distance if rim is None else np.abs(distance) - rim
            part = image[window]
            part += share_inside(distance.astype(np.float32), 1.0) * (
                np.asarray(ground + slope * u / a, np.float32) - part
            )
    return images


def _in_depth(rng: np.random.Generator, depths: Depths, size: float) -> np.ndarray:
    """Displacement along rows and columns and relative size (0: it has ended) of a shape at each depth."""
    if len(depths) == 1:
        return np.array([[0, 0, 1]])
    lean, growth = rng.normal(0, 0.5, 2), rng.normal(0, 0.4) / max(float(size), 2.0)
    end = rng.uniform(-6, 6) if rng.random() < 0.3 else None
    sizes = np.clip(1 + growth * depths, 0.2, LARGEST_GROWTH)
    if end is not None:
        sizes = np.where((depths - end) * np.sign(end) < 0, sizes, 0)
    return np.stack([lean[0] * depths, lean[1] * depths, sizes], 1)


def _to_ellipse(u: np.ndarray, v: np.ndarray, a: float, b: float) -> np.ndarray:
    rho = np.sqrt((u / a) ** 2 + (v / b) ** 2) + 1e-6
    return (rho - 1) * rho / (np.sqrt((u / a**2) ** 2 + (v / b**2) ** 2) + 1e-6)


def _to_box(u: np.ndarray, v: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.maximum(np.abs(u) - a, np.abs(v) - b)


def texture(rng: np.random.Generator, size: Size, depths: Depths) -> np.ndarray:
    """A random field whose amplitude falls with frequency as f^-1.2 to f^-2.5, sometimes with a sharp step in it."""
    field = rng.uniform(0.03, 0.25) * _cloud(rng, size, rng.uniform(1.2, 2.5), depths)
    image = (rng.uniform(0.1, 0.9) + field).astype(np.float32)
    if rng.random() < 0.5:
        edge = share_inside(Waves(rng, 80)(*_plane(rng, size, 1.0, False, depths)) * np.float32(15), 1.0)
        image += _image(edge, size) * np.float32(rng.uniform(-0.5, 0.5))
    return image


def flat(rng: np.random.Generator, size: Size, depths: Depths) -> np.ndarray:
    """Homogeneous tissue with a slow shade: nothing to sharpen, only noise to leave alone."""
    slope = _image(Waves(rng, 150)(*_plane(rng, size, 1.0, False, depths)), size)
    return (rng.uniform(0, 1) + rng.uniform(0, 0.04) * slope).astype(np.float32)


def _cloud(rng: np.random.Generator, size: Size, exponent: float, depths: Depths) -> np.ndarray:
    """Random field of standard deviation 1 whose amplitude falls with frequency f as f^-exponent; 0 is white noise.

    From slice to slice a wave lives on the longer, the longer it is.
    """
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    frequency = np.hypot(fy, fx)
    amplitude = np.maximum(frequency, 1 / size) ** -exponent
    waves = np.fft.rfft2(rng.standard_normal((size, size)))
    fields = [np.fft.irfft2(waves * amplitude, (size, size))]
    for gap in np.diff(depths):
        kept = np.exp(-LOSS_IN_DEPTH * frequency * gap)
        waves = kept * waves + np.sqrt(1 - kept**2) * np.fft.rfft2(rng.standard_normal((size, size)))
        fields.append(np.fft.irfft2(waves * amplitude, (size, size)))
    field = np.stack(fields)
    return (field / field.std()).astype(np.float32)


@dataclass(frozen=True)
class Drawings:
    """Which slices are drawn, and how often.

    Attributes
    ----------
    kinds : dict
        Functions (rng, size, depths) and their shares.
    faint : float
        Share of slices that use only a part of the window, as those of a window that clips nothing do.
    """

    kinds: dict
    faint: float = 0.0


SETS = {
    1: Drawings({jaw: 0.30, cancellous: 0.25, plates: 0.14, shapes: 0.15, texture: 0.12, flat: 0.04}),
    2: Drawings(
        {jaw: 0.26, cancellous: 0.22, thin_plates: 0.14, hard_tissue: 0.12, shapes: 0.12, texture: 0.10, flat: 0.04},
        faint=0.5,
    ),
}


def _two_levels(rng: np.random.Generator) -> tuple[np.float32, np.float32]:
    low = rng.uniform(-0.1, 0.35)
    return np.float32(low), np.float32(low + rng.uniform(0.2, 0.9))


def _image(values: np.ndarray, size: Size) -> np.ndarray:
    return values.reshape(-1, size, size)


def random_gap(rng: np.random.Generator) -> float:
    """Distance of neighbouring slices, in fine pixels."""
    usual, other = rng.choice(USUAL_GAPS), np.exp(rng.uniform(*np.log(GAPS)))
    return float(usual if rng.random() < USUAL_SHARE else other)


def training_slab(rng: np.random.Generator, size: Size, slices: int = 0, drawings: Drawings = SETS[1]) -> np.ndarray:
    """A fine slice between its neighbours, (2 slices + 1, size, size), with the slight blur of a fine scanner.

    float32, in units of the window. Some slabs are of thin slices, others of slices that a scanner averaged in depth.
    Some have the faint unevenness of real tissue.
    """
    if slices == 0:
        return _drawn(rng, size, ALONE, drawings, UNEVEN_SHARE, UNEVEN_AT_MOST)
    gap, is_thick = random_gap(rng), rng.random() < THICK_SHARE
    if not is_thick:
        return _drawn(rng, size, gap * np.arange(-slices, slices + 1), drawings, *UNEVEN_SLABS)
    parts = np.arange(2 * (2 * slices + 1) + len(PROFILE) - 2)
    layers = _drawn(rng, size, gap / 2 * (parts - parts.mean()), drawings, *UNEVEN_SLABS)
    return averaged_in_depth(layers)[::2]


def averaged_in_depth(layers: np.ndarray) -> np.ndarray:
    """Slices (k - 3, ...) as thick as two of the k layers, blurred across them as a scanner blurs within them."""
    count = len(layers) - len(PROFILE) + 1
    return sum(weight * layers[n : n + count] for n, weight in enumerate(PROFILE))


def _drawn(
    rng: np.random.Generator, size: Size, depths: Depths, drawings: Drawings, uneven: float, at_most: float
) -> np.ndarray:
    """Slices at these depths; a share of them is `uneven`, with a standard deviation of `at_most`."""
    kind = rng.choice(len(drawings.kinds), p=list(drawings.kinds.values()))
    image = list(drawings.kinds)[kind](rng, size, depths)
    if rng.random() < 0.15:
        image = rng.uniform(0.6, 1.0) - image * rng.uniform(0.5, 0.9)
    if drawings.faint and rng.random() < drawings.faint:
        gain = rng.uniform(0.3, 1.0)
        image = gain * image + rng.uniform(0, 1 - gain)
    if rng.random() < uneven:
        sd = np.exp(rng.uniform(np.log(0.004), np.log(at_most)))
        image = image + sd * _cloud(rng, size, rng.uniform(0.2, 1.8), depths)
    return gaussian_blur(image.astype(np.float32), float(rng.uniform(0.3, 1.0)), (1, 2))


def training_slice(rng: np.random.Generator, size: Size) -> np.ndarray:
    """One fine slice (size, size) without neighbours; see `training_slab`."""
    return training_slab(rng, size)[0]


HEADER_BYTES = 4096
PIXEL = np.dtype("<f2")


def drawn_slices(path: Path, count: int, size: Size, seed: int, slices: int = 0, drawings: int = 1) -> np.memmap:
    """Slabs from a file, which is drawn if it is not there, or not of these drawings, or not as it was written.

    Of several processes that want the same file one draws it, and the others wait.

    Parameters
    ----------
    path : Path
        A JSON line with what the slabs were made of and the SHA-256 of their pixels, and from byte 4096 on these.
    count : int
    size : int
        Edge in pixels.
    seed : int
        Slab n depends on (seed, n) alone.
    slices : int
        Neighbours on either side.
    drawings : int
        Which of `SETS`.

    Returns
    -------
    memmap of float16, shape (count, 2 slices + 1, size, size), read only

    Raises
    ------
    OutputError, ResourceError
        If the file cannot be written, or the disk has no room for it.
    """
    shape = (count, 2 * slices + 1, size, size)
    made_of = {"generator": generator_sha256(), "drawings": drawings, "seed": seed, "shape": list(shape)}
    return kept_drawings(path, made_of, lambda rng: training_slab(rng, size, slices, SETS[drawings]))


def kept_drawings(path: Path, made_of: dict, draw: Callable[[np.random.Generator], np.ndarray]) -> np.memmap:
    """Drawings from a file, which is drawn anew where it is not there or not of just these.

    Parameters
    ----------
    path : Path
        See `drawn_slices`.
    made_of : dict
        All that they depend on, as JSON, with "seed" and "shape", (count, *shape of one).
    draw : callable (rng)
        Draws one, n of them with a generator of (seed, n).

    Returns
    -------
    memmap of float16, read only

    Raises
    ------
    OutputError, ResourceError
        If the file cannot be written, or the disk has no room for it.
    """
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not lock.acquire():
            time.sleep(0.2)
        try:
            if not _is_intact(path, made_of):
                _draw(path, made_of, draw)
        finally:
            lock.release()
    except (OSError, OutputError) as error:
        why = error.what if isinstance(error, OutputError) else error
        raise OutputError(
            f"The computer-drawn images cannot be written to {path}: {why}", "Free some space, or change path.root."
        ) from error
    return np.memmap(path, PIXEL, "r", HEADER_BYTES, tuple(made_of["shape"]))


def generator_sha256() -> str:
    """What the drawings depend on beside seed and size: this program's text, and numpy's random numbers."""
    sources = "".join(file_sha256(module) for module in (__file__, anatomy.__file__, scanner.__file__))
    return hashlib.sha256(f"{sources} {np.__version__}".encode()).hexdigest()


def _draw(path: Path, made_of: dict, draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    check_disk(path.parent, HEADER_BYTES + prod(made_of["shape"]) * PIXEL.itemsize)
    digest = hashlib.sha256()
    # Written, not mapped: where a disk fills up, a write fails, but a process that maps the file is killed.
    with replacing(path) as scratch, scratch.open("wb") as file:
        file.write(bytes(HEADER_BYTES))
        for n in range(made_of["shape"][0]):
            drawing = draw(np.random.default_rng([made_of["seed"], n]))
            pixels = np.clip(drawing, -0.5, 2).astype(PIXEL).tobytes()
            digest.update(pixels)
            file.write(pixels)
        file.seek(0)
        file.write(json.dumps({**made_of, "sha256": digest.hexdigest()}).encode() + b"\n")


def _is_intact(path: Path, made_of: dict) -> bool:
    """Whether a file holds all that was drawn for just this request."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(HEADER_BYTES).rstrip(b"\0"))
            return header == {**made_of, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except (OSError, ValueError):
        return False
