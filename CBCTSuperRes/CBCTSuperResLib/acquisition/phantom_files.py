"""Scans with known truth, as files: what `cbct-superres phantom` makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core.atomic import replacing
from ..core.errors import OptionError, OutputError
from ..core.volume import Grid
from ..io.volume import Volume
from ..measure.pictures import comparison, enlarge_nearest, write_png
from .anatomy import STANDARD_LEVELS
from .label_map import phantom_of_labels, read_label_map
from .phantom import (
    WINDOW,
    cylinder,
    jaw_phantom,
    oblique_grid,
    to_grey,
)
from .scanner import Scanner, scan

PHYSICS = ("image", "fdk")
METAL = 1.5  # level above which there is metal
LARGEST_FDK = 1.2e7  # voxels, which take about half an hour on two cores
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class PhantomRequest:
    """What is asked of a phantom.

    Attributes
    ----------
    shape : (k, j, i)
        Voxels of the fine scan; even.
    spacing_mm : float
        Of the fine scan.
    seed : int
        Of anatomy and noise.
    planes : "axial" or "isotropic"
        Whether the coarse scan has half the samples within the slices or along all axes.
    metal : bool
        Put a metal crown onto one tooth.
    noise : float
        Of the coarse scan, as a share of the window.
    artefacts : bool
        Cupping, rings and metal streaks.
    blank : float or None
        Grey value outside the cylindrical field of view; None for none.
    labels : path or None
        Label map to draw tissues into; None draws a jaw section.
    physics : "image" or "fdk"
        Whether the scanner's effects are added to the image, or the object is projected and reconstructed.
    projections : int
        For "fdk".
    """

    shape: tuple[int, int, int] = (64, 256, 256)
    spacing_mm: float = 0.125
    seed: int = 0
    planes: str = "axial"
    metal: bool = False
    noise: float = 0.02
    artefacts: bool = True
    blank: float | None = 0.0
    labels: str | None = None
    physics: str = "image"
    projections: int = 360

    def __post_init__(self) -> None:
        if any(n < 16 or n % 2 for n in self.shape):
            raise OptionError(f"The shape {self.shape} does not do.", "Give three even numbers from 16 on.")
        if not 0.01 <= self.spacing_mm <= 2:
            raise OptionError(f"The spacing {self.spacing_mm} mm does not do.", "Give 0.01 to 2 mm.")
        if not 0 <= self.noise <= 0.5:
            raise OptionError(f"The noise {self.noise} does not do.", "Give a share of the window, 0 to 0.5.")
        if self.planes not in ("axial", "isotropic") or self.physics not in PHYSICS:
            raise OptionError("Planes are axial or isotropic, physics is image or fdk.")
        if self.physics == "fdk" and self.planes == "axial":
            raise OptionError("A reconstruction has cubic voxels.", "Choose planes isotropic with physics fdk.")
        if self.physics == "fdk" and np.prod(self.shape) > LARGEST_FDK:
            raise OptionError(
                "To project so many voxels would take hours.", "Choose a smaller shape, or physics image."
            )


@dataclass(frozen=True)
class PhantomScans:
    """Two scans of one object, and the object.

    Attributes
    ----------
    truth : Volume
        float32, in units of the window: exact but for the voxels' size.
    fine, coarse : Volume
        uint16 grey values.
    """

    truth: Volume
    fine: Volume
    coarse: Volume


def make_phantom(
    request: PhantomRequest, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
) -> PhantomScans:
    """Draw the object and scan it twice, finely and coarsely; the same request gives the same scans."""
    progress = progress or (lambda fraction, message: None)
    progress(0.0, "Drawing the object")
    field, grid = _object(request)
    progress(0.3, "Scanning")
    coarse_scanner = _scanner(request)
    metal = METAL if request.metal else None
    fine = scan(field, coarse_scanner.sharpest, request.seed, planes=request.planes, metal=metal)
    if request.physics == "fdk":
        coarse = _projected(field, request, lambda f, m: progress(0.3 + 0.7 * f, m), cancelled)
    else:
        coarse = scan(field, coarse_scanner, request.seed + 1, planes=request.planes, metal=metal)
    halved = grid.resampled(coarse.shape[::-1])
    progress(1.0, "Done")
    return PhantomScans(Volume(field, grid), _grey(fine, grid, request), _grey(coarse, halved, request))


def write_phantom(
    request: PhantomRequest,
    folder: str | Path,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Make a phantom and write fine.nrrd, coarse.nrrd, truth.nrrd, phantom.json and picture.png into a folder."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error}.", "Choose another one.") from error
    scans = make_phantom(request, progress, cancelled)
    for name in ("truth", "fine", "coarse"):
        getattr(scans, name).write(folder / f"{name}.nrrd")
    with replacing(folder / "phantom.json") as scratch:
        facts = {**asdict(request), "window": list(WINDOW), "levels": asdict(STANDARD_LEVELS)}
        scratch.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    write_png(_picture(scans), folder / "picture.png")
    return folder


def _object(request: PhantomRequest) -> tuple[np.ndarray, Grid]:
    if request.labels:
        labels = read_label_map(request.labels)
        return phantom_of_labels(labels, request.spacing_mm, shape=request.shape, seed=request.seed)
    field = jaw_phantom(request.shape, request.spacing_mm, request.seed, metal=request.metal)
    return field, oblique_grid(request.shape, request.spacing_mm, request.seed)


def _scanner(request: PhantomRequest) -> Scanner:
    if request.artefacts:
        return Scanner(noise=request.noise)
    return Scanner(noise=request.noise, cupping=0.0, rings=0.0, streaks=0.0)


def _projected(
    field: np.ndarray, request: PhantomRequest, progress: Progress, cancelled: Callable[[], bool] | None
) -> np.ndarray:
    from .cone_beam import ConeBeam, cone_beam_scan  # torch is needed for this only

    photons = None if request.noise == 0 else 2e5 * (0.02 / request.noise) ** 2
    beam = ConeBeam(projections=request.projections, photons=photons, focal_spot_mm=0.75 * request.spacing_mm)
    return cone_beam_scan(
        field, request.spacing_mm, 2 * request.spacing_mm, beam, request.seed, progress=progress, cancelled=cancelled
    )


def _grey(image: np.ndarray, grid: Grid, request: PhantomRequest) -> Volume:
    voxels = to_grey(image)
    if request.blank is not None:
        voxels[:, ~cylinder(voxels.shape)] = request.blank
    return Volume(voxels, grid)


def _picture(scans: PhantomScans) -> np.ndarray:
    low, high = WINDOW
    middle = len(scans.truth.voxels) // 2
    fine = (scans.fine.voxels[middle].astype(np.float32) - low) / (high - low)
    coarse = (scans.coarse.voxels[len(scans.coarse.voxels) // 2].astype(np.float32) - low) / (high - low)
    truth = scans.truth.voxels[middle]
    return comparison({"coarse scan": enlarge_nearest(coarse, 2), "fine scan": fine, "truth": truth})
