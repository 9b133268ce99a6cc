"""Methods against cubic interpolation, on images whose truth is known and which no training has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..interpolate import enlarge_slice
from ..volume import Volume
from .metrics import gradient_correlation, gradient_energy, psnr, ssim
from .phantom import jaw_phantom
from .simulate import ALL_AXES, block_mean, degrade, gaussian_blur
from .trust import consistency, negative_control, spurious_bone

Enlarge = Callable[[np.ndarray], np.ndarray]
HELD_OUT = {"jaw phantom, 0.10 mm": (0.10, 901), "jaw phantom, 0.15 mm": (0.15, 902)}
CUBIC = "cubic"
NOISE, STRONG_NOISE = 0.02, 0.06


@dataclass(frozen=True)
class Case:
    """A fine image that no training has seen.

    Attributes
    ----------
    name : str
    truth : ndarray, shape (k, j, i)
        In [0, 1], even in j and i.
    spacing_mm : (i, j, k) or None
        None if unknown; structures are then not counted per volume.
    """

    name: str
    truth: np.ndarray
    spacing_mm: tuple[float, float, float] | None = None


def held_out_phantoms(shape: tuple[int, int, int] = (48, 256, 256)) -> Iterator[Case]:
    """Phantoms with seeds that training does not draw."""
    for name, (spacing, seed) in HELD_OUT.items():
        field = gaussian_blur(jaw_phantom(shape, spacing, seed), 0.45, ALL_AXES)
        yield Case(name, np.clip(field, 0, 1), (spacing,) * 3)


def held_out_bone(bone: Volume, first: int, averages: tuple[int, ...] = (1, 2, 4)) -> Iterator[Case]:
    """Slices k >= `first` of a micro-CT, in their own robust window, as they are and averaged to coarser voxels."""
    part = in_robust_window(bone, first)
    for factor in averages:
        spacing = tuple(round(step * factor, 4) for step in bone.grid.spacing)
        name = f"trabecular bone, {'native' if factor == 1 else 'averaged to'} {spacing[0]:g} mm"
        yield Case(name, _even(block_mean(part, ALL_AXES, factor) if factor > 1 else part), spacing)


def in_robust_window(volume: Volume, first: int = 0) -> np.ndarray:
    """Slices from `first` on, between their 0.5th and 99.5th percentile as [0, 1]; rows and columns cut to be even."""
    voxels = volume.voxels[first:]
    low, high = np.percentile(voxels, (0.5, 99.5))
    return _even(np.clip((voxels.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1))


def _even(voxels: np.ndarray) -> np.ndarray:
    rows, columns = (n - n % 2 for n in voxels.shape[1:])
    return voxels[:, :rows, :columns]


def in_plane_energy(image: np.ndarray) -> float:
    """Mean squared difference of neighbours within the slices."""
    return sum(gradient_energy(image)[1:])


def with_cubic(methods: Mapping[str, Enlarge]) -> dict[str, Enlarge]:
    """Methods with cubic interpolation (Keys, a = -0.75) before them; each enlarges slices (k, rows, columns)."""
    return {CUBIC: cubic_slices, **methods}


def cubic_slices(scan: np.ndarray) -> np.ndarray:
    """Slices (k, rows, columns) at twice the size, each by itself."""
    return np.stack([enlarge_slice(image, tuple(2 * n for n in image.shape)) for image in scan])


def compare(case: Case, methods: Mapping[str, Enlarge], noise: float = NOISE, seed: int = 1) -> list[dict]:
    """Degrade a case in-plane as the grading protocol P2 does, enlarge it with every method and cubic, and measure.

    Parameters
    ----------
    case : Case
    methods : mapping of str to callable
        By name; "model" is what a model card expects. Each turns coarse slices (k, rows, columns) in [0, 1] into
        their in-plane enlargement by two.
    noise : float
        Standard deviation, in units of the window.
    seed : int
        Of the noise.

    Returns
    -------
    list of dict
        "data", "metric" and a value for each method; all images are clipped to [0, 1] first. Energy is that of the
        gradients relative to the truth's, consistency as in `trust.consistency`.
    """
    coarse, truth = degrade(case.truth, noise=noise, seed=seed), case.truth
    measures = {
        "PSNR (dB)": (2, psnr),
        "SSIM": (4, ssim),
        "gradient correlation": (4, gradient_correlation),
        "gradient energy": (3, lambda image, truth: in_plane_energy(image) / in_plane_energy(truth)),
    }
    if noise > 0:
        measures["consistency"] = (3, lambda image, truth: consistency(image, truth, coarse, noise))
    if case.spacing_mm:
        measures["spurious bone per cm3"] = (1, lambda image, truth: spurious_bone(image, truth, case.spacing_mm))
    results = {name: np.clip(enlarge(coarse), 0, 1) for name, enlarge in with_cubic(methods).items()}
    data = f"{case.name}, blur 0.85 pixels, noise {100 * noise:g} %"
    return [
        {"data": data, "metric": metric, **{name: round(measure(i, truth), digits) for name, i in results.items()}}
        for metric, (digits, measure) in measures.items()
    ]


def compare_on_noise(methods: Mapping[str, Enlarge], noise: float) -> list[dict]:
    """Rows of the negative control: flat tissues with noise, where every structure is an invention."""
    found = {name: negative_control(enlarge, noise) for name, enlarge in with_cubic(methods).items()}
    data = f"flat tissue, noise {100 * noise:g} %"
    return [
        {"data": data, "metric": "noise left (%)", **{name: round(100 * f.noise, 2) for name, f in found.items()}},
        {"data": data, "metric": "voxels beyond a midpoint", **{name: f.crossed for name, f in found.items()}},
    ]
