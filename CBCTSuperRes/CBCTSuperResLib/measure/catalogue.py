"""All that is measured of an image whose truth is known, with names and explanations for people.

>>> view = View(image, Truth(truth, spacing=(0.1, 0.1, 0.1)), coarse=coarse)
>>> {measure.name: measure.of(view) for measure in MEASURES}

What cannot be measured, for instance thickness where the voxels' size is not known, is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..acquisition.scanner import P2, Acquisition
from .bone import (
    COMPACT_MM,
    bone_threshold,
    bone_volume_fraction,
    dice,
    surface_distance,
    thickness_between,
    thickness_map,
)
from .fidelity import (
    gradient_correlation,
    gradient_energy,
    psnr,
    ssim,
)
from .resolution import fourier_shell_correlation
from .trust import consistency, spurious_bone

THICK_VOXELS = 2  # structures thinner than this on the fine grid do not count
REGION = (32, 160, 160)  # voxels, around the middle of the bone, in which thickness is measured: balls take their time


class Truth:
    """A fine image, and what is known of it once for all that are compared with it.

    Parameters
    ----------
    image : ndarray, shape (k, j, i)
        In units of the window, within [0, 1].
    spacing : (k, j, i) in mm, optional
        What needs millimetres is measured only with it.
    """

    def __init__(self, image: np.ndarray, spacing: Sequence[float] | None = None) -> None:
        self.image = image
        self.spacing = None if spacing is None else tuple(map(float, spacing))

    @cached_property
    def threshold(self) -> float:
        """Of bone (Otsu's), the same for every method."""
        return bone_threshold(self.image)

    @cached_property
    def bone(self) -> np.ndarray:
        return self.image > self.threshold

    @cached_property
    def has_bone(self) -> bool:
        return bool(self.bone.any() and not self.bone.all())

    @cached_property
    def region(self) -> tuple[slice, ...]:
        """Where thickness is measured."""
        middles = (int(np.mean(places)) for places in np.nonzero(self.bone))
        starts = (
            max(0, min(middle - size // 2, length - size))
            for middle, size, length in zip(middles, REGION, self.image.shape, strict=True)
        )
        return tuple(slice(start, start + size) for start, size in zip(starts, REGION, strict=True))

    @cached_property
    def discs(self) -> np.ndarray:
        """Thickness of the bone within the slices of the region, in mm."""
        return thickness_map(self.image[self.region], self.threshold, self.spacing, planes=True)

    @cached_property
    def balls(self) -> np.ndarray:
        """Thickness of the bone in the region, in mm."""
        return thickness_map(self.image[self.region], self.threshold, self.spacing)


class View:
    """An image beside its truth.

    Parameters
    ----------
    image : ndarray, shape (k, j, i)
        Clipped to [0, 1] here.
    truth : Truth
    coarse : ndarray, optional
        The scan that the image was made of; without it there is no consistency.
    acquisition : Acquisition
        How `coarse` was made of the truth.
    """

    def __init__(
        self, image: np.ndarray, truth: Truth, coarse: np.ndarray | None = None, acquisition: Acquisition = P2
    ) -> None:
        self.image, self.truth = np.clip(image, 0, 1), truth
        self.coarse, self.acquisition = coarse, acquisition

    @cached_property
    def bone(self) -> np.ndarray:
        return self.image > self.truth.threshold

    @cached_property
    def distance(self):
        """Between the surfaces of bone, in mm."""
        return surface_distance(self.bone, self.truth.bone, self.truth.spacing)

    @cached_property
    def discs(self) -> np.ndarray:
        return thickness_map(self.image[self.truth.region], self.truth.threshold, self.truth.spacing, planes=True)

    @cached_property
    def balls(self) -> np.ndarray:
        return thickness_map(self.image[self.truth.region], self.truth.threshold, self.truth.spacing)


@dataclass(frozen=True)
class Measure:
    """One figure.

    Attributes
    ----------
    name : str
        Key in files.
    label, hint : str
        For people: what it is called, and what it says.
    unit : str
    digits : int
        After the point.
    best : float
        The value of an image that equals the truth; infinite for "the more, the better".
    of : callable (View) -> float
    needs_spacing, needs_bone, needs_coarse : bool
        Without them it is NaN.
    """

    name: str
    label: str
    hint: str
    unit: str
    digits: int
    best: float
    compute: Callable[[View], float]
    needs_spacing: bool = False
    needs_bone: bool = False
    needs_coarse: bool = False

    def of(self, view: View) -> float:
        """The figure of an image, NaN where it cannot be had."""
        missing = (
            (self.needs_spacing and view.truth.spacing is None)
            or (self.needs_bone and not view.truth.has_bone)
            or (self.needs_coarse and (view.coarse is None or view.acquisition.noise <= 0))
        )
        return float("nan") if missing else float(self.compute(view))


def _thickness(kind: str, smallest: float = 0.0, largest: float = np.inf) -> Callable[[View], float]:
    """Relative error in percent, of bone at least `THICK_VOXELS` thick."""

    def error(view: View) -> float:
        spacing = view.truth.spacing[1:] if kind == "discs" else view.truth.spacing
        least = max(THICK_VOXELS * max(spacing), smallest)
        return 100 * thickness_between(getattr(view, kind), getattr(view.truth, kind), least, largest).error

    return error


INF = float("inf")
MEASURES = (
    Measure("psnr", "PSNR", "Agreement with the truth, voxel by voxel.", "dB", 2, INF,
            lambda v: psnr(v.image, v.truth.image)),
    Measure("mae", "Mean error", "Mean absolute difference from the truth, of the window.", "%", 2, 0,
            lambda v: 100 * np.abs(v.image - v.truth.image).mean(dtype=np.float64)),
    Measure("ssim", "SSIM, slices", "Similarity of structure in slices; 1 is the same.", "", 3, 1,
            lambda v: ssim(v.image, v.truth.image)),
    Measure("ssim_3d", "SSIM, 3D", "Similarity of structure in space; 1 is the same.", "", 3, 1,
            lambda v: ssim(v.image, v.truth.image, axes=(-3, -2, -1)) if len(v.image) > 10 else float("nan")),
    Measure("gradient_correlation", "Edges: correlation", "Whether edges are where they should be.", "", 3, 1,
            lambda v: gradient_correlation(v.image, v.truth.image)),
    Measure("gradient_energy", "Edges: energy", "1 is as sharp as the truth; less is blurred, more is noisy or "
            "over-sharpened.", "", 2, 1,
            lambda v: sum(gradient_energy(v.image)[1:]) / (sum(gradient_energy(v.truth.image)[1:]) or float("nan"))),
    Measure("fsc", "Resolution (FSC 0.5)", "Up to which part of the highest frequency detail agrees with the truth.",
            "", 2, 1, lambda v: fourier_shell_correlation(v.image, v.truth.image, v.truth.spacing).crossing(0.5)),
    Measure("consistency", "Agreement with the scan", "The result, scanned again, against the scan, in units of its "
            "noise: 1 for the truth, less if noise is copied, more if the scan is contradicted.", "", 2, 1,
            lambda v: consistency(v.image, v.truth.image, v.coarse, v.acquisition), needs_coarse=True),
    Measure("bone_volume", "Bone volume error", "More bone or less than there is.", "%", 1, 0,
            lambda v: 100 * (bone_volume_fraction(v.bone) / bone_volume_fraction(v.truth.bone) - 1), needs_bone=True),
    Measure("thickness", "Bone thickness error", "Bone at least two voxels thick, largest balls that fit in.", "%", 1,
            0, _thickness("balls"), needs_spacing=True, needs_bone=True),
    Measure("thickness_trabecular", "Trabecular thickness error", f"Bone up to {COMPACT_MM} mm thick.", "%", 1, 0,
            _thickness("balls", largest=COMPACT_MM), needs_spacing=True, needs_bone=True),
    Measure("thickness_cortical", "Cortical thickness error", f"Bone from {COMPACT_MM} mm on.", "%", 1, 0,
            _thickness("balls", smallest=COMPACT_MM), needs_spacing=True, needs_bone=True),
    Measure("thickness_slices", "Bone thickness error, slices", "The same with discs, slice by slice.", "%", 1, 0,
            _thickness("discs"), needs_spacing=True, needs_bone=True),
    Measure("dice", "Bone overlap (Dice)", "1 if bone is exactly where it is; hardly moves with thin bone.", "", 3, 1,
            lambda v: dice(v.bone, v.truth.bone), needs_bone=True),
    Measure("surface_mean", "Surface distance", "Mean distance of bone's surfaces.", "mm", 3, 0,
            lambda v: v.distance.mean, needs_spacing=True, needs_bone=True),
    Measure("surface_95", "Surface distance, 95 %", "95 of 100 points of the surfaces are closer.", "mm", 3, 0,
            lambda v: v.distance.percentile95, needs_spacing=True, needs_bone=True),
    Measure("spurious", "Bone that is not there", "Pieces of four voxels or more, over 0.3 mm from bone.", "/cm3", 1, 0,
            lambda v: spurious_bone(v.image, v.truth.image, v.truth.spacing[::-1]), needs_spacing=True,
            needs_bone=True),
)  # fmt: skip
