"""Fine images that no training has seen, to measure models with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from CBCTSuperResLib.acquisition.phantom import FINE_BLUR, jaw_phantom
from CBCTSuperResLib.acquisition.scanner import ALL_AXES, block_mean, gaussian_blur
from CBCTSuperResLib.io.volume import Volume
from CBCTSuperResLib.train.data.public import public_scans

HELD_OUT = {"jaw phantom, 0.10 mm": (0.10, 901), "jaw phantom, 0.15 mm": (0.15, 902)}


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
        field = gaussian_blur(jaw_phantom(shape, spacing, seed), FINE_BLUR, ALL_AXES)
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


def held_out_cases(public_data: Path | None) -> Iterator[Case]:
    """Phantoms of seeds that are never drawn, the tooth, and the slices of trabecular bone that are not trained on."""
    yield from held_out_phantoms()
    if public_data is None:
        return
    scans = public_scans()
    yield Case(scans["tooth"].title, in_robust_window(scans["tooth"].read(public_data)))
    bone = scans["trabecular"]
    yield from held_out_bone(bone.read(public_data), bone.train_slices[1])
