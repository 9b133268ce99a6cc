"""Measuring how far a trained network looks, so that its tiles join without seams.

The theoretical context of a deep residual network is hundreds of pixels; what reaches that far is far below rounding.
It is measured: the smallest context with which a tile, cut from the middle of an image, equals the same part of
the untiled result, over slices of three kinds, and then doubled, but never beyond a bound that the network knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..models.model import Model
from .engine import Engine
from .tiles import Axis, Tile

TOLERANCE = 2e-6
CORE = 24
HALOS = (2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64)


def calibrate(
    model: Model, slices: int = 9, device: str = "auto", progress: Callable[[float, str], None] | None = None
) -> Model:
    """The same model with its context measured and written into its spec.

    Parameters
    ----------
    model : Model
    slices : int
        Number of slices, at least 8; their kinds take turns.
    device : str
    progress : callable (fraction, message), optional

    Returns
    -------
    Model
        With `spec.context` set; unknown if even the largest left a seam, so that it keeps running on whole slices. The
        same model if its network looks at the whole image by construction.
    """
    progress = progress or (lambda fraction, message: None)
    network_context = model.network.describe().context
    if network_context == "global":
        return model
    open_spec = replace(model.card.spec, context="unknown")
    engine = Engine(model.network, open_spec, device=device, precision="fp32")
    count = max(8, slices)
    bound = None if network_context == "unknown" else network_context
    needed = 0
    for number in range(count):
        picture = calibration_picture(number, open_spec.dimensions, open_spec.slices)
        halo = smallest_halo(engine, picture, needed, bound)
        if halo is None:
            return Model(model.network, replace(model.card, spec=open_spec))
        needed = max(needed, halo)
        is_all = bound is not None and 2 * needed >= bound  # further pictures would change nothing
        progress(1.0 if is_all else (number + 1) / count, f"Halo so far: {needed} pixels")
        if is_all:
            break
    context = 2 * needed if bound is None else min(2 * needed, bound)
    return Model(model.network, replace(model.card, spec=replace(open_spec, context=context)))


def smallest_halo(engine: Engine, picture: np.ndarray, least: int = 0, bound: int | None = None) -> int | None:
    """The least context of `HALOS` whose seam stays below `TOLERANCE` of the window, in the image and, where there is
    one, in the log-variance; None if none does.

    Contexts below `least` are not tried: another picture needs that much. What lies beyond `bound`, where the network
    cannot look, is not computed.
    """
    spec = engine.spec
    shape = picture.shape[-spec.dimensions :]
    factors = spec.scale or [min(max(2.0, lo), hi) for lo, hi in spec.scale_range]
    axes = [Axis(n, 0, n, round(n * factor)) for n, factor in zip(shape, factors, strict=True)]
    names = [name for name, role in spec.outputs.items() if role in ("image", "log_variance")]
    core = tuple(slice(n // 2 - CORE // 2, n // 2 + CORE // 2) for n in shape)
    write = tuple(axis.write(part) for axis, part in zip(axes, core, strict=True))

    def values(halo: int) -> list[np.ndarray]:
        read = tuple(slice(max(0, p.start - halo), min(n, p.stop + halo)) for p, n in zip(core, shape, strict=True))
        return engine.run_outputs(picture, axes, Tile(core, read, write), names)

    expected = values(max(shape) if bound is None else -(-bound // spec.multiple) * spec.multiple)
    limits = [max(1.0, float(np.abs(part).max())) * TOLERANCE for part in expected]
    for halo in HALOS:
        if halo >= max(least, spec.decode_context):
            pairs = zip(values(halo), expected, limits, strict=True)
            if all(float(np.abs(part - whole).max()) <= limit for part, whole, limit in pairs):
                return halo
    return None


def calibration_picture(number: int, dimensions: int, slices: int = 0) -> np.ndarray:
    """A slice (or block) of one of three kinds, in turns: bodies with sharp edges, bone-like texture, noise; float32 in
    [0, 1].

    Slices may have `slices` neighbours on either side.
    """
    shape = (2 * max(HALOS) + CORE,) * 2 if dimensions == 2 else (2 * 24 + CORE,) * 3
    shape = (2 * slices + 1, *shape) if slices else shape
    kind = (_bodies, _texture, _noise)[number % 3]
    return kind(np.random.default_rng(number), shape).astype(np.float32)


def _bodies(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Overlapping ellipsoids of constant grey values."""
    picture = np.full(shape, random.random())
    places = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    for _ in range(40):
        terms = [((p - random.uniform(-1, 1)) / random.uniform(0.03, 0.4)) ** 2 for p in places]
        picture[sum(terms) < 1] = random.random()
    return picture


def _texture(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Thresholded band-limited noise, like trabecular bone."""
    spectrum = np.fft.fftn(random.standard_normal(shape))
    frequency = np.sqrt(sum(f**2 for f in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
    field = np.fft.ifftn(spectrum * np.exp(-(((frequency - 0.12) / 0.05) ** 2))).real
    return np.clip(0.4 + 2 * field / field.std() * 0.4, 0, 1)


def _noise(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """White noise around the middle of the window."""
    return np.clip(random.normal(0.5, 0.25, shape), 0, 1)
